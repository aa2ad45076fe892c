"""Tasks in files: what they may say, what is said of those that are wrong, and what running them gives."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llmos
from llmos import AsyncClient, Client, TaskFile
from llmos._targets import Target
from llmos._task_runs import Attempts
from llmos.testing import EchoBackend
from llmos_kernel import Kernel
from llmos_kernel.errors import (
    ConfigError, DeadlineExceeded, ExecutorCrashed, InvalidArgument, OutOfMemory, Overloaded, PluginMissing,
)  # fmt: skip

EVERYTHING = """
type = "chat"
description = "Sums up"
require = { capabilities = ["code"], languages = ["de"], context = 10, cost = 1.5, models = ["a"], avoid = ["b"] }
fallbacks = ["toy"]
system = "Be brief"
prompt = "{{ text }} in {{ words }} of {{ input }}"
pre = "tidy"
post = ["tidy", "json-repair"]
constrain = false

[input]
type = "object"
required = ["text"]
[input.properties]
text = { type = "string" }
words = { type = "integer" }

[params]
max_tokens = 5
min_tokens = 0
temperature = 0.5
top_k = 3
top_p = 0.5
min_p = 0.1
repetition_penalty = 1.1
presence_penalty = 0.1
frequency_penalty = 0.2
logit_bias = { 7 = -3 }
seed = 7
stop = "x"
logprobs = 2
backend = { ignore_eos = true }

[output]
type = "array"

[execution]
priority = 5
deadline = 10
retries = 1
"""
GOOD = {"type": "generate", "model": "echo"}
VALIDATOR = jsonschema.Draft7Validator(TaskFile.schema())
NESTED: dict[str, dict[str, Any]] = {
    "require": {"capabilities": "code", "languages": [1], "context": -1, "cost": "cheap", "models": [""], "avoid": {}},
    "params": {
        "max_tokens": 0, "min_tokens": -1, "temperature": 101, "top_k": 1.5, "top_p": 1.1, "min_p": "x",
        "repetition_penalty": 0, "presence_penalty": 101, "frequency_penalty": -101, "logit_bias": {"a": 1}, "seed": -1,
        "stop": [1], "logprobs": -1, "regex": "", "grammar": 3, "truncate": 1, "backend": [],
    },
    "execution": {"priority": 1001, "deadline": -1, "retries": 1.5},
}  # fmt: skip
"""A wrong value for each key of the tables."""
FLAT: dict[str, Any] = {
    "type": "tolk", "description": 3, "model": "", "require": [], "fallbacks": "toy", "system": 1, "prompt": ["a"],
    "input": "text", "pre": [""], "post": 1, "params": 3, "output": [], "constrain": "yes", "execution": 2,
}  # fmt: skip
"""The same for the file itself."""
WRONG = [
    *(((key,), value) for key, value in FLAT.items()),
    *(((table, key), value) for table, keys in NESTED.items() for key, value in keys.items()),
]


def toml(values: object) -> str:
    """Return plain *values* as TOML has them within a line."""
    if isinstance(values, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(value)}" for key, value in values.items()) + "}"
    if isinstance(values, list):
        return f"[{', '.join(map(toml, values))}]"
    return json.dumps(values)


def written(folder: Path, values: dict[str, Any]) -> Path:
    """Write a task file."""
    file = folder / "task.toml"
    file.write_text("".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in values.items()), "utf-8")
    return file


def at(name: tuple[str, ...], value: object) -> dict[str, Any]:
    """Return a good file with *value* at *name*."""
    return {**GOOD, name[0]: value if len(name) == 1 else {name[1]: value}}


# --- reading ---------------------------------------------------------------------------------------------------


def test_everything(tmp_path: Path) -> None:
    """Each key is read, and becomes what the task is scheduled with."""
    file = tmp_path / "sum.toml"
    file.write_text(EVERYTHING, "utf-8")
    task = TaskFile.read(file)
    request = task.request({"text": "a", "words": 3})
    asked: Any = request.task.input

    assert VALIDATOR.is_valid(tomllib.loads(EVERYTHING))
    assert ("text", "words") == task.fields
    assert llmos.Auto(("de",), ("code",), 10, 1.5, ("a",), ("b",)) == task.chosen
    assert ["Be brief", 'a in 3 of {"text": "a", "words": 3}'] == [one["content"] for one in asked]
    assert (("tidy",), ("tidy", "json-repair"), 5, 10) == (
        request.task.pre, request.task.post, request.task.priority, request.task.deadline,
    )  # fmt: skip
    assert {
        "max_tokens": 5, "min_tokens": 0, "temperature": 0.5, "top_k": 3, "top_p": 0.5, "min_p": 0.1,
        "repetition_penalty": 1.1, "presence_penalty": 0.1, "frequency_penalty": 0.2, "logit_bias": {7: -3}, "seed": 7,
        "stop": ("x",), "logprobs": 2, "ignore_eos": True,
    } == request.task.params  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda one: ".".join(one) if isinstance(one, tuple) else "")
def test_each_key_wrong(name: tuple[str, ...], value: object, tmp_path: Path) -> None:
    """One typed error names file, key, value and what would be right; the editor's schema refuses it too."""
    file = written(tmp_path, at(name, value))
    with pytest.raises(ConfigError) as caught:
        TaskFile.read(file)
    fields = caught.value.fields

    assert (str(file), []) == (fields["source"], fields["others"])
    assert str(fields["field"]).startswith(".".join(name))
    assert fields["expected"]
    assert str(file) in caught.value.message
    assert ".".join(name) in caught.value.message
    assert not VALIDATOR.is_valid(at(name, value))


@pytest.mark.parametrize(
    ("name", "nearest"),
    [(("modle",), "model"), (("params", "temprature"), "temperature"), (("execution", "retry"), "retries"),
     (("require", "language"), "languages")],
)  # fmt: skip
def test_an_unknown_key(name: tuple[str, ...], nearest: str) -> None:
    """The nearest one is named."""
    with pytest.raises(ConfigError, match=f"there is no key '{'.'.join(name)}'; did you mean '{nearest}'") as caught:
        TaskFile.parse(at(name, 1))

    assert nearest == caught.value.fields["nearest"]


def test_several_keys_wrong() -> None:
    """All of them are told at once, in their order, each with its own fields."""
    with pytest.raises(ConfigError) as caught:
        TaskFile.parse({"model": 3, "params": {"top_p": 2, "top": 1}, "zzz": 1}, "a.toml")
    others: Any = caught.value.fields["others"]

    assert ["model", "params.top_p", "params.top", "zzz", "type"] == [
        caught.value.fields["field"], *(other["fields"]["field"] for other in others),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"type": "chat", "model": "a", "require": {}}, "require"),
        ({"type": "generate", "system": "a"}, "system"),
        ({"type": "embed", "output": {}}, "output"),
        ({"type": "classify", "post": ["a"]}, "post"),
        ({"type": "embed", "params": {"top_k": 1}}, "params.top_k"),
        ({"type": "chat", "params": {"truncate": True}}, "params.truncate"),
        ({"type": "chat", "constrain": False}, "constrain"),
        ({"type": "chat", "output": {}, "params": {"regex": "a"}}, "params.regex"),
        ({"type": "chat", "params": {"regex": "a", "grammar": "b"}}, "params.grammar"),
    ],
)
def test_what_does_not_fit_together(values: dict[str, Any], field: str) -> None:
    """It is an error of the key that should go; editors say so too."""
    with pytest.raises(ConfigError, match=rf"^t.toml: {field} must be left out") as caught:
        TaskFile.parse(values, "t.toml")

    assert field == caught.value.fields["field"]
    assert not VALIDATOR.is_valid(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompt": "{{ txet }}", "input": {"properties": {"text": {}}}}, "has no 'txet', did you mean 'text'"),
        ({"prompt": "{{ text }}", "input": {"type": "string"}}, "placeholders of input, not"),
        ({"prompt": "{{ 1 + 1 }}"}, "{{ 1 + 1 }} is none"),
        ({"input": {"type": 3}}, "input.type is not what a JSON schema has there"),
        ({"output": {"$ref": "https://example.org/a.json"}}, "output refers to 'https://example.org/a.json'"),
    ],
)
def test_what_only_the_reader_sees(values: dict[str, Any], message: str) -> None:
    """Names in placeholders, and schemas that are none, or are elsewhere: nothing is fetched."""
    with pytest.raises(ConfigError) as caught:
        TaskFile.parse({**GOOD, **values})

    assert message in caught.value.message
    assert VALIDATOR.is_valid({**GOOD, **values})


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"type = ", "is not valid TOML"), (b"type = '\xff'", "is not UTF-8 (byte 8)"), (b"a = " + b"[" * 10**5, "TOML")],
)
def test_unreadable(data: bytes, message: str, tmp_path: Path) -> None:
    """A file that is no TOML is one error that says so."""
    (tmp_path / "a.toml").write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        TaskFile.read(tmp_path / "a.toml")

    assert message in caught.value.message


def test_no_file(tmp_path: Path) -> None:
    """So is a file that is not there."""
    with pytest.raises(ConfigError, match="cannot be read"):
        TaskFile.read(tmp_path / "a.toml")


def test_a_path_starts_at_the_file(tmp_path: Path) -> None:
    """A model may lie beside the task."""
    task = TaskFile.read(written(tmp_path, {"type": "chat", "model": "models/mine"}))

    assert str(tmp_path / "models" / "mine") == task.chosen
    assert "tiny" == TaskFile.parse({"type": "chat", "model": "tiny"}).chosen
    assert "auto" == TaskFile.parse({"type": "chat"}).chosen


def test_the_schema_is_shipped() -> None:
    """The file that editors are given is what the declarations say."""
    shipped = Path(llmos.__file__).with_name("task.schema.json")

    assert TaskFile.schema() == json.loads(shipped.read_text("utf-8"))


VALUES = st.sampled_from(
    [1, 0, -1, 1.5, 2.0, True, "", "a", "chat", "embed", "generate", [], ["a"], [""], [1], {}, {"a": 1}, {"7": 1}]
)
KEYS = ["type", *FLAT, "modle"]
TABLES = {name: st.dictionaries(st.sampled_from([*keys, "zzz"]), VALUES, max_size=3) for name, keys in NESTED.items()}
FILES = st.dictionaries(
    st.sampled_from([key for key in KEYS if key not in ("input", "output", "prompt")]), VALUES, max_size=4
)
TYPED = st.sampled_from([*("generate", "chat", "embed", "classify"), "tolk"])
GENERATED = st.builds(
    lambda kind, flat, tables, output: {**flat, "type": kind, **tables, **output},
    TYPED, FILES, st.fixed_dictionaries({}, optional=TABLES), st.sampled_from([{}, {}, {"output": {}}]),
)  # fmt: skip


@settings(max_examples=600, deadline=None, derandomize=True, database=None)
@given(GENERATED)
def test_editors_and_the_reader_agree(values: dict[str, Any]) -> None:
    """A file is wrong for the schema if and only if it is for the reader."""
    try:
        TaskFile.parse(values)
        read = True
    except ConfigError:
        read = False

    assert VALIDATOR.is_valid(values) == read


# --- running ---------------------------------------------------------------------------------------------------


def test_one_input(client: Client) -> None:
    """A text fills the only placeholder; the answer tells what it is and how it came about."""
    task = TaskFile.parse({**GOOD, "prompt": "say {{ text }}", "params": {"max_tokens": 2}})
    answer = client.run(task, "one two")

    assert ("say one", "echo", "length", 1, None) == (
        answer.value, answer.model, answer.finish, answer.tries, answer.error,
    )  # fmt: skip
    assert 2 == answer.usage.generated
    assert "say three" == client.run(task, {"text": "three"}).value


@pytest.mark.parametrize(("kind", "value"), [("embed", [2.0, 3.0]), ("classify", {"even": 1.0, "odd": 0.0})])
def test_what_is_no_text(client: Client, kind: str, value: object) -> None:
    """Vectors and labels are values."""
    assert value == client.run(TaskFile.parse({"type": kind, "model": "echo"}), "a b").value


def test_messages(client: Client) -> None:
    """A chat without a prompt takes a conversation as well."""
    task = TaskFile.parse({"type": "chat", "model": "echo", "system": "be brief"})

    assert "b" == client.run(task, [{"role": "user", "content": "b"}]).value


async def test_asyncio(kernel: Kernel) -> None:
    """The same for asyncio."""
    async with AsyncClient(kernel=kernel) as client:
        answer = await client.run(TaskFile.parse({**GOOD, "output": {"type": "array"}}), "[1,2]")

        assert [1, 2] == answer.value
        with pytest.raises(InvalidArgument, match="no JSON"):
            await client.run(TaskFile.parse({**GOOD, "output": {"type": "array"}}), "[1,")


def test_a_wrong_input(client: Client) -> None:
    """It is refused with the place and what the schema has there; a field that is missing is named."""
    schema = {"properties": {"words": {"type": "integer"}}}
    with pytest.raises(InvalidArgument, match=r"input\.words: 'x' is not of type 'integer'"):
        client.run(TaskFile.parse({**GOOD, "input": schema, "prompt": "{{ words }}"}), {"words": "x"})
    with pytest.raises(InvalidArgument, match="the input has no field 'b': it has 'a'"):
        client.run(TaskFile.parse({**GOOD, "prompt": "{{ a }} {{ b }}"}), {"a": "x"})
    with pytest.raises(InvalidArgument, match="the input has no field 'a': it is one text"):
        client.run(TaskFile.parse({**GOOD, "prompt": "{{ a }} {{ b }}"}), "x")


def test_placeholders_are_filled_once(client: Client) -> None:
    """What is put in is never read as a template; what is no text is JSON."""
    task = TaskFile.parse({**GOOD, "prompt": "{{a}} {{ b }}"})

    assert '{{ b }} {"c": [1]}' == client.run(task, {"a": "{{ b }}", "b": {"c": [1]}}).value


def test_structured_output(client: Client, echo: EchoBackend) -> None:
    """The model is held to the schema, and its answer is checked; with constrain = false it is only checked."""
    output = {"type": "object", "required": ["a"]}
    task = TaskFile.parse({**GOOD, "output": output})

    assert {"a": 1} == client.run(task, '{"a": 1}').value
    assert output == echo.executors[0].tasks[-1].params["schema"]
    assert {"a": 1} == client.run(TaskFile.parse({**GOOD, "output": output, "constrain": False}), '{"a": 1}').value
    assert {} == dict(echo.executors[0].tasks[-1].params)
    with pytest.raises(InvalidArgument, match="'a' is a required property"):
        client.run(task, "{}")


def fails(echo: EchoBackend, error: BaseException, times: int) -> Callable[[int, object], None]:
    """Return what makes the next *times* steps raise *error*."""
    left = [times]

    def on_step(number: int, plan: object) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise error

    return on_step


@pytest.mark.parametrize("error", [OutOfMemory("full"), ExecutorCrashed("gone"), Overloaded("busy", retry_after=0.001)])
def test_what_another_try_can_mend(client: Client, echo: EchoBackend, error: BaseException) -> None:
    """A crash, an overload and too little memory are tried again, as often as the file says."""
    echo.faults.on_step = fails(echo, error, 2)

    answer = client.run(TaskFile.parse(GOOD), "a")

    assert ("a", 3) == (answer.value, answer.tries)
    echo.faults.on_step = fails(echo, error, 2)
    with pytest.raises((OutOfMemory, ExecutorCrashed, Overloaded)):
        client.run(TaskFile.parse({**GOOD, "execution": {"retries": 1}}), "a")


def test_what_no_try_can_mend(client: Client, echo: EchoBackend) -> None:
    """A caller's mistake is not tried again."""
    with pytest.raises(InvalidArgument):
        client.run(TaskFile.parse(GOOD), " ")

    assert 1 == len(echo.executors[0].tasks)


@pytest.mark.parametrize(
    ("params", "seeds"), [({}, [None] * 3), ({"seed": 7}, [7, 8, 9]), ({"temperature": 0}, [None])]
)
def test_an_answer_that_does_not_fit_is_tried_again(
    client: Client, echo: EchoBackend, params: dict[str, Any], seeds: list[int | None]
) -> None:
    """With another seed where one is given; never where the likeliest tokens would be the same again."""
    task = TaskFile.parse({**GOOD, "output": {"type": "array"}, "params": params})
    with pytest.raises(InvalidArgument, match=r"output: 3 is not of type 'array'"):
        client.run(task, "3")

    assert seeds == [one.params.get("seed") for one in echo.executors[0].tasks]


def test_when_to_try_again() -> None:
    """After an overload, when it says so, or never; and not where the deadline, which is for all tries, would pass."""
    now = [0.0]
    task = TaskFile.parse({**GOOD, "execution": {"deadline": 30, "retries": 9}})
    attempts = Attempts(task, "a", (Target("echo", "echo"),), lambda: now[0])

    assert 5.0 == attempts.again(Overloaded("busy", retry_after=5.0))
    assert None is attempts.again(Overloaded("busy", retry_after=None))
    assert 0.0 == attempts.again(Overloaded("busy"))
    now[0] = 12.0
    assert 0.0 == attempts.again(ExecutorCrashed("gone"))
    assert 18.0 == attempts.tries().request.task.deadline
    assert None is attempts.again(Overloaded("busy", retry_after=18.0))
    assert None is attempts.again(PluginMissing("none"))


def test_the_deadline(client: Client) -> None:
    """It ends an input."""
    with pytest.raises(DeadlineExceeded):
        client.run(TaskFile.parse({**GOOD, "execution": {"deadline": 0}}), "a")


def test_many_inputs(client: Client) -> None:
    """Answers come in the order of the inputs; one that fails is an answer with an error, and ends no other."""
    task = TaskFile.parse({**GOOD, "prompt": "{{ text }}"})
    inputs: list[object] = [{"text": str(number)} for number in range(20)]
    inputs[3], inputs[7] = {"txet": ""}, {"text": " "}
    answers = list(client.run_each(task, inputs, at_once=3))

    assert [str(number) for number in range(20) if number not in (3, 7)] == [
        answer.value for answer in answers if answer.error is None
    ]
    assert [3, 7] == [number for number, answer in enumerate(answers) if isinstance(answer.error, InvalidArgument)]


def test_inputs_are_taken_as_they_are_needed(client: Client) -> None:
    """No more are under way than there may be, so that memory does not grow with the inputs."""
    taken: list[int] = []

    def endless() -> Any:
        while True:
            taken.append(1)
            yield "a"

    answers = client.run_each(TaskFile.parse(GOOD), endless(), at_once=4)
    for _ in range(10):
        next(answers)
    answers.close()  # type: ignore[attr-defined]

    assert 13 == len(taken)


def test_what_would_fail_for_every_input_is_raised(client: Client) -> None:
    """A processor that nobody has ends the run."""
    with pytest.raises(PluginMissing):
        list(client.run_each(TaskFile.parse({**GOOD, "pre": "nope"}), ["a", "b"]))


def test_params_from_elsewhere() -> None:
    """They win over the file's, are checked like them, and what is none of them is the backend's."""
    task = TaskFile.parse({**GOOD, "params": {"top_k": 3, "temperature": 1}}).with_params({"top_k": 4, "own": 5})

    assert {"top_k": 4, "temperature": 1, "own": 5} == task.request("a").task.params
    with pytest.raises(ConfigError, match=r"^the arguments: params\.top_p must be a number from 0 to 1"):
        task.with_params({"top_p": 2})
    with pytest.raises(ConfigError, match=r"params\.top_k must be left out"):
        TaskFile.parse({"type": "embed"}).with_params({"top_k": 2})
