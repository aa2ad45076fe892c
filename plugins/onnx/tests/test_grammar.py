"""Structured output: what comes out has the form that was asked for, and nobody else notices."""

from __future__ import annotations

import json
import random
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from llmos_kernel.api import Task
from llmos_kernel.contracts import Preemption
from llmos_kernel.errors import InvalidArgument
from llmos_onnx.executor import OnnxExecutor
from llmos_onnx.export import export_model
from llmos_onnx.grammar import Constraint, Grammars
from plugins.onnx.tests.driver import Driver, Row, load
from plugins.onnx.tests.random_schemas import random_schema
from plugins.onnx.tests.test_text import CODECS

POINT = {
    "type": "object", "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 99}, "on": {"type": "boolean"}},
    "required": ["x", "on"], "additionalProperties": False,
}  # fmt: skip
DEEP = "\n".join(f'r{number}: "a" r{number + 1}' for number in range(5000))
LEVELS: dict[str, Any] = {f"d{at}": {"type": "array", "items": {"$ref": f"#/$defs/d{at + 1}"}} for at in range(1500)}
EXPLODING: dict[str, dict[str, Any]] = {
    "intersections": {"grammar": "start: A\nA: " + " & ".join(f"/(.*a.{{{count}}}b.*)/" for count in range(100))},
    "definitions": {"grammar": f'start: r0\n{DEEP}\nr5000: "b"'},
    "references": {"schema": {"$defs": LEVELS | {"d1500": {}}, "$ref": "#/$defs/d0"}},
}


@pytest.fixture(scope="module")
def executor(model_folder: Callable[[str, str], Path]) -> Iterator[OnnxExecutor]:
    """An executor of eight slots for a model of random weights."""
    executor = load(model_folder("nano", "fp32"), slots=8, context=512, threads=2)
    yield executor
    executor.close()


def run(executor: OnnxExecutor, **params: Any) -> Row:
    """Run one task alone; sampled with a seed."""
    driver = Driver(executor)
    row = driver.add(0, [40, 41, 42], **{"max_tokens": 200, "temperature": 1.0, "seed": 4, **params})
    driver.finish()
    return row


def run_all(executor: OnnxExecutor, schemas: list[dict[str, Any]]) -> list[Row]:
    """Run a task per schema, as many at once as there are slots."""
    driver, waiting = Driver(executor), list(enumerate(schemas))
    while waiting or not all(row.ended for row in driver.rows.values()):
        while waiting and executor.limits.free:
            number, schema = waiting.pop(0)
            driver.add(number, [50, 51, 52], schema=schema, temperature=1.0, seed=number, max_tokens=480)
        driver.step()
    return [driver.rows[number] for number in range(len(schemas))]


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.nightly)])
def test_random_schemas(executor: OnnxExecutor, count: int) -> None:
    """At temperature 1, a model that knows nothing writes what another implementation finds valid, every time."""
    schemas = [random_schema(seed) for seed in range(count)]
    rows = run_all(executor, schemas)

    assert ["stop"] * count == [row.finish for row in rows]
    for schema, row in zip(schemas, rows, strict=True):
        Draft202012Validator(schema).validate(json.loads(row.text))
    assert len({row.text for row in rows}) > count / 2


@pytest.mark.parametrize(
    "pattern", ["(yes|no)", "[a-z]{3,9}(, [a-z]{1,3}){0,2}\\.", "[0-9]{4}-[01][0-9]", "ü{2,4}|日本", "a\nb?c{0,3}"]
)
def test_regex(executor: OnnxExecutor, pattern: str) -> None:
    """The whole text matches the expression, also where characters take several tokens."""
    rows = [run(executor, regex=pattern, seed=seed) for seed in range(8)]

    assert ["stop"] * 8 == [row.finish for row in rows]
    assert all(re.fullmatch(pattern, row.text) for row in rows), [row.text for row in rows]


def test_grammar(executor: OnnxExecutor) -> None:
    """A grammar in Lark notation may refer to itself."""
    grammar = (
        'start: sum\nsum: term ("+" term){1,3}\nterm: NUMBER | "(" NUMBER "*" NUMBER ")"\nNUMBER: /[1-9][0-9]{0,2}/'
    )
    for seed in range(8):
        row = run(executor, grammar=grammar, seed=seed)

        assert re.fullmatch(r"[0-9+*()]+", row.text)
        assert isinstance(eval(row.text), int)  # noqa: S307 - digits and four signs, as just checked


@pytest.mark.parametrize("how", ["keep", "swap", "drop"])
def test_same_text_in_company_and_after_preemption(executor: OnnxExecutor, how: Preemption) -> None:
    """Rows with and without a grammar, preempted again and again, get the tokens that each gets alone."""
    asked: list[dict[str, Any]] = [
        {"schema": POINT}, {}, {"regex": "[a-z ]{30,60}"}, {"grammar": 'start: ("ab" | "cd"){20}'},
        {"schema": random_schema(3), "top_k": 5, "top_p": 0.9}, {"min_p": 0.05, "ignore_eos": True},
    ]  # fmt: skip
    settings = [{"max_tokens": 60, "temperature": 1.0, "seed": seed, **one} for seed, one in enumerate(asked)]
    expected = [run(executor, **one) for one in settings]
    driver = Driver(executor)
    for index, one in enumerate(settings):
        driver.add(index, [40, 41, 42], **one)
    driver.finish_preempting(how, random.Random(3))

    assert [row.tokens for row in expected] == [driver.rows[index].tokens for index in range(len(asked))]
    assert [row.text for row in expected] == [driver.rows[index].text for index in range(len(asked))]


def test_end_token_only_where_the_grammar_ends(executor: OnnxExecutor) -> None:
    """A model that wants to end at once ends with the shortest text that the grammar takes, and not before."""
    row = run(executor, regex="[a-c]{3,50}", logit_bias={1: 100.0})

    assert 3 <= len(row.text) < 3 + executor._parts.codec.longest
    assert (1, "stop") == (row.tokens[-1], row.finish)


def test_text_ends_by_itself(executor: OnnxExecutor) -> None:
    """Where nothing may follow, the output ends with its last token, without an end token."""
    row = run(executor, regex="abc")

    assert ("abc", "stop") == (row.text, row.finish)
    assert 1 not in row.tokens


def test_fewest_tokens(executor: OnnxExecutor) -> None:
    """min_tokens keeps the end away while the grammar has something else to say, and no longer."""
    wanting_to_end = {"logit_bias": {1: 100.0}, "min_tokens": 12}

    assert len(run(executor, regex="a{1,100}", **wanting_to_end).tokens) >= 12
    assert "ab" == run(executor, regex="ab", **wanting_to_end).text


def test_bias_cannot_break_the_grammar(executor: OnnxExecutor) -> None:
    """A bias chooses among what is allowed; it makes nothing possible."""
    letters = dict.fromkeys(executor._parts.codec.encode("z"), 100.0)
    row = run(executor, regex="[ab]{5}", logit_bias=letters)

    assert re.fullmatch("[ab]{5}", row.text)


def test_stop_string_ends_inside_the_grammar(executor: OnnxExecutor) -> None:
    """A stop string ends the output wherever it comes, as it does without a grammar."""
    row = run(executor, regex="a{3}END.*", stop="END")

    assert ("aaa", "stop") == (row.text, row.finish)


def test_length_cuts(executor: OnnxExecutor) -> None:
    """max_tokens ends the output before the grammar does, and finish says so."""
    row = run(executor, regex="a{100}", max_tokens=3)

    assert "length" == row.finish


@pytest.mark.parametrize(
    "asked", [{"regex": "[^x]{8}"}, {"schema": {"type": "string", "minLength": 8, "maxLength": 8}}]
)
def test_control_tokens_are_no_text(executor: OnnxExecutor, asked: dict[str, Any]) -> None:
    """However likely, a control token is not taken for the text that spells it."""
    controls = {id: 100.0 for id in executor._parts.codec.control_ids if id != 1}
    row = run(executor, logit_bias=controls, **asked)

    assert executor._parts.codec.control_ids.isdisjoint(row.tokens)
    assert "stop" == row.finish


def test_control_token_that_the_grammar_names(executor: OnnxExecutor) -> None:
    """A grammar may ask for a control token by its name; it shows no text."""
    row = run(executor, grammar='start: "a" <|im_start|> "b"')

    assert [2] == [id for id in row.tokens if id in executor._parts.codec.control_ids]
    assert "ab" == row.text


def test_log_probabilities_are_the_model_s_own(executor: OnnxExecutor) -> None:
    """They are those of the distribution before the grammar."""
    free = run(executor, logprobs=5).logprobs[0]["top"]
    bound = run(executor, logprobs=5, regex="[0-9]{4}").logprobs

    assert free == bound[0]["top"]
    assert all(report["logprob"] < 0 for report in bound)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"schema": {"type": "strin"}}, "strin"),
        ({"schema": {"not": {"type": "string"}}}, "not"),
        ({"schema": {"type": "array", "uniqueItems": True}}, "uniqueItems"),
        ({"schema": {"$ref": "#"}}, "no text"),
        ({"schema": {"$ref": "http://127.0.0.1:1/schema.json"}}, "127.0.0.1"),
        ({"schema": []}, "a mapping"),
        ({"schema": {"const": float("nan")}}, "plain values"),
        ({"schema": {"const": object()}}, "plain values"),
        ({"regex": "("}, "unclosed"),
        ({"regex": ""}, "1 to"),
        ({"regex": "a" * 200_000}, "131072"),
        ({"regex": r"(a)\1"}, "backreferences"),
        ({"regex": r"[^\s\S]"}, "no text"),
        ({"grammar": "start: missing"}, "missing"),
        ({"grammar": "start: " + "(" * 3000 + '"a"' + ")" * 3000}, "nested"),
        ({"regex": "a", "schema": {}}, "beside"),
        ({"regex": "a", "ignore_eos": True}, "where the end is"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_malformed(executor: OnnxExecutor, asked: dict[str, Any], said: str) -> None:
    """What cannot be followed is refused when the task is prepared, with its field and the reason."""
    with pytest.raises(InvalidArgument) as caught:
        executor.prepare(0, Task("generate", None, [5, 6], params=asked))

    assert caught.value.fields["field"] in {f"params.{name}" for name in asked}
    assert said in str(caught.value)
    assert len(str(caught.value)) < 600


def test_deep_schema(executor: OnnxExecutor) -> None:
    """A schema of thousands of levels is refused, whatever Python's own limit is."""
    schema: dict[str, Any] = {}
    for _ in range(100_000):
        schema = {"items": schema}
    with pytest.raises(InvalidArgument, match="schema"):
        executor.prepare(0, Task("generate", None, [5, 6], params={"schema": schema}))


@pytest.mark.parametrize("name", EXPLODING)
def test_exploding(executor: OnnxExecutor, name: str) -> None:
    """A grammar that would take minutes, or the process with it, is refused after less than a second of computing.

    Whoever runs beside it, with a grammar or without, is not disturbed, and the next grammar is taken.
    """
    expected = run(executor, schema=POINT)
    driver = Driver(executor)
    row = driver.add(0, [40, 41, 42], schema=POINT, max_tokens=200, temperature=1.0, seed=4)
    driver.step()
    executor._parts.grammars.close()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with pytest.raises(InvalidArgument, match=r"0\.5 s"):
        executor.prepare(1, Task("generate", None, [5, 6], params=EXPLODING[name]))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    driver.finish()

    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
    assert expected.tokens == row.tokens
    assert "ab" == run(executor, regex="ab").text


def test_grammar_that_explodes_later(executor: OnnxExecutor) -> None:
    """A grammar whose next step takes too much fails its own row, with the parameter's name."""
    driver = Driver(executor)
    many = " ".join(["x?"] * 3000)
    bad = driver.add(0, [5, 6], grammar=f'start: "qqq" rest\nrest: {many}\nx: "a" | "b"', temperature=1.0, seed=1)
    good = driver.add(1, [5, 6, 7], max_tokens=30, regex="[a-z]{8}", temperature=1.0, seed=1)
    driver.finish()

    assert isinstance(bad.error, InvalidArgument)
    assert "params.grammar" == bad.error.fields["field"]
    assert re.fullmatch("[a-z]{8}", good.text)


def walk(grammars: Grammars, constraint: Constraint, seed: int, words: int) -> tuple[list[int], bool]:
    """Return the tokens of a random way through *constraint*, and whether it came to its end by itself."""
    matcher, chance = grammars.matcher(constraint), random.Random(seed)
    tokens: list[int] = []
    while len(tokens) < 100:
        bits = np.unpackbits(matcher.allowed(np.zeros(0, np.int64)).view(np.uint8), bitorder="little")
        assert words == len(bits) // 32
        tokens.append(chance.choice(np.flatnonzero(bits).tolist()))
        if matcher.advance(tokens[-1]):
            return tokens, True
    return tokens, False


@pytest.mark.parametrize("kind", list(CODECS))
def test_families_of_tokenizers(kind: str) -> None:
    """Byte-level and byte-fallback tokenizers are both understood; ids that stand for nothing are never allowed."""
    codec = CODECS[kind]
    grammars = Grammars(codec.marked_json, 640, (2,))
    for seed in range(20):
        tokens, ended = walk(grammars, Constraint("regex", "[a-zé中😀]{3,6}!"), seed, 20)

        assert ended
        assert max(tokens) < 520
        assert re.fullmatch("[a-zé中😀]{3,6}!", codec.decode(tokens))
    grammars.close()


def test_model_without_an_end_token(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """Where no token ends the output, it ends when nothing may follow, or with another control token."""
    source, target = tmp_path / "checkpoint", tmp_path / "model"
    shutil.copytree(checkpoint("nano"), source)
    for name in ("generation_config.json", "tokenizer_config.json"):
        (source / name).write_text("{}")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({key: config[key] for key in config if "eos" not in key}))
    export_model(source, target, weights="fp32")
    executor = load(target, slots=2, context=64, threads=1)
    rows = [run(executor, regex=pattern, max_tokens=60, seed=3) for pattern in ("ab?c", "a{1,20}")]
    executor.close()

    assert ["stop", "stop"] == [row.finish for row in rows]
    assert re.fullmatch("ab?c", rows[0].text)
    assert re.fullmatch("a{1,20}", rows[1].text)


def test_tokenizer_that_cannot_be_followed() -> None:
    """A tokenizer whose tokens are no pieces of text refuses constraints, by name."""
    grammars = Grammars(lambda: '{"model": {"type": "Unheard"}}', 10, (1,))

    with pytest.raises(InvalidArgument, match="tokenizer"):
        grammars.matcher(Constraint("regex", "a"))


def test_nothing_is_imported_or_started_without_need() -> None:
    """The library is imported, and the checking process started, by the first task that needs them."""
    code = "import sys, llmos_onnx.backend; print('llguidance' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grammars = Grammars(lambda: pytest.fail("not needed"), 10, (1,))
    grammars.close()

    assert "False" == done.stdout.strip()
