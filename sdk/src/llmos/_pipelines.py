"""Pipelines: processors one after the other, under a name of their own, so that a task can name them like one."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from llmos_kernel.api import listed, mapping, text
from llmos_kernel.config import KernelConfig
from llmos_kernel.errors import InvalidArgument, KernelError, PluginFailed
from llmos_kernel.plugins import Plugins
from llmos_kernel.services import Processor, TextFilter

_EXPECTED = 'a processor\'s name, or {processor = "name", option = value, ...}'


@attrs.frozen
class Step:
    """One processor of a pipeline."""

    processor: str = attrs.field(validator=text)
    options: Mapping[str, Any] = attrs.field(factory=dict, validator=mapping)
    """Options for this step alone; they win over those that the configuration gives the processor."""

    @classmethod
    def read(cls, key: str, value: object) -> Step:
        """Return the step that a configuration has under *key*: a name, or a table.  Raises `InvalidArgument`."""
        if isinstance(value, Step):
            return value
        table = {"processor": value} if isinstance(value, str) else value
        name = table.get("processor") if isinstance(table, Mapping) else None
        if not isinstance(table, Mapping) or not isinstance(name, str) or not name:
            raise InvalidArgument.of(key, value, _EXPECTED)
        return cls(name, {option: given for option, given in table.items() if option != "processor"})


def read_steps(key: str, value: object) -> tuple[Step, ...]:
    """Return the steps that a configuration has under *key*.  Raises `InvalidArgument` naming the step."""
    steps = listed(value)
    if not isinstance(steps, tuple) or not steps:
        raise InvalidArgument.of(key, value, f"a list of steps, each {_EXPECTED}")
    return tuple(Step.read(f"{key}[{at}]", step) for at, step in enumerate(steps))


def _steps(value: object) -> tuple[Step, ...]:
    return read_steps("steps", value)


@attrs.frozen
class Pipeline(Processor):
    """Processors one after the other: ``Pipeline("tidy", ["normalize", {"processor": "truncate", "size": 500}])``.

    Given to a kernel among its plugins, it is a processor that tasks can name.  Its processors are found among the
    plugins that *config* names and *plugins*, and made when it is first used; what is wrong with one of them is then
    raised, naming the step.
    """

    name: str = attrs.field(validator=text)
    steps: tuple[Step, ...] = attrs.field(converter=_steps)
    config: KernelConfig = attrs.field(factory=lambda: KernelConfig(plugins=("*",)), repr=False)
    plugins: tuple[object, ...] = attrs.field(default=(), converter=listed, repr=False)
    _made: list[tuple[Step, Processor]] = attrs.field(factory=list, init=False, repr=False, eq=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False, eq=False)

    def process(self, value: Any, params: Mapping[str, Any]) -> Any:  # noqa: ANN401 - as the contract has it
        """Return *value* as the last processor leaves it."""
        step = None
        try:
            for step, processor in self._made or self.processors():  # noqa: B007 - the error names it
                value = processor.process(value, params)
        except KernelError:
            raise
        except Exception as error:
            raise PluginFailed.of(f"processor:{step and step.processor}", "process", error) from error
        return value

    def filter(self, params: Mapping[str, Any]) -> TextFilter:
        """Return the processors' filters, one behind the other."""
        return _Chain([(step.processor, processor.filter(params)) for step, processor in self.processors()])

    def processors(self) -> list[tuple[Step, Processor]]:
        """Return each step and its processor.  Raises what is wrong with the first that cannot be had."""
        with self._lock:
            if not self._made:
                shared = Plugins(self.config, self.plugins)
                self._made.extend([(step, self._make(at, step, shared)) for at, step in enumerate(self.steps, 1)])
        return self._made

    def _make(self, number: int, step: Step, shared: Plugins) -> Processor:
        """Return the processor of a step: the shared one, or one with the options of this step."""
        try:
            if not step.options:
                return shared.processor(step.processor)
            key = f"processor:{step.processor}"
            options = {**self.config.options.get(key, {}), **step.options}
            config = attrs.evolve(self.config, options={**self.config.options, key: options})
            return Plugins(config, self.plugins).processor(step.processor)
        except KernelError as error:
            message = f"pipeline {self.name!r}, step {number}: {error.message}"
            raise type(error)(message, **{**error.fields, "pipeline": self.name, "step": number}) from error


class _Chain(TextFilter):
    """Filters one behind the other."""

    def __init__(self, stages: Iterable[tuple[str, TextFilter]]) -> None:
        self._stages = tuple(stages)

    def feed(self, text: str) -> str:
        """Pass a piece through all of them."""
        return self._passed(text, ending=False)

    def end(self) -> str:
        """Pass what each held back through those behind it."""
        return self._passed("", ending=True)

    def _passed(self, text: str, *, ending: bool) -> str:
        name = ""
        try:
            for name, stage in self._stages:  # noqa: B007 - the error names it
                text = stage.feed(text) + (stage.end() if ending else "")
        except KernelError:
            raise
        except Exception as error:
            raise PluginFailed.of(f"processor:{name}", "filter", error) from error
        return text
