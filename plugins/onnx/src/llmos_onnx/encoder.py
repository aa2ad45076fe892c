"""The layout ``encoder``: one graph from ids to vectors or scores, no cache, many texts per run.

A task takes part in one run.  What the scheduler plans of a prompt in pieces is computed with the last of them.  A step
sorts its texts by length and runs those of about equal length together, right-padded: padding costs as much as text.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from llmos_kernel.contracts import Admitted, Footprint, Limits, NotNow, Plan, Prepared, Result, StepExecutor
from llmos_kernel.errors import InvalidArgument, KernelBug, ModelUnavailable
from llmos_onnx.counts import Counts
from llmos_onnx.fields import refusal
from llmos_onnx.imported import EncoderFacts, ImportedManifest
from llmos_onnx.imported_check import FLOAT, INTEGERS, UINT8, Port
from llmos_onnx.imported_folder import Contract, open_imported, open_session, read_imported, runtime_flags
from llmos_onnx.manifest import GRAPH
from llmos_onnx.pooling import pool, probabilities
from llmos_onnx.profile import cores
from llmos_onnx.providers import run_options, runs_on, runtime
from llmos_onnx.sampling import check_tokens
from llmos_onnx.text import Codec

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnxruntime

    from llmos_kernel.api import Task
    from llmos_onnx.backend import Options

_ROWS: Final = 64
_STEP_TOKENS: Final = 2048
# Texts are padded to the longest of their run by at most this share of it; below so many positions nobody minds.
_MOST_PADDING: Final = 1 / 8
_CHEAP: Final = 128
_ZERO_POINT: Final = 128
_FLOAT_BYTES: Final = 4


def contract(facts: EncoderFacts) -> Contract:
    """Return the inputs and outputs of an encoder's graph."""
    names = (("attention_mask", False), ("token_type_ids", True), ("position_ids", True))
    inputs = [
        Port("input_ids", INTEGERS, (None, None)),
        *(Port(name, INTEGERS, (None, None), optional) for name, optional in names),
        Port("zp_rows", UINT8, (None,), optional=True),
    ]
    if facts.labels:
        return inputs, [Port("logits", FLOAT, (None, facts.width))]
    pooler = Port("pooler_output", FLOAT, (None, facts.width), optional=True)
    return inputs, [Port("last_hidden_state", FLOAT, (None, None, facts.width)), pooler]


class EncoderLayout:
    """Loads folders of the layout ``encoder``."""

    def measure(self, path: Path, options: Options, *, model: str) -> Footprint:
        """Return the bytes of weights and of a step's widest tensors; reads only the manifest."""
        manifest = read_imported(path)
        weights = sum(entry.size for entry in manifest.files.values())
        width = max(_facts(manifest).width, 1024)
        return Footprint("cpu", weights + 4 * width * _FLOAT_BYTES * (options.step_tokens or _STEP_TOKENS))

    def load(self, path: Path, options: Options, *, model: str) -> EncoderExecutor:
        """Read, verify and load the folder at *path*."""
        how = runtime_flags(options, model=model)
        manifest = read_imported(path)
        if options.context > manifest.context:
            raise refusal(model, "options: context", options.context, f"at most the model's, {manifest.context}")
        folder = open_imported(path, {GRAPH: contract(_facts(manifest))})
        manifest, ort, counts = folder.manifest, runtime(model), Counts()
        context = options.context or manifest.context
        threads = options.threads or cores()
        session = open_session(ort, folder, GRAPH, threads, model=model, **how)
        executor = EncoderExecutor(
            manifest=manifest,
            codec=Codec(folder.tokenizer, model=model, vocab=manifest.vocab, plain_unknown=True),
            runner=EncoderRunner(ort, session, folder.inputs[GRAPH], manifest, counts),
            context=context,
            rows=options.slots or _ROWS,
            step_tokens=max(options.step_tokens or _STEP_TOKENS, context),
            facts={
                "model": manifest.name,
                "layout": manifest.layout,
                "architecture": manifest.architecture,
                "weights": manifest.weights,
                "exporter": manifest.exporter,
                "provider": runs_on(session),
                "runtime": ort.__version__,
                "threads": threads,
                **how,
            },
        )
        executor.try_it()
        return executor


def _facts(manifest: ImportedManifest) -> EncoderFacts:
    if manifest.encoder is None:
        raise KernelBug("the manifest of an encoder says nothing of its output", model=manifest.name)
    return manifest.encoder


@attrs.define
class _Text:
    """One task."""

    id: int
    ids: list[int]
    types: list[int]
    planned: int = 0
    """Tokens that steps were asked for; the text is computed when it is all of them."""


class EncoderRunner:
    """One session of an encoder's graph."""

    def __init__(
        self,
        ort: ModuleType,
        session: onnxruntime.InferenceSession,
        inputs: frozenset[str],
        manifest: ImportedManifest,
        counts: Counts,
    ) -> None:
        self._session = session
        self._inputs = inputs
        self._options = run_options(ort)
        self._manifest = manifest
        self._facts = _facts(manifest)
        self._output = "logits" if self._facts.labels else "last_hidden_state"
        self.counts = counts

    def run(self, texts: list[tuple[list[int], list[int]]]) -> npt.NDArray[np.float32] | None:
        """Return a vector or probabilities per text ``(ids, types)``: ``[texts, width]``; None if it was cut short.

        Raises `ModelUnavailable` where the graph's output is not of the shape that the folder says.
        """
        if not texts or not all(ids for ids, _ in texts):
            raise KernelBug("an encoder was given nothing to run", texts=len(texts))
        lengths = np.array([len(ids) for ids, _ in texts], np.int64)
        feeds = self._feeds(texts, lengths)
        begun = time.perf_counter()
        try:
            output = self._session.run([self._output], feeds, self._options)[0]
        except Exception as error:  # the runtime's own exception classes have no public base
            if self._options.terminate:
                return None
            name = self._manifest.name
            expected = "a graph that runs with ids of its vocabulary, within the memory that imported graphs may have"
            message = f"the graph of {name!r} failed, expected {expected}: {error}"
            raise ModelUnavailable(message, model=name, field=GRAPH, value="failed", expected=expected) from error
        finally:
            self.counts.runs += 1
            self.counts.run_seconds += time.perf_counter() - begun
        rows, width = feeds["input_ids"].shape
        wanted = (rows, self._facts.width) if self._facts.labels else (rows, width, self._facts.width)
        if output.shape != wanted or output.dtype != np.float32:
            raise refusal(self._manifest.name, f"{GRAPH}: {self._output}", list(output.shape), f"{list(wanted)}")
        if self._facts.labels:
            return probabilities(output, self._facts.scores)
        return pool(output, lengths, self._facts.pooling, normalize=self._facts.normalize)

    def _feeds(
        self, texts: list[tuple[list[int], list[int]]], lengths: npt.NDArray[np.int64]
    ) -> dict[str, npt.NDArray[Any]]:
        rows, width = len(texts), int(lengths.max())
        ids = np.full((rows, width), self._manifest.tokens.pad or 0, np.int64)
        types = np.zeros((rows, width), np.int64)
        for row, (row_ids, row_types) in enumerate(texts):
            ids[row, : len(row_ids)], types[row, : len(row_ids)] = row_ids, row_types
        positions = np.broadcast_to(np.arange(width), (rows, width))
        values: dict[str, npt.NDArray[Any]] = {
            "input_ids": ids,
            "attention_mask": (positions < lengths[:, None]).astype(np.int64),
            "token_type_ids": types,
            "position_ids": np.ascontiguousarray(positions, np.int64),
            "zp_rows": np.full(rows * width, _ZERO_POINT, np.uint8),
        }
        return {name: value for name, value in values.items() if name in self._inputs}

    def terminate(self) -> None:
        """Cut the current run short, and refuse further ones until `rearm`.  Any thread."""
        self._options.terminate = True

    def rearm(self) -> None:
        """Let runs run again after `terminate`."""
        if self._options.terminate:
            self._options.terminate = False


class EncoderExecutor(StepExecutor):
    """A loaded encoder: task kinds ``embed`` or ``classify``, ``tokenize``, ``detokenize``."""

    def __init__(
        self,
        *,
        manifest: ImportedManifest,
        codec: Codec,
        runner: EncoderRunner,
        context: int,
        rows: int,
        step_tokens: int,
        facts: Mapping[str, Any],
    ) -> None:
        self._manifest = manifest
        self._encoder = _facts(manifest)
        self._codec = codec
        self._runner = runner
        self._context = context
        self._rows = rows
        self._step_tokens = step_tokens
        self._facts = facts
        self._texts: dict[int, _Text] = {}
        self._placed: set[int] = set()
        self._counts = runner.counts

    @property
    def limits(self) -> Limits:
        """Texts and tokens of a step; nothing else is limited, because nothing is kept."""
        return Limits(self._rows, self._rows - len(self._placed), tokens=self._step_tokens, context=self._context)

    def describe(self) -> Mapping[str, Any]:
        """Return provider, formats and sizes, and under ``steps`` what has been done so far."""
        sizes = {"width": self._encoder.width, "context": self._context, "labels": list(self._encoder.labels)}
        how = {"pooling": self._encoder.pooling, "normalize": self._encoder.normalize}
        return {**self._facts, **sizes, **({} if self._encoder.labels else how), "steps": self._counts.report()}

    def try_it(self) -> None:
        """Run two short texts, so that a graph whose shapes lie is refused when it is loaded."""
        ids = [self._manifest.tokens.pad or 0] * 3
        self._runner.run([(ids, [0] * 3), (ids[:2], [0] * 2)])

    def prepare(self, id: int, task: Task, tenant: str = "") -> Prepared:
        """Encode *task*; answer ``tokenize`` and ``detokenize`` at once."""
        if task.kind not in self._manifest.kinds:
            expected = f"one of {', '.join(self._manifest.kinds)}"
            raise InvalidArgument(f"kind must be {expected}", field="kind", value=task.kind, expected=expected)
        if task.kind == "tokenize":
            tokens = self._codec.encode(_input(task.input)[0])
            return Prepared(len(tokens), 0, answer=Result(id, value=tokens, finish="stop"))
        if task.kind == "detokenize":
            return self._detokenized(id, task.input)
        text, pair = _input(task.input)
        ids, types = self._codec.encode_input(text, pair, most=self._context, truncate=_truncates(task))
        if not ids:
            raise _wrong("input", task.input, "a text of at least one token")
        self._texts[id] = _Text(id, ids, types)
        return Prepared(len(ids), 1)

    def _detokenized(self, id: int, value: object) -> Prepared:
        if not isinstance(value, list | tuple):
            raise _wrong("input", value, "a list of token ids")
        text = self._codec.decode(check_tokens("input", value, self._manifest.vocab))
        return Prepared(len(value), 0, answer=Result(id, text=text, value=text, finish="stop"))

    def admit(self, id: int) -> Admitted | NotNow:
        """Take a place in the next steps."""
        if id not in self._texts:
            raise KernelBug("the task was not prepared", task=id)
        if id not in self._placed and len(self._placed) >= self._rows:
            return NotNow()
        self._placed.add(id)
        return Admitted()

    def release(self, ids: Iterable[int]) -> None:
        """Forget tasks."""
        for id in ids:
            self._texts.pop(id, None)
            self._placed.discard(id)

    def interrupt(self) -> None:
        """Cut the running step short; its rows get results without values.  Any thread."""
        self._runner.terminate()

    def close(self) -> None:
        """Forget every task."""
        self.release(list(self._texts))

    def step(self, plan: Plan) -> Iterable[Result]:
        """Compute every text of which the last piece is planned; texts that were cut short are planned again."""
        begun = time.perf_counter()
        results = {id: Result(id) for id, _ in (*plan.prefill, *plan.decode)}
        for id, tokens in plan.prefill:
            self._texts[id].planned += tokens
        texts = [self._texts[id] for id in results]
        whole = [text for text in texts if text.planned >= len(text.ids)]
        try:
            for group in groups(whole):
                vectors = self._runner.run([(text.ids, text.types) for text in group])
                if vectors is None:
                    break
                self._counts.prefilled += sum(len(text.ids) for text in group)
                for text, vector in zip(group, vectors, strict=True):
                    results[text.id] = self._result(text.id, vector)
        finally:
            self._runner.rearm()
            self._counts.steps += 1
            self._counts.step_seconds += time.perf_counter() - begun
        return results.values()

    def _result(self, id: int, vector: npt.NDArray[np.float32]) -> Result:
        if not np.isfinite(vector).all():
            name = self._manifest.name
            message = f"model {name!r} produced numbers that are not finite"
            return Result(id, error=ModelUnavailable(message, model=name, field="output", value="not finite"))
        if not self._encoder.labels:
            return Result(id, value=vector.tolist(), finish="stop")
        order = np.argsort(-vector, kind="stable").tolist()
        return Result(id, value={self._encoder.labels[at]: float(vector[at]) for at in order}, finish="stop")


def groups(texts: list[_Text]) -> Iterator[list[_Text]]:
    """Cut *texts* into runs whose padding is small, the longest first."""
    group: list[_Text] = []
    for text in sorted(texts, key=lambda text: -len(text.ids)):
        longest = len(group[0].ids) if group else 0
        padding = longest - len(text.ids)
        if group and padding > longest * _MOST_PADDING and padding * (len(group) + 1) > _CHEAP:
            yield group
            group = []
        group.append(text)
    if group:
        yield group


def _input(value: object) -> tuple[str, str | None]:
    """Return the text of a task, or its two texts."""
    if isinstance(value, str) and value:
        return value, None
    if isinstance(value, list | tuple) and len(value) == 2:
        first, second = value
        if isinstance(first, str) and isinstance(second, str) and first and second:
            return first, second
    raise _wrong("input", value, "a text that is not empty, or two of them to be read as a pair")


def _truncates(task: Task) -> bool:
    for name, given in task.params.items():
        if name != "truncate":
            raise _wrong(f"params.{name}", given, "left out: truncate is the only parameter of this kind of task")
    value = task.params.get("truncate", False)
    if not isinstance(value, bool):
        raise _wrong("params.truncate", value, "true or false")
    return value


def _wrong(field: str, value: object, expected: str) -> InvalidArgument:
    message = f"{field} must be {expected}, not {value!r:.80}"
    return InvalidArgument(message, field=field, value=value, expected=expected)
