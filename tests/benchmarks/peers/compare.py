"""The comparison: engines are prepared and loaded, each work goes round all of them, and ratios come out."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import chain, zip_longest
from typing import Any

import attrs

from tests.benchmarks.peers.environments import Home, PreparationFailed
from tests.benchmarks.peers.pins import ENGINES, OURS, Engine
from tests.benchmarks.peers.results import Measurement
from tests.benchmarks.peers.worker import SLOTS, Place, Worker, WorkerFailed
from tests.benchmarks.peers.works import Effort, Work, decode, mixed, prefill, prompt, streams

SEED = 20240607
_SHARED, _OWN = 1000, 24
"""Tokens of a shared prefix, and of what each request adds to it."""
_SMALL = 16
"""Tokens of the prompt whose first token ends the loading."""
_LONG = 45
"""Seconds after which something is not repeated."""
_READERS = (OURS.name, "openvino")
"""The engines that prefill is a contest of."""
Values = dict[tuple[str, str], list[float]]
"""Figures by engine and format."""


@attrs.define
class Seat:
    """One engine in one format: what takes part."""

    engine: Engine
    form: str
    place: Place
    worker: Worker | None = None
    facts: dict[str, Any] = attrs.field(factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """Engine and format."""
        return self.engine.name, self.form


def _any(seat: Seat) -> bool:
    return True


def _four_bit(seat: Seat) -> bool:
    return ENGINES[seat.engine.name].has_four_bits(seat.form)


def _ours(seat: Seat) -> bool:
    return seat.engine.name == OURS.name


@attrs.define(kw_only=True)
class Comparing:
    """A comparison while it runs."""

    home: Home
    model: str
    vocab: int
    threads: int
    effort: Effort
    engines: Sequence[Engine]
    seats: list[Seat] = attrs.field(factory=list)
    problems: dict[str, dict[str, str]] = attrs.field(factory=dict)
    """What went wrong, by engine and format or work."""
    measurements: list[Measurement] = attrs.field(factory=list)

    def prepare(self) -> None:
        """Make environments and models; what cannot be had is a problem, and the rest goes on."""
        checkpoint = self.home.checkpoint(self.model)
        self.home.say(f"comparing on {checkpoint.name}")
        for engine in self.engines:
            try:
                place = self.home.place(engine, self.model)
            except PreparationFailed as error:
                self._problem(engine.name, "environment", error)
                continue
            for form in engine.formats:
                self._convert(Seat(engine, form, place))
        self.seats = interleaved(self.seats)

    def _convert(self, seat: Seat) -> None:
        try:
            self.home.convert(seat.place, self.model, seat.form)
        except PreparationFailed as error:
            self._problem(seat.engine.name, seat.form, error)
        else:
            self.seats.append(seat)

    def measure(self) -> None:
        """Load every engine, then do each work in turn with all."""
        self.loading()
        with ExitStack() as stack:
            for seat in list(self.seats):
                self._start(seat, stack)
            effort = self.effort
            self.go_round(decode(2 * effort.new), self.seats, effort.rounds, again=_four_bit)
            self.go_round(prefill(128), self.seats, 1)
            self.go_round(prefill(1024), self.seats, effort.rounds, again=lambda seat: seat.engine.name in _READERS)
            for count in (8, 16):
                self.go_round(streams(count, effort.new), self._batched(), 1)
            self.shared_prefix()
            self.outside()
            self.mixed()

    # --- parts -------------------------------------------------------------------------------------------------

    def loading(self) -> None:
        """Measure fresh processes, from their start to a first token, each engine in its smallest format."""
        seats = [seat for seat in self.seats if seat.form == (seat.engine.four_bit or seat.engine.formats[0])]
        whole: Values = {}
        inner: Values = {}
        request = [prompt(random.Random(SEED), self.vocab, _SMALL)], [1]
        # What imports torch takes ten times as long as the others, and is measured once.
        again = [seat for seat in seats if seat.engine.four_bit] * (self.effort.rounds - 1)
        for seat in [*seats, *again]:
            self.home.say(f"load to first token: {seat.engine.title} {seat.form}")
            try:
                with Worker(seat.place, seat.form, self.threads) as worker:
                    worker.start()
                    seconds = worker.generate(*request)["seconds"]
                    whole.setdefault(seat.key, []).append(worker.since_start())
                    inner.setdefault(seat.key, []).append(worker.facts["load"] + seconds)
            except WorkerFailed as error:
                self._problem(seat.engine.name, f"load, {seat.form}", error)
        self._keep("load", "load to first token, with the start of the process", "s", whole)
        self._keep("load-inner", "load to first token, after the imports", "s", inner)

    def go_round(
        self, work: Work, seats: Sequence[Seat], rounds: int, *, note: str = "", again: Callable[[Seat], bool] = _any
    ) -> None:
        """Do one work with every seat in turn, up to *rounds* times, each time with other prompts.

        Only those for which *again* holds are repeated, and nobody who took longer than `_LONG` seconds.
        """
        values: Values = {}
        going = list(seats)
        for number in range(rounds):
            asked = work.requests(random.Random(f"{SEED} {work.name} {number}"), self.vocab)
            repeated = []
            for seat in going:
                self.home.say(f"{work.title}, round {number + 1}: {seat.engine.title} {seat.form}")
                reports = [report for one in asked if (report := self._ask(seat, work.name, one)) is not None]
                if len(reports) == len(asked):
                    values.setdefault(seat.key, []).append(work.figure(asked, reports))
                    repeated += [seat] * (again(seat) and reports[-1]["seconds"] < _LONG)
            going = repeated
        self._keep(work.name, work.title, "tokens/s", values, note)

    def shared_prefix(self) -> None:
        """Measure the second of two requests that share most of their prompt, over the first."""
        values: Values = {}
        continuous = [seat for seat in self.seats if seat.engine.continuous and (_ours(seat) or _four_bit(seat))]
        for number in range(self.effort.long_rounds):
            rng = random.Random(f"{SEED} shared {number}")
            shared = prompt(rng, self.vocab, _SHARED)
            pair = [shared + prompt(rng, self.vocab, _OWN) for _ in range(2)]
            for seat in continuous:
                self.home.say(f"shared prefix, round {number + 1}: {seat.engine.title} {seat.form}")
                reports = [self._ask(seat, "shared-prefix", ([one], [1])) for one in pair]
                seconds = [report["seconds"] for report in reports if report is not None]
                if len(seconds) == len(pair):
                    values.setdefault(seat.key, []).append(seconds[1] / seconds[0])
        title = f"second request with a shared prefix of {_SHARED:,} tokens, over the first"
        self._keep("shared-prefix", title, "×", values)

    def outside(self) -> None:
        """Measure how much of a step of 16 decoding rows our engine spends outside of the runtime."""
        values: Values = {}
        for number in range(self.effort.long_rounds):
            rng = random.Random(f"{SEED} outside {number}")
            requests = [prompt(rng, self.vocab, _SMALL) for _ in range(16)], [self.effort.new // 2] * 16
            for seat in filter(_ours, list(self.seats)):
                self.home.say(f"time outside of the runtime, round {number + 1}: {seat.form}")
                report = self._ask(seat, "outside", requests)
                if report is not None:
                    values.setdefault(seat.key, []).append(100 * report["outside"])
        self._keep("outside", "time outside of the runtime in steps of 16 rows", "%", values)

    def mixed(self) -> None:
        """Do the mixed requests with each engine's best format."""
        chosen = [seat for engine in self.engines if (seat := self._fastest(engine)) is not None]
        many = [seat for seat in chosen if seat.engine.continuous]
        few = [seat for seat in chosen if not seat.engine.continuous]
        effort = self.effort
        self.go_round(mixed(effort.requests), interleaved(many), effort.long_rounds)
        note = f"the first {effort.some} requests only" if effort.some < effort.requests else ""
        self.go_round(mixed(effort.some), few, 1, note=note)

    def _fastest(self, engine: Engine) -> Seat | None:
        """Return the seat whose figures promise most where as much is read as written."""

        def seconds(seat: Seat) -> float:
            found = [self._figure(name, seat) or self._figure("decode-1", seat) for name in ("streams-16", "streams-8")]
            rates = [found[0] or found[1], self._figure("prefill-1024", seat)]
            return sum(1 / rate if rate else float("inf") for rate in rates)

        return min((seat for seat in self.seats if seat.engine.name == engine.name), key=seconds, default=None)

    def _figure(self, work: str, seat: Seat) -> float:
        found = (one.median for one in self.measurements if (one.work, one.engine, one.form) == (work, *seat.key))
        return next(found, 0.0)

    def _batched(self) -> list[Seat]:
        """Return the seats that many streams are for: of those without continuous batching, the faster format."""
        slow = {engine.name: self._fastest(engine) for engine in self.engines if not engine.continuous}
        return [seat for seat in self.seats if seat.engine.continuous or seat is slow[seat.engine.name]]

    # --- workers -----------------------------------------------------------------------------------------------

    def _start(self, seat: Seat, stack: ExitStack) -> None:
        """Load a seat's model and run it once, so that what is done once is done."""
        self.home.say(f"loading {seat.engine.title} {seat.form}")
        seat.worker = stack.enter_context(Worker(seat.place, seat.form, self.threads))
        try:
            seat.worker.start()
            seat.facts = seat.worker.facts
            rng = random.Random(SEED)
            for rows, length, new in ((1, 128, 4), (SLOTS, 128, self.effort.new)):  # memory of every sequence is used
                seat.worker.generate([prompt(rng, self.vocab, length) for _ in range(rows)], [new] * rows)
        except WorkerFailed as error:
            self._drop(seat, "loading", error)
        else:
            seat.worker.sleep()

    def _ask(self, seat: Seat, work: str, requests: tuple[list[list[int]], list[int]]) -> dict[str, Any] | None:
        """Return a seat's report, or None where it failed: then it takes no further part."""
        if seat.worker is None:
            return None
        seat.worker.wake()
        try:
            report = seat.worker.generate(*requests)
        except WorkerFailed as error:
            self._drop(seat, work, error)
            return None
        seat.worker.sleep()
        seat.facts["rss"] = report["rss"]
        return report

    def _drop(self, seat: Seat, work: str, error: WorkerFailed) -> None:
        self._problem(seat.engine.name, f"{work}, {seat.form}", error)
        self.seats.remove(seat)
        seat.worker = None

    def _problem(self, engine: str, what: str, error: Exception) -> None:
        self.home.say(f"{engine}: {what}: {error}")
        self.problems.setdefault(engine, {})[what] = str(error)

    def _keep(self, work: str, title: str, unit: str, values: Values, note: str = "") -> None:
        for (engine, form), found in values.items():
            self.measurements.append(
                Measurement(work=work, title=title, engine=engine, form=form, unit=unit, values=found, note=note)
            )


def interleaved(seats: Sequence[Seat]) -> list[Seat]:
    """Return *seats* so that engines take turns."""
    names = dict.fromkeys(seat.engine.name for seat in seats)
    columns = [[seat for seat in seats if seat.engine.name == name] for name in names]
    return [seat for seat in chain.from_iterable(zip_longest(*columns)) if seat is not None]
