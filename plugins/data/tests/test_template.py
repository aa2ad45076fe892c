"""`template`: what it renders, what it refuses, and that no template escapes, hangs or grows."""

from __future__ import annotations

import json
import string
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmos_data import template
from llmos_kernel.contracts import API
from llmos_kernel.services import Processor
from llmos_kernel.errors import ConfigError, InvalidArgument, KernelError, NotFound, PluginFailed

MANY = settings(max_examples=200, deadline=None, derandomize=True, database=None)
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.floats(allow_nan=False), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)


def make(source: str = "{{ input }}", **options: Any) -> Processor:
    """A processor whose default template is *source*."""
    return template.llmos_processor({"templates": {"t": source}, "default": "t", **options})


def render(source: str, /, **values: Any) -> Any:
    """What *source* gives with *values*."""
    return make(source).process({"template": "t", "values": values}, {})


ECHO, JSON = make(), make("{{ v | tojson }}")

# --- what it renders


def test_text_goes_into_the_default_template() -> None:
    """A plain text is the variable ``input``."""
    assert make("Summarise:\n{{ input }}\n").process("a long text", {}) == "Summarise:\na long text"


def test_named_template_with_values() -> None:
    """A mapping names the template and its variables; without a name it is the default one."""
    made = template.llmos_processor(
        {"templates": {"greet": "Hello {{ name }}!", "leave": "Bye {{ name }}."}, "default": "leave"}
    )

    assert made.process({"template": "greet", "values": {"name": "Ada"}}, {}) == "Hello Ada!"
    assert made.process({"values": {"name": "Ada"}}, {}) == "Bye Ada."


@pytest.mark.parametrize(
    ("source", "values", "expected"),
    [
        ("{% for x in xs %}{{ loop.index }}. {{ x }}\n{% endfor %}", {"xs": ["a", "b"]}, "1. a\n2. b\n"),
        ("{% for x in xs if x > 1 %}{{ x }}{% else %}none{% endfor %}", {"xs": [1, 2, 3]}, "23"),
        ("{% for x in t recursive %}{{ x[0] }}{{ loop(x[1]) }}{% endfor %}", {"t": [[1, [[2, []], [3, []]]]]}, "123"),
        ("{% macro say(x, y='!') %}{{ x }}{{ y }}{% endmacro %}{{ say('hi') }}", {}, "hi!"),
        ("{% set ns = namespace(n=0) %}{% for x in [1, 2] %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}", {}, "3"),
        ("{{ xs | map(attribute='n') | join(', ') }}", {"xs": [{"n": 1}, {"n": 2}]}, "1, 2"),
        ("{{ xs | join('+', attribute='n') }}", {"xs": [{"n": 1}, {"n": 2}]}, "1+2"),
        ("{{ xs | selectattr('ok') | list | length }}", {"xs": [{"ok": True}, {"ok": False}]}, "1"),
        ("{{ d.copy }} {{ d.keys() | sort | join }}", {"d": {"copy": "text"}}, "text copy"),
        ("{{ d | tojson }}", {"d": {"k": ["ü", 1, None, True]}}, '{"k": ["ü", 1, null, true]}'),
        ("{{ d | tojson(indent=1) }}", {"d": [1]}, "[\n 1\n]"),
        ("{{ s | indent(2) }}", {"s": "a\n\nb"}, "a\n\n  b"),
        ("{{ s | indent(2, first=true, blank=true) }}", {"s": "a\n\nb"}, "  a\n  \n  b"),
        ("{{ s | replace('a', 'b') | upper | trim }}", {"s": " aXa "}, "BXB"),
        ("{{ s | replace('a', 'b', 1) }}", {"s": "aa"}, "ba"),
        ("{{ s | e }}", {"s": "<a&b>"}, "&lt;a&amp;b&gt;"),
        ("{{ s.split(',') | last }} {{ s.upper() }}", {"s": "a,b"}, "b A,B"),
        ("{{ 7 // 2 }} {{ 2 ** 10 }} {{ 3 * 'ab' }} {{ 7 % 4 }} {{ 1.25 | round(1) }}", {}, "3 1024 ababab 3 1.2"),
        ("{{ a ~ 1 ~ b }} {{ ([1] + [2]) | length }}", {"a": "x", "b": None}, "x1None 2"),
        ("{% if x is defined %}{{ x }}{% else %}no x{% endif %}", {}, "no x"),
        ("{{ x | default('none') | title }}", {}, "None"),
        ("{% filter upper %}{{ x }}{% endfilter %}", {"x": "loud"}, "LOUD"),
        ("{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}in{% endcall %}", {}, "<in>"),
        ("{{ range(3) | list | tojson }}{% raw %}{{ x }}{% endraw %}", {}, "[0, 1, 2]{{ x }}"),
        ("{% for k, v in d.items() %}{{ k }}={{ v }}{% endfor %}", {"d": {"a": 1}}, "a=1"),
    ],
)  # fmt: skip
def test_what_prompts_are_made_of(source: str, values: dict[str, Any], expected: str) -> None:
    """Loops, macros, filters, sums and conditions work as everywhere in Jinja."""
    assert render(source, **values) == expected


@MANY
@given(value=st.text(max_size=200))
def test_input_is_never_read_as_a_template(value: str) -> None:
    """Whatever a caller writes comes out as it went in, curly brackets and all."""
    for text in (value, "{{ 7 * 7 }}" + value, "{% for x in range(9) %}" + value):
        assert ECHO.process(text, {}) == text


@MANY
@given(value=PLAIN)
def test_plain_data_passes_whole(value: Any) -> None:
    """Any plain value can be given, and reaches the template unchanged."""
    assert json.loads(JSON.process({"values": {"v": value}}, {})) == value


def test_values_are_not_changed() -> None:
    """A template cannot change what it is given, and neither does rendering."""
    values = {"xs": [1, 2], "d": {"a": 1}}
    for source in ("{{ xs.append(3) }}", "{{ d.update(b=2) }}", "{% set _ = xs.pop() %}", "{{ d.clear() }}"):
        with pytest.raises(PluginFailed):
            render(source, **values)

    assert values == {"xs": [1, 2], "d": {"a": 1}}


# --- what it refuses


def test_missing_variable() -> None:
    """A variable that is not given is an error that names it, and the nearest that is."""
    with pytest.raises(InvalidArgument, match="'nmae' is undefined; the nearest is 'name'") as caught:
        render("Hello {{ nmae }}", name="Ada", age=3)

    assert caught.value.fields["field"] == "input.values.nmae"
    assert caught.value.fields["nearest"] == "name"


def test_missing_part_of_a_variable() -> None:
    """The same for a key of a mapping, and for what has no parts at all."""
    with pytest.raises(InvalidArgument, match="'nmae'; the nearest is 'name'"):
        render("{{ user.nmae }}", user={"name": "Ada"})
    with pytest.raises(InvalidArgument, match="no attribute 'name'"):
        render("{{ user.name }}", user=7)
    with pytest.raises(InvalidArgument, match="'x' is undefined"):
        render("{{ x }}")


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (7, "input"),
        (None, "input"),
        ([{"role": "user", "content": "hi"}], "input"),
        ({"template": "t", "vlaues": {}}, "input"),
        ({"template": 3}, "input.template"),
        ({"template": "t", "values": [1]}, "input.values"),
        ({"values": {"x": object()}}, "input.values.x"),
        ({"values": {"x": {"y": [1, {2}]}}}, "input.values.x.y[1]"),
        ({"values": {"x": {3: 4}}}, "input.values.x key"),
        ({"values": {"x": len}}, "input.values.x"),
        ({"values": {"x": "a" * 1_000_001}}, "input.values"),
        ({"values": {"x": 2**5000}}, "input.values"),
    ],
)
def test_wrong_input(value: object, field: str) -> None:
    """Input that is neither a text nor a template's name with plain values is refused, naming the part."""
    with pytest.raises(InvalidArgument) as caught:
        make("ok").process(value, {})

    assert caught.value.fields["field"] == field


def test_unknown_template() -> None:
    """A template that is not configured is not found, and the nearest is named."""
    with pytest.raises(NotFound, match="'summarise'") as caught:
        template.llmos_processor({"templates": {"summarise": ""}}).process({"template": "summarize"}, {})

    assert caught.value.fields["nearest"] == "summarise"


def test_text_without_a_default_template() -> None:
    """A plain text needs a default template, and the error says which templates there are."""
    with pytest.raises(InvalidArgument, match="no default"):
        template.llmos_processor({"templates": {"a": ""}}).process("text", {})


@pytest.mark.parametrize(
    ("source", "values"),
    [
        ("{{ a + 1 }}", {"a": "x"}),
        ("{{ 1 / a }}", {"a": 0}),
        ("{{ xs | sort }}", {"xs": [1, "a"]}),
        ("{{ a() }}", {"a": 1}),
        ("{{ xs }}", {"xs": [1]}),
        ("{{ [1][a] }}", {"a": 7}),
        ("{{ s | indent(99) }}", {"s": ""}),
    ],
)
def test_values_of_the_wrong_kind(source: str, values: dict[str, Any]) -> None:
    """What the template cannot do with the values is one typed error."""
    with pytest.raises(KernelError, match="template 't'"):
        render(source, **values)


# --- what it survives

ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ x.__init__.__globals__ }}",
    "{{ ''['__class__'] }}",
    "{{ '' | attr('__class__') }}",
    "{{ [''] | map(attribute='__class__') | list }}",
    "{{ ['x'] | map('attr', '__class__') | list }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ range.__class__.__base__ }}",
    "{{ dict.__base__.__subclasses__() }}",
    "{{ lipsum.__globals__ }}",
    "{{ (1).__class__ }}",
    "{{ none.__class__ }}",
    "{{ '{0.__class__}'.format(x) }}",
    "{{ '{0.__class__.__init__.__globals__}'.format_map({'0': x}) }}",
    "{{ x.format }}",
    "{{ '%s' % x }}",
    "{% macro m() %}{% endmacro %}{{ m.__globals__ }}{{ m._func.__globals__ }}",
    "{% for i in [1] %}{{ loop.__init__.__globals__ }}{{ loop._iterator }}{% endfor %}",
    "{{ (xs | map('upper')).gi_frame.f_globals }}",
    "{{ ''.encode() }}",
    "{{ ''.translate({}) }}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_no_way_out(source: str) -> None:
    """Python's internals are out of reach, by whatever spelling: always one typed error, never an object's text."""
    with pytest.raises((PluginFailed, InvalidArgument, ConfigError)):
        render(source, x="x", xs=["a"])


DOUBLING = "{% set ns = namespace(s=START) %}{% for i in range(40) %}{% set ns.s = STEP %}{% endfor %}"
BOMBS = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% set x = i * j %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) recursive %}{{ loop(range(99999)) }}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f() %}{% for i in range(99999) %}{{ s }}{% endfor %}{% endmacro %}{{ f() }}",
    "{% set t %}{% for i in range(99999) %}" + "some text " * 50 + "{% endfor %}{% endset %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    "{{ 'a' * 10 ** 10 }}",
    "{{ [1] * 10 ** 10 }}",
    "{{ (1, 2) * 10 ** 10 }}",
    "{{ 10 ** 100000 }}",
    "{{ 2 ** 4095 * 2 ** 4095 }}",
    "{{ 1.5 | round(10 ** 9, 'ceil') }}",
    "{{ s | indent(10 ** 9) }}",
    "{{ '1' | tojson(indent=10 ** 9) }}",
    "{{ s | replace('a', s) }}",
    "{{ s | replace('', s) }}",
    "{{ s | list | join(s) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '{:>1000000000}'.format('') }}",
    "{{ s.ljust(10 ** 9) }}",
    "{{ s.zfill(10 ** 9) }}",
    "{{ s.expandtabs(10 ** 9) }}",
    "{{ s.join(s) }}",
    "{{ s.replace('a', s) }}",
    "{{ (10).to_bytes(10 ** 9, 'big') }}",
    DOUBLING.replace("START", "'a'").replace("STEP", "ns.s ~ ns.s"),
    DOUBLING.replace("START", "'a'").replace("STEP", "ns.s + ns.s"),
    DOUBLING.replace("START", "[1]").replace("STEP", "[ns.s, ns.s]"),
    DOUBLING.replace("START", "(1,)").replace("STEP", "(ns.s, ns.s)"),
    DOUBLING.replace("START", "{}").replace("STEP", "{1: ns.s, 2: ns.s}"),
    DOUBLING.replace("START", "{}").replace("STEP", "dict(a=ns.s, b=ns.s)"),
    DOUBLING.replace("START", "1").replace("STEP", "namespace(x=ns.s, y=ns.s)") + "{{ ns }}",
    DOUBLING.replace("START", "1").replace("STEP", "namespace(x=ns.s, y=ns.s)") + "{{ ns.s|upper }}",
    DOUBLING.replace("START", "2").replace("STEP", "ns.s * ns.s"),
    "{% for i in range(99999) %}{% set x = range(99999) | list %}{% endfor %}",
    "{% for i in range(99999) %}{% set x = range(99999) | sum %}{% endfor %}",
    "{{ range(10 ** 10) | list }}",
]  # fmt: skip


@pytest.mark.parametrize("source", BOMBS)
def test_no_bomb(source: str) -> None:
    """Endless loops, growth and recursion end in one typed error, close to the time limit."""
    made = make(source, timeout=0.05, limit=100_000)
    begun = time.monotonic()
    with pytest.raises((PluginFailed, InvalidArgument)):
        made.process({"values": {"s": "a" * 10_000, "x": 1}}, {})

    assert time.monotonic() - begun < 5


def test_output_limit() -> None:
    """The longest output passes, a longer one does not."""
    assert make(limit=10).process("a" * 10, {}) == "a" * 10
    with pytest.raises(InvalidArgument, match="at most 10"):
        make(limit=10).process("a" * 11, {})
    with pytest.raises(PluginFailed, match="more than 10"):
        make("{{ input }}{{ input }}", limit=10).process("a" * 6, {})


@MANY
@given(source=st.text(alphabet="{}%|#- ~*'()[].x1" + string.ascii_lowercase[:6], max_size=60))
def test_any_template_ends_in_text_or_a_typed_error(source: str) -> None:
    """Nonsense for a template is an error of the configuration, or renders, or fails with a type."""
    try:
        out = make(source, timeout=0.05).process("hi", {})
    except KernelError:
        return
    assert isinstance(out, str)


def test_many_threads_share_a_processor() -> None:
    """Each rendering has its own limits, whatever runs beside it."""
    made = make("{% for x in range(50) %}{{ input }}{% endfor %}", limit=100)
    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.append(made.process("ab", {}))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert got == ["ab" * 50] * 8


# --- its configuration


def test_module_states_the_contract() -> None:
    """The module is written for the kernel's version of the processor contract."""
    assert template.api == API["processor"]


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"template": {}}, "template", "'templates'"),
        ({"templates": ["a"]}, "templates", "table"),
        ({"templates": {"a": 3}}, "templates.a", "a template"),
        ({"templates": {"a": "x" * 70_000}}, "characters of templates.a", "65536"),
        ({"templates": {"a": "fine\n{% for %}"}}, "templates.a", "line 2"),
        ({"templates": {"a": "{{ x | centre }}"}}, "templates.a", "centre"),
        ({"templates": {"a": "{% include 'b' %}"}}, "templates.a", "another"),
        ({"templates": {"a": "{% import 'b' as b %}"}}, "templates.a", "another"),
        ({"templates": {"a": "{% from 'b' import b %}"}}, "templates.a", "another"),
        ({"templates": {"a": "{% extends 'b' %}"}}, "templates.a", "another"),
        ({"templates": {"a": "{% autoescape true %}{% endautoescape %}"}}, "templates.a", "escape"),
        ({"templates": {"a": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}"}}, "templates.a", "deeply"),
        ({"templates": {"greet": ""}, "default": "great"}, "default", "'greet'"),
        ({"default": "x"}, "default", "no template"),
        ({"default": ""}, "default", "empty"),
        ({"timeout": 0}, "timeout", "0.001"),
        ({"timeout": float("inf")}, "timeout", "number"),
        ({"limit": 0}, "limit", "from 1"),
    ],
)
def test_wrong_option(options: dict[str, Any], field: str, words: str) -> None:
    """A wrong option or template is an error when the plugin is made, naming it, the place and what would be right."""
    with pytest.raises(ConfigError, match=words) as caught:
        template.llmos_processor(options)

    assert caught.value.fields["field"] == field
    assert caught.value.fields["source"] == "processor:template"
