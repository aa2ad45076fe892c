"""A backend that answers with the words of the prompt: deterministic, pure Python, and it fails on demand."""

from __future__ import annotations

import difflib
import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from llmos.testing._gate import Gate
from llmos_kernel.api import Task
from llmos_kernel.contracts import (
    Admitted,
    Backend,
    Footprint,
    Limits,
    ModelSpec,
    NotNow,
    Plan,
    Preemption,
    Prepared,
    Result,
    StepExecutor,
)
from llmos_kernel.errors import HandleRevoked, InvalidArgument, ModelUnavailable
from llmos_kernel.hookspecs import hookimpl

KINDS = ("generate", "chat", "embed", "classify", "tokenize", "detokenize")
"""What an echo model serves."""
SAMPLING = (
    "max_tokens", "min_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty",
    "frequency_penalty", "logit_bias", "seed", "stop", "logprobs", "schema", "regex", "grammar", "ignore_eos",
)  # fmt: skip
"""The parameters that it accepts; only ``max_tokens``, ``stop`` and ``logprobs`` change what it says."""
ENCODING = ("truncate",)
"""The parameter that tasks of the other kinds take; it changes nothing, because nothing is too long."""
_WORD = re.compile(r"\s*\S+")


def echo_spec(name: str = "echo", **fields: Any) -> ModelSpec:  # noqa: ANN401 - the fields of a ModelSpec
    """Return the specification of an echo model."""
    return ModelSpec(**{"name": name, "backend": "echo", "kinds": KINDS, "description": "repeats the prompt", **fields})


@attrs.define(kw_only=True)
class EchoFaults:
    """What goes wrong, and when.  A test may change it while the executor runs."""

    load: BaseException | None = None
    """Raised by `EchoBackend.load`."""
    prepare: BaseException | None = None
    """Raised by `EchoExecutor.prepare`."""
    step: BaseException | None = None
    """Raised by step number `step_number`."""
    step_number: int = 1
    """Which step raises, counted from 1."""
    row: tuple[int, Any] | None = None
    """(generated tokens, error): a row fails with that error when it has generated so many tokens."""
    not_now: int = 0
    """So many admissions are answered `NotNow`."""
    on_step: Callable[[int, Plan], None] | None = None
    """Called with the step's number and plan before each step."""


@attrs.define
class _Sequence:
    """One prepared task."""

    pieces: tuple[str, ...]
    finish: str
    prompt: int
    logprobs: bool
    computed: int = 0
    """Prompt tokens in its cache."""
    generated: int = 0
    redone: int = 0
    """Generated tokens that count as prompt since its cache was dropped."""
    placed: bool = False


class EchoExecutor(StepExecutor):
    """Repeats each task's prompt, one word a token.

    *rows*, *tokens* and *chunks* are its `Limits`; *burst* is how many tokens a decode row may yield in one step.
    *kept* is how many bytes a token of a context takes; an executor that is told none keeps no contexts.
    `plans` and `tasks` record every plan and task that it was given; `known` are the tasks and contexts that it still
    has to keep.
    """

    def __init__(
        self, *, rows: int = 8, context: int = 4096, tokens: int = 2**20, chunks: int = 2**20, burst: int = 1,
        kept: int = 0, faults: EchoFaults | None = None, gate: Gate | None = None,
    ) -> None:  # fmt: skip
        self._limits = Limits(rows=rows, free=rows, tokens=tokens, chunks=chunks, context=context)
        self._burst, self._kept = burst, kept
        self._contexts: dict[int, int] = {}
        self._words: dict[int, str] = {}
        self._sequences: dict[int, _Sequence] = {}
        self.faults = faults or EchoFaults()
        self.gate = gate or Gate()
        self.plans: list[Plan] = []
        self.tasks: list[Task] = []
        self.closed = False

    @property
    def known(self) -> frozenset[int]:
        """Ids of the tasks that are prepared, and of the contexts that are open, and not released."""
        return frozenset((*self._sequences, *self._contexts))

    @property
    def limits(self) -> Limits:
        """Rows, and how many of them are free."""
        placed = sum(sequence.placed for sequence in list(self._sequences.values()))
        return attrs.evolve(self._limits, free=self._limits.rows - placed)

    def describe(self) -> Mapping[str, Any]:
        """Return facts for people."""
        contexts = {"contexts": len(self._contexts)} if self._kept else {}
        return {"provider": "echo", "context": self._limits.context, **contexts}

    def prepare(self, id: int, task: Task, tenant: str = "local") -> Prepared:
        """Split the prompt into words."""
        self.tasks.append(task)
        if self.faults.prepare is not None:
            raise self.faults.prepare
        _check_params(task.params, SAMPLING if task.kind in ("generate", "chat") else ENCODING)
        if task.kind == "detokenize":
            return _answer(Result(id, text=self._join(task.input), finish="stop"))
        text = _prompt(task)
        ids = self._split(text)
        if task.kind == "tokenize":
            return _answer(Result(id, value=ids, finish="stop"))
        if task.kind == "embed":
            return _answer(Result(id, value=[float(len(ids)), float(len(text))], finish="stop"), len(ids))
        if task.kind == "classify":
            odd = len(ids) % 2
            scores = {("even", "odd")[odd]: 1.0, ("odd", "even")[odd]: 0.0}
            return _answer(Result(id, value=scores, finish="stop"), len(ids))
        return self._prepare_text(id, task, text, len(ids))

    def _prepare_text(self, id: int, task: Task, text: str, prompt: int) -> Prepared:
        most = task.params.get("max_tokens")
        room = self._longest(task) - prompt
        if room < 1 or (most is not None and most > room):
            asked = f"{prompt} prompt tokens" + (f" and {most} new ones" if most is not None else "")
            message = f"{asked} do not fit the context of {room + prompt}"
            field = "max_tokens" if room > 0 else "input"
            raise InvalidArgument(message, field=field, value=most, expected=f"<= {room}")
        pieces, finish = _cut(text.strip(), task.params, room)
        self._sequences[id] = _Sequence(pieces, finish, prompt, task.params.get("logprobs") is not None)
        return Prepared(prompt, max(1, len(pieces)))

    def _longest(self, task: Task) -> int:
        if not (self._kept and isinstance(task.target, int)):
            return self._limits.context
        if task.target not in self._contexts:
            raise HandleRevoked("the context was closed")
        return self._contexts[task.target]

    def open_context(self, id: int, tokens: int) -> int:
        """Note it, if this executor keeps contexts."""
        if not self._kept:
            return super().open_context(id, tokens)
        self._contexts[id] = tokens
        return tokens * self._kept

    def admit(self, id: int) -> Admitted | NotNow:
        """Take a place if there is one."""
        if self.faults.not_now > 0:
            self.faults.not_now -= 1
            return NotNow()
        sequence = self._sequences[id]
        if not sequence.placed and self.limits.free < 1:
            return NotNow()
        sequence.placed = True
        return Admitted(cached=sequence.computed)

    def preempt(self, id: int, how: Preemption) -> None:
        """Give the place up; only ``drop`` forgets what was computed, and ``keep`` keeps the place as well."""
        sequence = self._sequences[id]
        sequence.placed = how == "keep"
        if how == "drop":  # what it has said is part of the prompt when it comes back
            sequence.computed, sequence.prompt = 0, sequence.prompt + sequence.generated - sequence.redone
            sequence.redone = sequence.generated

    def step(self, plan: Plan) -> Iterable[Result]:
        """Prefill and decode as planned; one result per row."""
        self.plans.append(plan)
        number = len(self.plans)
        if self.faults.on_step is not None:
            self.faults.on_step(number, plan)
        if self.faults.step is not None and number >= self.faults.step_number:
            raise self.faults.step
        if not self.gate.enter():
            return [Result(id) for id, _ in (*plan.prefill, *plan.decode)]
        prefilled = [self._prefill(id, count) for id, count in plan.prefill]
        return [*prefilled, *(self._emit(id, min(count, self._burst)) for id, count in plan.decode)]

    def _prefill(self, id: int, count: int) -> Result:
        sequence = self._sequences[id]
        sequence.computed = min(sequence.computed + count, sequence.prompt)
        return self._emit(id, 1) if sequence.computed == sequence.prompt else Result(id)

    def _emit(self, id: int, count: int) -> Result:
        sequence = self._sequences[id]
        fault = self.faults.row
        if fault is not None and sequence.generated >= fault[0]:
            return Result(id, error=fault[1])
        pieces = sequence.pieces[sequence.generated : sequence.generated + count]
        sequence.generated += len(pieces)
        finish = sequence.finish if sequence.generated == len(sequence.pieces) else None
        tokens = tuple(_token(piece) for piece in pieces)
        logprobs = tuple(map(_certain, tokens, pieces)) if sequence.logprobs else ()
        return Result(id, tokens=tokens, text="".join(pieces), logprobs=logprobs, finish=finish)

    def release(self, ids: Iterable[int]) -> None:
        """Forget the tasks and contexts."""
        for id in ids:
            self._sequences.pop(id, None)
            self._contexts.pop(id, None)

    def interrupt(self) -> None:
        """Send the step at the gate away; its rows yield nothing."""
        self.gate.cut()

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    def _split(self, text: str) -> list[int]:
        pieces = _WORD.findall(text)
        ids = [_token(piece) for piece in pieces]
        self._words.update(zip(ids, pieces, strict=True))
        return ids

    def _join(self, ids: object) -> str:
        if not isinstance(ids, list | tuple):
            expected = "a list of tokens"
            raise InvalidArgument(f"input must be {expected}", field="input", value=ids, expected=expected)
        unknown = next((id for id in ids if id not in self._words), None)
        if unknown is not None:
            message = f"token {unknown!r} has not been seen by this echo model"
            raise InvalidArgument(message, field="input", value=unknown, expected="tokens from tokenize")
        return "".join(self._words[id] for id in ids)


class EchoBackend(Backend):
    """A plugin object that serves echo models: ``Kernel(config, plugins=[EchoBackend()])``.

    Keyword arguments go to every `EchoExecutor`; a spec's ``options`` win over them.  `executors` lists what it loaded.
    """

    name = "echo"
    api = 1

    def __init__(self, *, faults: EchoFaults | None = None, gate: Gate | None = None, **limits: int) -> None:
        self.faults = faults or EchoFaults()
        self.gate = gate or Gate()
        self.executors: list[EchoExecutor] = []
        self._limits = limits

    @hookimpl
    def llmos_backend(self, config: Mapping[str, Any]) -> Backend:
        """Return this backend."""
        return self

    def measure(self, spec: ModelSpec) -> Footprint:
        """Take what the spec says."""
        return Footprint("cpu", spec.nbytes)

    def load(self, spec: ModelSpec) -> EchoExecutor:
        """Return a new executor."""
        if self.faults.load is not None:
            raise self.faults.load
        options = {**self._limits, **spec.options}
        known = ("rows", "context", "tokens", "chunks", "burst", "kept")
        for key in options:
            if key not in known:
                message = f"model {spec.name!r}: unknown option {key!r}"
                raise ModelUnavailable(message, model=spec.name, field=key, expected=f"one of {', '.join(known)}")
        executor = EchoExecutor(**options, faults=self.faults, gate=self.gate)
        self.executors.append(executor)
        return executor

    def doctor(self) -> Mapping[str, Any]:
        """Say that echo always runs."""
        return {"problem": None, "providers": {"echo": {"runs": True, "why": None}}}


def _answer(result: Result, prompt: int = 0) -> Prepared:
    return Prepared(prompt, 0, answer=result)


def _prompt(task: Task) -> str:
    text = task.input
    if task.kind == "chat":
        text = text[-1].get("content") if isinstance(text, list | tuple) and text else None
    if not isinstance(text, str):
        expected = "messages" if task.kind == "chat" else "a string"
        raise InvalidArgument(f"input must be {expected}", field="input", value=task.input, expected=expected)
    if not text.strip():
        raise InvalidArgument("the prompt is empty", field="input", value=text, expected="some text")
    return text


def _check_params(params: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in params:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3)
            message = f"unknown parameter {key!r}" + (f"; did you mean {', '.join(near)}?" if near else "")
            expected = f"one of {', '.join(near or known)}"
            raise InvalidArgument(message, field=key, value=params[key], expected=expected)
    most = params.get("max_tokens")
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        expected = "a whole number from 1"
        raise InvalidArgument(f"max_tokens must be {expected}", field="max_tokens", value=most, expected=expected)
    warmth = params.get("temperature", 0.0)
    if not isinstance(warmth, int | float) or not math.isfinite(warmth) or warmth < 0:
        expected = "a finite number from 0"
        raise InvalidArgument(f"temperature must be {expected}", field="temperature", value=warmth, expected=expected)


def _cut(text: str, params: Mapping[str, Any], room: int) -> tuple[tuple[str, ...], str]:
    stops = params.get("stop") or ()
    ends = [text.find(stop) for stop in ([stops] if isinstance(stops, str) else stops)]
    pieces = _WORD.findall(text[: min((end for end in ends if end >= 0), default=len(text))])
    most = min(params.get("max_tokens") or room, room)
    return tuple(pieces[:most]), "length" if len(pieces) > most else "stop"


def _token(piece: str) -> int:
    return zlib.crc32(piece.encode("utf-8", "surrogatepass")) & 0x7FFFFFFF


def _certain(token: int, piece: str) -> dict[str, object]:
    """Return the report of a token that nothing else could have been."""
    chosen = {"id": token, "token": piece, "logprob": 0.0}
    return {**chosen, "top": [chosen]}
