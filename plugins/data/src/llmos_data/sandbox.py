"""A Jinja environment in which every template ends soon, with a result of bounded size or with an error.

Jinja's immutable sandbox keeps templates away from Python's internals and from changing what they are given.  It does
not keep them from looping for ever or from filling memory.  Here everything that a template can repeat or build passes
a `Meter`, which looks at the clock and at the size of what was built:

    every turn of a loop          a tick is put into its body, and around its condition
    every call and every filter   passes `Sandbox.call` or was wrapped when it was registered; its result is weighed
    operators and literals        ``+ - * / // % **`` are intercepted; ``~``, lists, tuples and dicts are wrapped
    everything that is printed    passes `_printed`, template text too; only text and numbers are printed

What one operation could blow up by itself is refused beforehand (powers, repetition) or not offered (formatting).  So
the time limit is overrun by one operation on values of bounded size at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Template, TemplateSyntaxError, UndefinedError, nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateRuntimeError
from jinja2.runtime import Context, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing
from jinja2.visitor import NodeTransformer

from llmos_data.filters import FILTERS, text
from llmos_data.meter import MOST_BITS, Exceeded, current

METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset(
        "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit islower isnumeric "
        "isspace istitle isupper lower lstrip partition removeprefix removesuffix rfind rindex rpartition rsplit "
        "rstrip split splitlines startswith strip swapcase title upper".split()
    ),
    dict: frozenset(("get", "items", "keys", "values")),
    list: frozenset(("count", "index")),
    tuple: frozenset(("count", "index")),
    int: frozenset(),
    float: frozenset(("is_integer",)),
    type(None): frozenset(),
}
"""Methods of plain values that a template may use: those whose result is no larger than what goes in."""
_TICK, _WEIGH = " tick", " weigh"
"""Filters that no template can name."""


class Missing(UndefinedError):
    """A variable, or a part of one, is not there."""

    def __init__(self, message: str, name: object, known: tuple[str, ...] | None) -> None:
        super().__init__(message)
        self.name = name
        self.known = known
        """What there is in the value that was asked; None if the template's own values were."""


class _Absent(StrictUndefined):
    """Something undefined, which says in its error what it would have been."""

    __slots__ = ()

    def __init__(
        self, hint: str | None = None, obj: Any = missing, name: Any = None,  # noqa: ANN401 - as jinja has it
        exc: type[TemplateRuntimeError] = UndefinedError,
    ) -> None:  # fmt: skip
        super().__init__(hint, obj, name, exc)
        if exc is UndefinedError:
            known = None if obj is missing else tuple(map(str, obj)) if isinstance(obj, dict) else ()
            self._undefined_exception = lambda message: Missing(message, name, known)  # type: ignore[assignment]


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment.  Its templates are rendered while `llmos_data.meter.current` is set."""

    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self) -> None:
        super().__init__(
            undefined=_Absent, finalize=_printed, optimized=False, trim_blocks=True, lstrip_blocks=True, cache_size=0
        )
        self.filters = {**FILTERS, _TICK: _tick, _WEIGH: _weigh}
        self.globals.pop("lipsum")

    def template(self, source: str) -> Template:
        """Compile *source*.  Raises `TemplateSyntaxError`, also for tags that are not offered."""
        tree = self.parse(source)
        _Metering().visit(tree)
        tree.set_environment(self)
        return Template.from_code(self, self.compile(tree), self.make_globals(None))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ANN401 - as jinja has it
        """Return whether a template may see an attribute; of plain values, only `METHODS`."""
        allowed = next((METHODS[kind] for kind in METHODS if isinstance(obj, kind)), None)
        return super().is_safe_attribute(obj, attr, value) and (allowed is None or attr in allowed)

    def getattr(self, obj: Any, attribute: str) -> Any:  # noqa: ANN401 - as jinja has it
        """Return an attribute or an item; a key wins over a method that is not offered."""
        if isinstance(obj, dict) and attribute in obj and attribute not in METHODS[dict]:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:  # noqa: ANN401 - as jinja has it
        """Refuse formatting: a width makes any size of nothing."""
        if super().wrap_str_format(value) is not None:
            raise SecurityError("format is not offered: write text and variables, or use ~")
        return None

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401, N805, PYI063
        """Call a macro, a method or a function, and weigh what it returns."""
        current.get().tick()
        return current.get().weigh(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401
        """Compute ``left operator right``, unless that would be too large."""
        if operator == "%" and isinstance(left, str):
            raise SecurityError("formatting with % is not offered: write text and variables, or use ~")
        if operator == "*":
            _check_product(left, right)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            _check_bits(left.bit_length() * right)
        return current.get().weigh(super().call_binop(context, operator, left, right))


class _Metering(NodeTransformer):
    """Puts the meter into a template."""

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:  # noqa: ANN401 - as jinja has it
        """Return *node* with the meter in it, after everything that is inside."""
        node = self.generic_visit(node, *args, **kwargs)
        match node:
            case nodes.For():
                node.body.insert(0, nodes.ExprStmt(_through(nodes.Const(None), _TICK), lineno=node.lineno))
                node.test = node.test and _through(node.test, _TICK)
            case nodes.Output():
                node.nodes = [_as_printed(child) for child in node.nodes]
            case nodes.Concat():
                node.nodes = [_through(child, "string") for child in node.nodes]
                return _through(node, _WEIGH)
            case nodes.List() | nodes.Dict() | nodes.Tuple(ctx="load"):
                return _through(node, _WEIGH)
            case nodes.Include() | nodes.Import() | nodes.FromImport() | nodes.Extends():
                raise TemplateSyntaxError("a template cannot use another one", node.lineno)
            case nodes.ScopedEvalContextModifier():
                raise TemplateSyntaxError("autoescape is not offered: use the filter escape", node.lineno)
        return node


def _as_printed(node: nodes.Expr) -> nodes.Expr:
    """Return the template's own text as something that is printed, and counted, like a variable."""
    return nodes.Const(node.data, lineno=node.lineno) if isinstance(node, nodes.TemplateData) else node


def _through(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _tick(value: object) -> object:
    current.get().tick()
    return value


def _weigh(value: object) -> object:
    return current.get().weigh(value)


@pass_context
def _printed(context: Context, value: object) -> str:
    """Return what is printed for *value*.  Taking the context keeps Jinja from printing constants when it compiles."""
    return current.get().emit(text(value))


def _check_product(left: object, right: object) -> None:
    for value, times in ((left, right), (right, left)):
        if isinstance(value, str | list | tuple) and isinstance(times, int):
            current.get().fits(len(value) * times)
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())


def _check_bits(bits: int) -> None:
    if bits > MOST_BITS:
        raise Exceeded(f"it computed an integer of more than {MOST_BITS} bits")
