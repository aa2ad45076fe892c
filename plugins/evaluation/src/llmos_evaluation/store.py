"""Where results are kept: a file of JSON for each, and while a run is not whole, lines that another one can go on from.

Results are ``<home>/evaluations/*.json``; the README says what is in them.  A run that is not whole is a file of the
same folder that ends in ``.part``, called by a digest of what is asked of which model.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import attrs

from llmos_evaluation.items import Item
from llmos_evaluation.metrics import Figure
from llmos_kernel.errors import InvalidArgument, NotFound
from llmos_kernel.loader import nearest

FORMAT = 1
"""The version of the form of files; it rises with a change that readers must know of."""
FOLDER = "evaluations"


@attrs.frozen(kw_only=True)
class Result:
    """What is known of a model on a suite."""

    format: int = FORMAT
    id: str = ""
    """What its file is called."""
    model: str
    suite: str
    digest: str
    """SHA-256 of the suite's records: results with the same can be compared."""
    task: Mapping[str, Any]
    """Type, prompt and parameters."""
    metrics: Mapping[str, Figure]
    groups: Mapping[str, Mapping[str, Figure]] = attrs.field(factory=dict)
    """The metrics of the records of each group, where there are groups."""
    records: int
    failed: int
    """How many of them have no answer, or no likelihood where that was asked for."""
    seconds: float
    """How long the answers took together."""
    at_once: int
    """How many were under way at once."""
    started: str
    finished: str
    """Date and time, ISO 8601, UTC."""
    details: Mapping[str, Any] = attrs.field(factory=dict)
    """What the model's executor says of itself."""
    machine: Mapping[str, Any] = attrs.field(factory=dict)
    """Processor, system, load, and the versions of what takes part."""
    items: tuple[Item, ...] = ()
    """The records, in order; a summary has none."""

    def to_plain(self) -> dict[str, Any]:
        """Return the same as JSON has it."""
        return attrs.asdict(self)

    def summary(self) -> Result:
        """Return the same without the records."""
        return attrs.evolve(self, items=())


def write_result(home: Path, result: Result) -> Result:
    """Keep *result* below *home* and return it with its id.  The file appears when it is whole."""
    folder = home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    stamp = re.sub(r"\D", "", result.finished)[:14]
    slug = re.sub(r"[^\w.-]+", "-", f"{stamp[:8]}-{stamp[8:]}-{result.model}-{result.suite}").strip("-.")
    for name in _free(slug):
        target = folder / f"{name}.json"
        temporary = folder / f".{name}.{os.getpid()}"
        kept = attrs.evolve(result, id=name)
        temporary.write_text(json.dumps(kept.to_plain(), ensure_ascii=True, indent=1) + "\n", "utf-8")
        try:
            os.link(temporary, target)
        except FileExistsError:
            continue
        finally:
            temporary.unlink()
        return kept
    raise NotFound(f"no name is left for {slug}", field="id", value=slug, nearest=None)


def _free(slug: str) -> Iterator[str]:
    yield slug
    yield from (f"{slug}-{number}" for number in range(2, 10_000))


def read_result(path: Path) -> Result:
    """Return the result in the file at *path*.  Raises `InvalidArgument` for a file that is none; `OSError`."""
    try:
        plain = json.loads(path.read_bytes())
        if plain["format"] != FORMAT:
            raise ValueError(f"its form is {plain['format']!r}, and {FORMAT} is known")
        return _result(plain)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        message = f"{path} is no result of an evaluation: {error}"
        raise InvalidArgument(message, field="result", value=str(path), expected="a file that `eval` wrote") from error


def _result(plain: Mapping[str, Any]) -> Result:
    figures = {name: Figure(**one) for name, one in plain["metrics"].items()}
    groups = {group: {name: Figure(**one) for name, one in found.items()} for group, found in plain["groups"].items()}
    return Result(**{**plain, "metrics": figures, "groups": groups, "items": tuple(map(item_of, plain["items"]))})


def item_of(plain: Mapping[str, Any]) -> Item:
    """Return the record that *plain* is, as JSON has it."""
    likelihood = plain.get("likelihood")
    return Item(
        **{
            **plain,
            "expected": tuple(plain.get("expected", ())),
            "likelihood": None if likelihood is None else (float(likelihood[0]), int(likelihood[1])),
        }
    )


def results(home: Path) -> Iterator[tuple[Path, Result | InvalidArgument]]:
    """Yield the files of results below *home*, the newest first, each with its result, or why it is none."""
    for path in _files(home):
        try:
            yield path, read_result(path)
        except InvalidArgument as error:
            yield path, error


def _files(home: Path) -> list[Path]:
    """Return the files of results, the newest first: they are called by the second, and never change."""
    return sorted((home / FOLDER).glob("*.json"), key=lambda path: (path.name[:15], path.stat().st_mtime_ns))[::-1]


def find_result(home: Path, name: str) -> Result:
    """Return the result whose id is *name* or begins so and no other does, or that is in the file *name*.

    A small number is that result's place among all, 1 being the newest.  Raises `NotFound` where there is none,
    `InvalidArgument` where several are meant.
    """
    if name.endswith(".json") and Path(name).is_file():
        return read_result(Path(name))
    files = _files(home)
    if name.isascii() and name.isdigit() and 0 < int(name) <= len(files):
        return read_result(files[int(name) - 1])
    known = {path.stem: path for path in files}
    meant = [name] if name in known else sorted(one for one in known if one.startswith(name))
    if len(meant) > 1:
        raise InvalidArgument.of("result", name, f"one of {', '.join(meant)}")
    if not meant:
        message = f"there is no result {name!r}{nearest(name, known)}; `llmos eval list` lists them"
        raise NotFound(message, field="result", value=name, nearest=None)
    return read_result(known[meant[0]])


class Part:
    """What is kept of a run until it is whole: a line of JSON for each thing that is known of a record."""

    def __init__(self, home: Path, model: str, work: str, *, resume: bool) -> None:
        """Begin a run of *work* (`Suite.work`), or, to *resume*, go on with the one that there is.

        Raises `InvalidArgument` where another process is at it.
        """
        key = hashlib.sha256(f"{model}\0{work}".encode()).hexdigest()[:16]
        self.path = home / FOLDER / f"{key}.part"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.known: dict[int, dict[str, Any]] = {}
        """What is known of each record, by its number."""
        self.seconds = 0.0
        """How long the answers took until now."""
        self._file = self.path.open("a+b")
        if not _locked(self._file):
            self._file.close()
            message = f"another process runs this suite on {model}; {self.path} is what it knows"
            raise InvalidArgument(message, field="resume", value=str(self.path), expected="one process at a time")
        self._file.truncate(self._read() if resume else 0)

    def _read(self) -> int:
        """Take the whole lines of the file, and return where the last of them ends."""
        end = 0
        self._file.seek(0)
        for raw in self._file:
            try:
                line = json.loads(raw)
            except ValueError:
                break
            if not raw.endswith(b"\n"):
                break
            self._take(line)
            end += len(raw)
        return end

    def _take(self, line: dict[str, Any]) -> None:
        self.seconds += line.pop("elapsed", 0.0)
        self.known.setdefault(line["number"], {}).update(line)

    def add(self, number: int, elapsed: float = 0.0, **facts: Any) -> None:  # noqa: ANN401 - fields of an `Item`
        """Note *facts* of the record *number*, for which *elapsed* seconds more have gone by."""
        line = {"number": number, "elapsed": elapsed, **facts}
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        self._take(json.loads(json.dumps(line)))

    def close(self) -> None:
        """Close the file; what is in it stays."""
        self._file.close()

    def remove(self) -> None:
        """Take the file away and close it: the run is whole."""
        if os.name != "nt":  # while it is locked; Windows takes no open file away
            self.path.unlink(missing_ok=True)
        self.close()
        self.path.unlink(missing_ok=True)


def _locked(file: IO[bytes]) -> bool:
    """Return whether *file* is this process's alone until it is closed; where nobody can tell, it is."""
    try:
        import fcntl  # noqa: PLC0415 - there is none on Windows
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
