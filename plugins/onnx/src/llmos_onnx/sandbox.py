"""A Jinja environment for templates that came with somebody's model: nothing to reach, little to spend.

Jinja's `ImmutableSandboxedEnvironment` keeps a template from reaching Python's internals and from changing what it is
given, but lets it loop for ever and grow without bound.  A thread cannot be stopped, so a template must not get into
an operation that takes long.  Here each operation that can repeat or grow is charged to a `Meter` *before* it is done:

- the tree is rewritten so that loops, output, ``~`` and list, tuple and dict displays pass through metered filters;
- ``+ - * / // % **`` are intercepted, and calls and filters are wrapped;
- filters and methods are those that chat templates use; the ones that pad, format or repeat are absent.

Sizes are limited one by one (`MAX_TEXT`, `MAX_NODES`), so between two looks at the clock there is little work.
Whatever a template does wrong ends in one exception, `TemplateRefused`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Final, NoReturn, cast

import jinja2
from jinja2 import ext, filters, nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_SOURCE: Final = 65_536
"""Longest template in characters; the longest in use are a third of it."""
MAX_TEXT: Final = 262_144
"""Longest string that a template may make, and longest output, in characters."""
MAX_NODES: Final = 50_000
"""Most elements, nested ones included, of a list or mapping that a template may make."""
MAX_WORK: Final = 10_000_000
"""Characters and elements that one rendering may produce, loops and calls counted as one each."""
SECONDS: Final = 2.0
"""Longest time that one rendering may take."""
_MAX_BITS: Final = 256
_MARK: Final = re.compile("\ue000([0-9]+:[0-9]+\ue001)")


class TemplateRefused(Exception):
    """The template is malformed, reaches for what it must not have, or spends too much."""


class ConversationRefused(Exception):
    """The template called ``raise_exception``: it does not take this conversation."""


class Meter:
    """What one rendering has spent.  `charge` raises `TemplateRefused` when it is too much."""

    def __init__(self) -> None:
        self._left = MAX_WORK
        self._until = time.monotonic() + SECONDS

    def charge(self, work: int) -> None:
        """Spend *work* characters or elements."""
        self._left -= work + 1
        if self._left < 0:
            raise TemplateRefused(f"it does more than {MAX_WORK} units of work")
        if time.monotonic() > self._until:
            raise TemplateRefused(f"it takes more than {SECONDS:g} seconds")

    def text(self, length: int) -> None:
        """Spend a string of *length* characters."""
        if length > MAX_TEXT:
            raise TemplateRefused(f"it makes a string of more than {MAX_TEXT} characters")
        self.charge(length)

    def value(self, value: object) -> Any:  # noqa: ANN401 - returns what it is given
        """Spend *value*, a result, and return it."""
        if isinstance(value, str):
            self.text(len(value))
        else:
            self.charge(_nodes(value))
        return value

    def shown(self, value: object) -> str:
        """Spend *value* as text, and return the text."""
        self.text(_characters(value))
        return str(value)


_meter: ContextVar[Meter] = ContextVar("meter")


def _nodes(value: object, budget: int = MAX_NODES) -> int:
    """Return the number of elements of *value*, nested ones included; refuse more than *budget*."""
    count, todo = 0, [value]
    while todo:
        count += 1
        item = todo.pop()
        if isinstance(item, Mapping):
            todo.extend(item.values())
        elif isinstance(item, list | tuple):
            todo.extend(item)
        if count + len(todo) > budget:
            raise TemplateRefused(f"it makes a list or mapping of more than {budget} elements")
    return count


def _characters(value: object) -> int:
    """Return at least about how many characters ``str(value)`` has."""
    if isinstance(value, str):
        return len(value)
    total, todo = 0, [value]
    while todo:
        item = todo.pop()
        total += len(item) if isinstance(item, str) else 4
        if isinstance(item, Mapping):
            todo.extend(item.keys())
            todo.extend(item.values())
        elif isinstance(item, list | tuple):
            todo.extend(item)
        if total + len(todo) > MAX_TEXT:
            return MAX_TEXT + 1
    return total


class _Loop(list[Any]):
    """What a ``for`` goes through: each turn is charged."""

    def __iter__(self) -> Iterator[Any]:
        meter = _meter.get()
        for item in super().__iter__():
            meter.charge(1)
            yield item


@jinja2.pass_context
def _loop(context: Context, value: Any) -> _Loop:  # noqa: ANN401 - templates are untyped
    loop = _Loop()
    for item in value:
        if len(loop) >= MAX_NODES * 2:
            raise TemplateRefused(f"it loops over more than {MAX_NODES * 2} elements")
        loop.append(item)
    return loop


@jinja2.pass_context
def _shown(context: Context, value: object) -> str:
    return _meter.get().shown(value)


@jinja2.pass_context
def _concat(context: Context, values: list[object]) -> str:
    meter = _meter.get()
    meter.text(sum(map(_characters, values)))
    return "".join(map(str, values))


@jinja2.pass_context
def _made(context: Context, value: object) -> Any:  # noqa: ANN401
    return _meter.get().value(value)


@jinja2.pass_context
def _to_json(context: Context, value: object, indent: int | None = None) -> str:
    """Write JSON as transformers does: no HTML escapes, characters as they are."""
    if indent is not None and not 0 <= indent <= 8:
        raise TemplateRefused("tojson indents by more than 8")
    _meter.get().text(_characters(value))
    written = json.dumps(value, ensure_ascii=False, indent=indent)
    # A message's text is a mark here (see `llmos_onnx.template`): note that it stands within JSON.
    return str(_meter.get().value(_MARK.sub("\ue000j\\1", written)))


def _join(values: Any, separator: str = "", attribute: str | None = None) -> str:  # noqa: ANN401
    parts = list(values)
    if attribute is not None:
        parts = [part[attribute] for part in parts]
    _meter.get().text(sum(map(_characters, parts)) + len(separator) * len(parts))
    return separator.join(map(str, parts))


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    text, old, new = str(text), str(old), str(new)
    times = text.count(old)
    _meter.get().text(len(text) + times * max(0, len(new) - len(old)))
    return text.replace(old, new, count)


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    padding = len(width) if isinstance(width, str) else width
    if padding > 64:
        raise TemplateRefused("it indents by more than 64")
    _meter.get().text(len(text) + padding * (text.count("\n") + 1))
    return filters.do_indent(text, width, first, blank)


_PLAIN_FILTERS: Final = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items", "last", "length",
    "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "round", "safe", "select", "selectattr",
    "sort", "string", "sum", "title", "trim", "truncate", "unique", "upper",
)  # fmt: skip
_STRING_METHODS: Final = frozenset(
    {
        "capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha", "isascii", "isdecimal",
        "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "join", "lower", "lstrip", "partition",
        "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split",
        "splitlines", "startswith", "strip", "title", "upper",
    }
)  # fmt: skip
_GROWING: Final[Mapping[str, Callable[..., str]]] = {
    "join": lambda separator, values: _join(values, separator),
    "replace": _replace,
}


class _Rewrite(NodeTransformer):
    """Passes everything that repeats or grows through the metered filters."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - the visitor's own names, here and below
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "llmos_loop")
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.nodes = [_filtered(_literal(child), "llmos_shown") for child in node.nodes]
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "llmos_concat")

    def _visit_display(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "llmos_made")

    visit_List = _visit_display  # noqa: N815
    visit_Dict = _visit_display  # noqa: N815

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "llmos_made") if node.ctx == "load" else node


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(cast("nodes.Expr", node), name, [], [], None, None, lineno=node.lineno)


def _literal(node: nodes.Expr) -> nodes.Expr:
    return nodes.Const(node.data, lineno=node.lineno) if isinstance(node, nodes.TemplateData) else node


class _Generation(ext.Extension):
    """``{% generation %} … {% endgeneration %}`` marks what the assistant said, for training; here it is plain."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it so

    def parse(self, parser: Any) -> list[nodes.Node]:  # noqa: ANN401
        """Return the block's body."""
        next(parser.stream)
        body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return body


class Environment(ImmutableSandboxedEnvironment):
    """The metered sandbox, with the globals that chat templates expect."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        # Without the optimizer nothing is computed at compile time, outside the meter.
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=[ext.loopcontrols, _Generation]
        )
        self.filters = {name: _metered(filters.FILTERS[name]) for name in _PLAIN_FILTERS}
        self.filters |= {"join": _metered(_join), "replace": _metered(_replace), "indent": _metered(_indent)}
        self.filters |= {"tojson": _to_json, "llmos_loop": _loop, "llmos_shown": _shown}
        self.filters |= {"llmos_concat": _concat, "llmos_made": _made}
        kept = {name: self.globals[name] for name in ("range", "namespace", "dict")}
        self.globals = {**kept, "raise_exception": _raise_exception, "strftime_now": _strftime_now}

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401
        """Do arithmetic whose result is within limits."""
        if operator == "*" and isinstance(left, int) and not isinstance(right, int):
            left, right = right, left
        if operator == "*" and isinstance(left, str | list | tuple):
            _meter.get().text(len(left) * max(0, int(right)))
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            _meter.get().text(len(left) + len(right))
        if operator == "%" and isinstance(left, str):
            raise TemplateRefused("it formats with %")
        if operator in ("*", "**") and isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
            if bits > _MAX_BITS:
                raise TemplateRefused(f"it makes a number of more than {_MAX_BITS} bits")
        return _meter.get().value(super().call_binop(context, operator, left, right))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ANN401
        """Say whether a template may have *attr* of *obj*; of strings, only what is on their list."""
        return super().is_safe_attribute(obj, attr, value) and (not isinstance(obj, str) or attr in _STRING_METHODS)

    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:  # noqa: ANN401
        """Refuse at once; Jinja's own answer prints as an empty string."""
        raise TemplateRefused(f"it reaches for {attribute!r} of {type(obj).__name__}")

    def wrap_str_format(self, value: Any) -> None:  # noqa: ANN401
        """Return nothing: formatting methods are not on the list, so there is none to make safe."""

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401, N805, PYI063 - as the base class
        """Call what a template may call; methods that grow are replaced by metered ones."""
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        meter = _meter.get()
        meter.charge(1)
        if isinstance(owner, str) and name in _GROWING:
            return meter.value(_GROWING[name](owner, *args, **kwargs))
        return meter.value(super().call(__context, __obj, *args, **kwargs))


def _metered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a filter so that it is never computed at compile time and its result is charged."""
    passed = getattr(getattr(function, "jinja_pass_arg", None), "name", None)

    @jinja2.pass_context
    def run(context: Context, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        first = {"context": context, "eval_context": context.eval_ctx, "environment": context.environment}
        meter = _meter.get()
        meter.charge(1)
        given = args if passed is None else (first[passed], *args)
        return meter.value(function(*given, **kwargs))

    return run


def _raise_exception(message: object) -> NoReturn:
    raise ConversationRefused(str(message)[:500])


def _strftime_now(format: str) -> str:
    if len(format) > 64 or re.search(r"%[^A-Za-z%]", format):
        raise TemplateRefused("its date format is not a plain one")
    return datetime.now().strftime(format)  # noqa: DTZ005 - templates show the local date, as transformers does


def compile_template(source: str) -> jinja2.Template:
    """Return the template of *source*; raise `TemplateRefused` where it is malformed or too long."""
    if len(source) > MAX_SOURCE:
        raise TemplateRefused(f"it is longer than {MAX_SOURCE} characters")
    environment = Environment()
    try:
        tree = _Rewrite().visit(environment.parse(source))
        code = environment.compile(tree)
        return environment.template_class.from_code(environment, code, environment.make_globals(None))
    except Exception as error:
        raise TemplateRefused(f"{type(error).__name__}: {error}") from error


def render(template: jinja2.Template, variables: Mapping[str, object]) -> str:
    """Return the output of *template*.

    Raises `ConversationRefused` where it says so itself, and `TemplateRefused` for everything else that goes wrong.
    """
    token = _meter.set(Meter())
    try:
        return "".join(_limited(template.generate(**variables)))
    except (TemplateRefused, ConversationRefused):
        raise
    except Exception as error:
        raise TemplateRefused(f"{type(error).__name__}: {error}") from error
    finally:
        _meter.reset(token)


def _limited(parts: Iterable[str]) -> Iterator[str]:
    length = 0
    for part in parts:
        length += len(part)
        if length > MAX_TEXT:
            raise TemplateRefused(f"its output is longer than {MAX_TEXT} characters")
        yield part
