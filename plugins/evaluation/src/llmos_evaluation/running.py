"""Runs a suite on a model: many records under way at once, what is known of each noted, figures in the end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

from llmos import Answer, Model
from llmos.cli.machine import machine
from llmos_evaluation.bootstrap import SEED
from llmos_evaluation.items import Item
from llmos_evaluation.likelihood import likelihoods
from llmos_evaluation.metrics import METRICS, SPEED, Figure, Metric, throughput
from llmos_evaluation.store import Part, Result, item_of, write_result
from llmos_evaluation.suites import Case, Suite
from llmos_kernel.api import check_number

ROWS = 16
"""How many records are under way at once where the model does not say how many it takes."""
Draw = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and how much there is."""
_COUNTS = ("prompt", "cached", "generated")
_FACTS = (
    "architecture", "weights", "kv", "provider", "runtime", "threads", "slots", "context", "batch_invariant",
)  # fmt: skip


def evaluate(
    model: Model, suite: Suite, home: Path, *, extra: Sequence[Metric] = (), at_once: int | None = None,
    resume: bool = False, seed: int = SEED, draw: Draw | None = None,
) -> Result:  # fmt: skip
    """Return what *model* is worth on *suite*; the result is kept below *home*.

    *extra* are metrics of the caller's own, besides those of the suite.  So many records are under way *at_once*: by
    default as many as the model has rows.  Until the end what is known is kept, too, and with *resume* a run that was
    interrupted goes on; *seed* is that of the intervals.  Raises what would fail for every record, as `Model.run_each`
    does, and `InvalidArgument` for a metric that cannot be measured with this model; a record that fails ends nothing.
    """
    if at_once is not None:
        check_number("at_once", at_once, 1, 2**20)
    wanted = [*(METRICS[name] for name in suite.metrics), *extra]
    started, part = _now(), Part(home, model.name, suite.work, resume=resume)
    with contextlib.closing(part):
        rows = at_once or int(_executor(model).get("slots", ROWS))
        _work(model, suite, wanted, part, rows, draw)
        items = tuple(_scored(_item(case, part.known.get(case.number, {})), wanted) for case in suite.cases)
        facts = _figures(items, wanted, part.seconds, seed)
        result = Result(
            model=model.name, suite=suite.name, digest=suite.digest, task=_task(suite), records=len(items),
            failed=sum(item.failed for item in items), seconds=part.seconds, at_once=rows, started=started,
            finished=_now(), details=_details(model), machine=machine(), items=items, **facts,
        )  # fmt: skip
        kept = write_result(home, result)
        part.remove()
    return kept


def _work(model: Model, suite: Suite, wanted: Sequence[Metric], part: Part, rows: int, draw: Draw | None) -> None:
    """Ask what is not known yet."""
    passes = []
    if any(not metric.likelihood for metric in wanted):
        passes.append(("answers", _answers, [case for case in suite.cases if not _has(part, case, "answer", "error")]))
    if any(metric.likelihood for metric in wanted):
        open_ = [case for case in suite.cases if not _has(part, case, "likelihood", "likelihood_error")]
        passes.append(("likelihoods", _likelihoods, open_))
    total = len(passes) * len(suite.cases)
    done = total - sum(len(cases) for _, _, cases in passes)
    for what, run, cases in passes:
        for count, _ in enumerate(run(model, suite, cases, part, rows), 1):
            if draw is not None:
                draw(what, done + count, total)
        done += len(cases)


def _has(part: Part, case: Case, *facts: str) -> bool:
    return any(part.known.get(case.number, {}).get(fact) is not None for fact in facts)


def _answers(model: Model, suite: Suite, cases: Sequence[Case], part: Part, rows: int) -> Iterable[None]:
    before = time.monotonic()
    answers = model.run_each(suite.task, (case.input for case in cases), at_once=rows)
    with contextlib.closing(answers):
        for case, answer in zip(cases, answers, strict=True):
            now = time.monotonic()
            part.add(case.number, now - before, **_known(answer, suite.task.type))
            before = now
            yield


def _known(answer: Answer, type: str) -> dict[str, Any]:
    """Return the fields of an `Item` that *answer* tells."""
    if answer.error is not None:
        return {"error": answer.error.to_wire()}
    said = next(iter(answer.value), "") if type == "classify" else str(answer.text)
    return {"answer": said, "finish": answer.finish, "usage": attrs.asdict(answer.usage) | _counted(answer)}


def _counted(answer: Answer) -> dict[str, int]:
    """Return the tokens that a far end has counted, where the kernel could count none (llmos-remote)."""
    facts = answer.text.value
    counts = facts.get("usage") if isinstance(facts, Mapping) else None
    if answer.usage.generated or not isinstance(counts, Mapping):
        return {}
    return {name: counts[name] for name in _COUNTS if isinstance(counts.get(name), int)}


def _likelihoods(model: Model, suite: Suite, cases: Sequence[Case], part: Part, rows: int) -> Iterable[None]:
    for found in likelihoods(model, suite.task, cases, rows):
        if found.error is not None:
            part.add(found.case.number, likelihood_error=found.error.to_wire())
        else:
            part.add(found.case.number, likelihood=[found.sum, found.tokens])
        yield


def _item(case: Case, known: Mapping[str, Any]) -> Item:
    plain = attrs.asdict(case, filter=lambda field, _: field.name != "line")
    return item_of({**plain, **known})


def _scored(item: Item, wanted: Sequence[Metric]) -> Item:
    found = {metric.name: metric.score(item) for metric in wanted}
    return attrs.evolve(item, scores={name: score for name, score in found.items() if score is not None})


def _figures(items: Sequence[Item], wanted: Sequence[Metric], seconds: float, seed: int) -> dict[str, Any]:
    overall: dict[str, Figure] = {metric.name: metric.figure(items, seed) for metric in wanted}
    if any(item.usage for item in items):
        overall |= {metric.name: metric.figure(items, seed) for metric in SPEED}
        overall["throughput"] = throughput(items, seconds)
    groups = {
        group: {metric.name: metric.figure([item for item in items if item.group == group], seed) for metric in wanted}
        for group in dict.fromkeys(item.group for item in items)
        if group
    }
    return {"metrics": overall, "groups": groups}


def _task(suite: Suite) -> dict[str, Any]:
    task = suite.task
    return {"type": task.type, "prompt": task.prompt, "system": task.system, "params": dict(task.params.given)}


def _executor(model: Model) -> Mapping[str, Any]:
    found: Mapping[str, Any] = model.info().details.get("executor") or {}
    return found


def _details(model: Model) -> dict[str, Any]:
    info, executor = model.info(), _executor(model)
    return {"backend": info.backend, **{name: executor[name] for name in _FACTS if name in executor}}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
