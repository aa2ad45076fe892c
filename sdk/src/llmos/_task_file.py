r"""Tasks as files: what ``task.toml`` may say, how it is read, and the schema by which editors complete and check it.

    type = "chat"
    prompt = "Sum up in {{ words }} words:\n{{ text }}"

    [params]
    max_tokens = 100

A placeholder in ``prompt`` is a field of the input, or ``{{ input }}`` for all of it.  That is all that it can be:
nothing in a file is executed, and what is put in is never read as a template.  The processor ``template`` does more.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self, cast

import attrs

from llmos._requests import Options, Request, encoder_input, messages, prompt, text_request
from llmos._schemas import Checker
from llmos._shapes import (
    Anything, Flag, Names, Number, Numbered, Schema, Table, Text, Wrong, key, shapes, wrong,
)  # fmt: skip
from llmos._targets import AUTO
from llmos_kernel.api import MAX_SECONDS, Auto
from llmos_kernel.errors import ConfigError, InvalidArgument

TEXT_TYPES: Final = ("generate", "chat")
"""Types whose answer is text."""
TYPES: Final = (*TEXT_TYPES, "embed", "classify")
WHOLE: Final = "input"
"""The placeholder that stands for all of the input."""
RETRIES: Final = 2
_PLACEHOLDER = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_MOST_TOKENS = 2**24


def _a_schema(name: str, value: Mapping[str, Any]) -> object:
    return Checker(name, value)


@attrs.frozen(kw_only=True)
class Requirements:
    """What a model must be, where a router chooses it."""

    capabilities: tuple[str, ...] = key(Names(), 'Words that the model says of itself, such as "code".', ())
    languages: tuple[str, ...] = key(Names(), 'Languages that it knows, such as "de".', ())
    context: int = key(Number(0, 2**40, whole=True), "Fewest tokens of context that will do.", 0)
    cost: float | None = key(Number(0, 1e9), "The most that a million tokens may cost.", None)
    models: tuple[str, ...] = key(Names(), "Only these models.", ())
    avoid: tuple[str, ...] = key(Names(), "Not these models.", ())

    @property
    def auto(self) -> Auto:
        """The same for the router."""
        return Auto(**attrs.asdict(self, recurse=False))


@attrs.frozen(kw_only=True)
class Parameters:
    """How a model answers.  None: as the model has it by itself."""

    max_tokens: int | None = key(Number(1, _MOST_TOKENS, whole=True), "Most tokens of the answer.", None)
    min_tokens: int | None = key(Number(0, _MOST_TOKENS, whole=True), "Fewest tokens of the answer.", None)
    temperature: float | None = key(Number(0, 100), "0 always takes the likeliest token.", None)
    top_k: int | None = key(
        Number(0, _MOST_TOKENS, whole=True), "Choose among so many likeliest tokens; 0 is all.", None
    )
    top_p: float | None = key(Number(0, 1), "Choose among the likeliest with this probability together.", None)
    min_p: float | None = key(Number(0, 1), "Choose among those at least this share as likely as the likeliest.", None)
    repetition_penalty: float | None = key(Number(0.01, 100), "Above 1: repeat less.", None)
    presence_penalty: float | None = key(Number(-100, 100), "Above 0: prefer what was not said.", None)
    frequency_penalty: float | None = key(Number(-100, 100), "Above 0: prefer what was said rarely.", None)
    logit_bias: Mapping[int, float] | None = key(Numbered(Number(-100, 100)), "Added to the logits of tokens.", None)
    seed: int | None = key(Number(0, 2**63 - 1, whole=True), "The same seed gives the same answer.", None)
    stop: tuple[str, ...] | None = key(Names(one=True), "Strings that end the answer.", None)
    logprobs: int | None = key(Number(0, 1000, whole=True), "Report so many alternatives per token.", None)
    regex: str | None = key(Text(), "The whole answer matches this regular expression.", None)
    grammar: str | None = key(Text(), "The answer follows this grammar in Lark notation.", None)
    truncate: bool | None = key(Flag(), "embed and classify: use as much of a text as fits.", None)
    backend: Mapping[str, Any] | None = key(Anything(), "Parameters that only this model's backend knows.", None)

    @property
    def given(self) -> dict[str, Any]:
        """Those that are given."""
        return {name: value for name in shapes(type(self)) if (value := getattr(self, name)) is not None}


@attrs.frozen(kw_only=True)
class Execution:
    """How the kernel treats the task."""

    priority: int = key(Number(-1000, 1000, whole=True), "Larger is sooner.", 0)
    deadline: float | None = key(
        Number(0, MAX_SECONDS), "Seconds after which an input is given up, tries included.", None
    )
    retries: int = key(
        Number(0, 100, whole=True),
        "Further tries after an overload, a crash, too little memory, or an answer that is not as output says.",
        RETRIES,
    )


_ENCODING = {"properties": {"type": {"enum": ["embed", "classify"]}}}
_CHATTING = {"properties": {"type": {"const": "chat"}}}
_FORMS = ("regex", "grammar")
_RULES: Final[Schema] = {
    "allOf": [
        {"not": {"required": ["model", "require"]}},
        {"if": {"required": ["system"]}, "then": _CHATTING},
        {
            "if": _ENCODING,
            "then": {
                "not": {"anyOf": [{"required": ["output"]}, {"required": ["post"]}]},
                "properties": {"params": {"propertyNames": {"enum": ["truncate", "backend"]}}},
            },
            "else": {"properties": {"params": {"not": {"required": ["truncate"]}}}},
        },
        {
            "if": {"required": ["output"]},
            "then": {"properties": {"params": {"not": {"anyOf": [{"required": [form]} for form in _FORMS]}}}},
            "else": {
                "properties": {"params": {"not": {"required": list(_FORMS)}}},
                "not": {"required": ["constrain"]},
            },
        },
    ]
}
"""What `_contradictions` finds, as a schema."""


@attrs.frozen(kw_only=True)
class TaskFile:
    """A task that is kept in a file, to be run on inputs: `read` one, or `parse` the same as a mapping.

    The keys are those of the [task file](../reference/task-file.md).
    """

    type: str = key(
        Text(TYPES), "What is done: generate and chat answer with text, embed with a vector, classify with labels."
    )
    description: str = key(Text(), "What it is for, for people.", "")
    model: str = key(Text(), "The model's name, an alias, or the path of a model folder, which starts at the file.", "")
    require: Requirements | None = key(  # noqa: RUF009 - key makes a field, here and below
        Table(Requirements), "Instead of model: what a router chooses one by.", None
    )
    fallbacks: tuple[str, ...] = key(Names(), "Models that are tried where the first one fails.", ())
    system: str = key(Text(), "chat: what the model is told before anything else.", "")
    prompt: str = key(Text(), "What the model is asked. {{ name }} is a field of the input, {{ input }} all of it.", "")
    input: Mapping[str, Any] | None = key(
        Anything("a JSON schema", _a_schema),
        "JSON schema of the input; by default a text, or the fields of prompt.",
        None,
    )
    pre: tuple[str, ...] = key(Names(one=True), "Processors and pipelines that the prompt passes, in order.", ())
    post: tuple[str, ...] = key(Names(one=True), "Processors and pipelines that the answer passes, in order.", ())
    params: Parameters = key(Table(Parameters), "How the model answers.", Parameters())  # noqa: RUF009
    output: Mapping[str, Any] | None = key(
        Anything("a JSON schema", _a_schema), "JSON schema of the answer, which is then JSON, and checked.", None
    )
    constrain: bool = key(
        Flag(),
        "Whether the model is held to output; false for models that cannot be, whose answers are only checked.",
        True,
    )
    execution: Execution = key(Table(Execution), "How the kernel treats the task.", Execution())  # noqa: RUF009
    source: str = ""
    """The file that it was read from."""
    _checkers: dict[str, Checker] = attrs.field(factory=dict, init=False, repr=False, eq=False)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Return the task in the file at *path*.

        Raises `ConfigError` naming the file, the key, its value and what would be right; where several keys are wrong,
        its field ``others`` has what is wrong with the rest.
        """
        import tomllib  # noqa: PLC0415 - only who has a file needs it

        source = os.fspath(path)
        try:
            values = tomllib.loads(Path(path).read_bytes().decode())
        except OSError as error:
            raise _unreadable(source, f"cannot be read ({error.strerror})", "a file") from error
        except UnicodeDecodeError as error:
            raise _unreadable(source, f"is not UTF-8 (byte {error.start})", "UTF-8") from error
        except (ValueError, RecursionError) as error:
            raise _unreadable(source, f"is not valid TOML: {error}", "valid TOML") from error
        return cls.parse(values, source)

    @classmethod
    def parse(cls, values: Mapping[str, Any], source: str = "the task") -> Self:
        """Return the task that a file with these *values* holds; raises as `read` does."""
        try:
            found = Table(cls).read("", values)
        except Wrong as several:
            raise _located(several.errors, source) from several
        errors = [*_contradictions(found, values)]
        if errors:
            raise _located(errors, source)
        return attrs.evolve(found, source=source)

    def with_params(self, given: Mapping[str, Any], source: str = "the arguments") -> Self:
        """Return the task with these ``params`` instead of its own; keys that are none of them are the backend's.

        Raises `ConfigError`, naming *source*.
        """
        known = shapes(Parameters)
        own = {name: value for name, value in given.items() if name in known}
        others = {name: value for name, value in given.items() if name not in known}
        try:
            read = Table(Parameters).read("params", own)
        except Wrong as several:
            raise _located(several.errors, source) from several
        backend = {**(self.params.backend or {}), **(read.backend or {}), **others}
        params = attrs.evolve(self.params, **{**read.given, "backend": backend or None})
        task = attrs.evolve(self, params=params)
        values = {name: value for name in shapes(type(self)) if (value := getattr(self, name)) != _DEFAULTS[name]}
        errors = [*_contradictions(task, {**values, "params": params.given})]
        if errors:
            raise _located(errors, source)
        return task

    @staticmethod
    def schema() -> Schema:
        """Return the JSON schema (draft 7) of the file, for editors."""
        return {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "title": "Task of llmos",
            **Table(TaskFile, _RULES).schema(),
        }

    @property
    def chosen(self) -> str | Auto:
        """The model that the file names, or what a router chooses one by."""
        if self.require is not None:
            return self.require.auto
        if not self.model or not (os.sep in self.model or "/" in self.model):
            return self.model or AUTO
        return str(Path(self.source).parent / Path(self.model).expanduser())

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that the prompt takes from the input; empty where the input is one text."""
        return tuple(name for name in _placeholders(self.prompt) if name != WHOLE)

    def kind_of(self, field: str) -> object:
        """Return the type that the input's schema gives *field*; None where it gives none."""
        properties = (self.input or {}).get("properties")
        found = properties.get(field) if isinstance(properties, Mapping) else None
        return found.get("type") if isinstance(found, Mapping) else None

    @property
    def takes_fields(self) -> bool:
        """Whether the input is a mapping of fields."""
        schema = self.input or {}
        return bool(self.fields) or schema.get("type") == "object" or "properties" in schema

    def request(self, input: object) -> Request:
        """Return the request that runs the task on *input*, not aimed yet.  Raises `InvalidArgument`."""
        asked = self.asked(input)
        options = self.options()
        if self.type == "chat":
            asked = messages(cast("str", asked), self.system or None)
        elif self.type == "generate" and not self.pre:
            asked = prompt(asked)
        elif not self.pre:
            asked = encoder_input(asked)
        return text_request(self.type, asked, options, stream=False)

    def options(self) -> Options:
        """Return what the file says of how a model answers, as `Model.chat` and others take it."""
        given = self.params.given
        extra = given.pop("backend", {})
        truncate = {"truncate": True} if given.pop("truncate", False) else {}
        found: dict[str, Any] = {**given, "params": {**extra, **truncate}, "pre": self.pre, "post": self.post}
        if self.output is not None and self.constrain:
            found["schema"] = self.output
        return cast("Options", {**found, "priority": self.execution.priority, "deadline": self.execution.deadline})

    def value(self, text: str) -> Any:  # noqa: ANN401 - JSON
        """Return what the answer *text* says: itself, or the JSON that ``output`` asks for.

        Raises `InvalidArgument` for an answer that is not as ``output`` says.
        """
        if self.output is None:
            return text
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            expected = "JSON"
            raise InvalidArgument(
                f"the answer is no JSON ({error})", field="output", value=text, expected=expected
            ) from error
        self._check("output", found)
        return found

    def asked(self, input: object) -> object:
        """Return what the model is asked: the prompt with its placeholders filled, or *input* where there is none.

        A text fills the only field of a prompt that has one.  Raises `InvalidArgument` for an input that is not as the
        task says.
        """
        if isinstance(input, str) and len(self.fields) == 1:
            input = {self.fields[0]: input}
        self._check("input", input)
        if not self.prompt:
            return input
        values = input if isinstance(input, Mapping) else {}

        def put(found: re.Match[str]) -> str:
            name = found[1]
            if name not in values and name != WHOLE:
                raise unknown_field(name, values)
            value = values.get(name, input)
            return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

        return _PLACEHOLDER.sub(put, self.prompt)

    def _check(self, name: str, value: object) -> None:
        schema = getattr(self, name)
        if schema is None:
            return
        if name not in self._checkers:
            self._checkers[name] = Checker(name, schema)
        self._checkers[name].check(value)


_DEFAULTS: Final[Mapping[str, object]] = {field.name: field.default for field in attrs.fields(TaskFile)}


def unknown_field(name: str, known: Mapping[str, object]) -> InvalidArgument:
    """Return the error for an input without the field *name*."""
    has = f"it has {', '.join(map(repr, known))}" if known else "it is one text"
    message = f"the input has no field {name!r}: {has}"
    return InvalidArgument(message, field=name, value=None, expected=f"an input with the field {name!r}", nearest=None)


def _placeholders(text: str) -> dict[str, None]:
    """Return the names in the placeholders of *text*, in order, each once."""
    return dict.fromkeys(_PLACEHOLDER.findall(text))


def _contradictions(task: TaskFile, values: Mapping[str, Any]) -> Iterator[InvalidArgument]:
    """Yield what does not fit together, key by key; `_RULES` says the same, but for placeholders."""
    params, text = values.get("params", {}), task.type in TEXT_TYPES
    texts, encoders = f"left out: it is for type = {' or '.join(TEXT_TYPES)}", ("truncate", "backend")
    rules: list[tuple[bool, str, str]] = [
        ("model" in values and "require" in values, "require", "left out beside model: one of them chooses"),
        ("system" in values and task.type != "chat", "system", "left out: it is for type = chat"),
        *((name in values and not text, name, texts) for name in ("output", "post")),
        ("constrain" in values and "output" not in values, "constrain", "left out: it is about output"),
        ("truncate" in params and text, "params.truncate", "left out: it is for type = embed or classify"),
        *((not text and name not in encoders, f"params.{name}", texts) for name in params),
        (all(form in params for form in _FORMS), "params.grammar", "left out beside regex: one says the form"),
    ]
    forms = [form for form in _FORMS if form in params and "output" in values]
    rules += [(True, f"params.{form}", "left out beside output: one says the form") for form in forms]
    yield from (wrong(name, _at(values, name), expected) for broken, name, expected in rules if broken)
    yield from _lost_placeholders(task)


def _lost_placeholders(task: TaskFile) -> Iterator[InvalidArgument]:
    """Yield what is wrong with the names in the prompt's placeholders."""
    properties = (task.input or {}).get("properties")
    known = [*properties] if isinstance(properties, Mapping) else None
    if known is None and (task.input or {}).get("type") == "string":
        known = []
    for name in _placeholders(task.prompt):
        if not name.isidentifier():
            yield wrong("prompt", task.prompt, "a text whose placeholders are names", f": {{{{ {name} }}}} is none")
        elif name != WHOLE and known is not None and name not in known:
            yield wrong(
                "prompt",
                task.prompt,
                f"a text with placeholders of {', '.join((*known, WHOLE))}",
                _nearest(name, known),
            )


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f": the input has no {name!r}" + (f", did you mean {near[0]!r}?" if near else "")


def _at(values: Mapping[str, Any], name: str) -> object:
    """Return what stands under the key *name*."""
    table, dot, inner = name.partition(".")
    return values[table][inner] if dot else values[table]


def _unreadable(source: str, why: str, expected: str) -> ConfigError:
    return ConfigError(
        f"the task file {source} {why}", field="file", value=source, expected=expected, source=source, others=[]
    )


def _located(errors: Sequence[InvalidArgument], source: str) -> ConfigError:
    """Return one error for all of *errors*, of which the first gives it its fields."""
    first, *others = errors
    more = "".join(f"; also, {error.message}" for error in others)
    fields = {**first.fields, "source": source, "others": [error.to_wire() for error in others]}
    return ConfigError(f"{source}: {first.message}{more}", **fields)
