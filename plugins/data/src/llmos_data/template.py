"""The processor ``template``: renders a task's input from a template that the configuration names.

A text becomes the variable ``input`` of the default template.  A mapping ``{"template": name, "values": {...}}`` names
the template and its variables.  Templates come from the configuration alone; values are data and never read as
templates.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import attrs
from attrs import validators
from jinja2 import Template, TemplateError, TemplateSyntaxError
from jinja2.exceptions import SecurityError

from llmos import read_options
from llmos_data.meter import Exceeded, Meter, current
from llmos_data.sandbox import Missing, Sandbox
from llmos_kernel.api import check_number, check_type, number, text
from llmos_kernel.services import Processor
from llmos_kernel.errors import ConfigError, InvalidArgument, NotFound, PluginFailed
from llmos_kernel.hookspecs import hookimpl

api = 1
"""The version of the processor contract that this module is written for."""
PLUGIN = "processor:template"
MOST_SOURCE = 2**16
"""Characters of the longest template."""


def _sources(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    check_type("templates", value, Mapping, "a table of templates by name")
    for name, source in dict(value).items():  # type: ignore[call-overload]
        check_type(f"templates.{name}", source, str, "a template")
        check_number(f"characters of templates.{name}", len(source), 0, MOST_SOURCE)


@attrs.frozen(kw_only=True)
class Options:
    """What ``template`` can be told."""

    templates: Mapping[str, str] = attrs.field(factory=dict, validator=_sources)
    """Templates by name."""
    default: str | None = attrs.field(default=None, validator=validators.optional(text))
    """Name of the template for input that names none."""
    timeout: float = attrs.field(default=1.0, validator=number(0.001, 60, whole=False))
    """Seconds that one rendering may take."""
    limit: int = attrs.field(default=1_000_000, validator=number(1, 2**26))
    """Most characters that one rendering may print, and of any value that it builds or is given."""


@attrs.frozen
class Rendering(Processor):
    """Renders input from templates."""

    options: Options
    templates: Mapping[str, Template]

    def process(self, value: Any, params: Mapping[str, Any]) -> str:  # noqa: ANN401 - as the contract has it
        """Return the text that the input's template makes of it.

        Raises `InvalidArgument` for other input, values that are no plain data, and a variable that is missing;
        `NotFound` for an unknown template; `PluginFailed` for a template that reaches too far, or takes too long or
        too much.
        """
        name, values = self._asked(value)
        template = self.templates.get(name)
        if template is None:
            nearest = _nearest(name, self.templates)
            message = f"there is no template {name!r}" + _hint(nearest)
            raise NotFound(message, field="input.template", value=name, nearest=nearest)
        meter = Meter(time.monotonic() + self.options.timeout, self.options.limit)
        token = current.set(meter)
        try:
            self._weigh(meter, values)
            return self._render(name, template, values)
        finally:
            current.reset(token)

    def _asked(self, value: object) -> tuple[str, Mapping[str, Any]]:
        """Return the name of the template and the values that *value* asks for."""
        if isinstance(value, str):
            return self._default(), {"input": value}
        expected = "a text, or a mapping of template and values"
        check_type("input", value, Mapping, expected)
        asked: Mapping[str, Any] = value  # type: ignore[assignment]
        for key in asked:
            if key not in ("template", "values"):
                raise InvalidArgument(f"input has an unknown key {key!r}", field="input", value=key, expected=expected)
        values = asked.get("values", {})
        check_type("input.values", values, dict, "a mapping of variables")
        name = asked["template"] if "template" in asked else self._default()
        check_type("input.template", name, str, "the name of a template")
        return name, values

    def _default(self) -> str:
        if self.options.default is None:
            expected = f"a mapping that names one of {', '.join(sorted(self.templates)) or '(none is configured)'}"
            message = "input names no template and there is no default"
            raise InvalidArgument(message, field="input.template", value=None, expected=expected)
        return self.options.default

    @staticmethod
    def _weigh(meter: Meter, values: Mapping[str, Any]) -> None:
        """Raise `InvalidArgument` unless *values* are plain data of bounded size."""
        try:
            for item in values.values():
                meter.weigh(item)
        except Exceeded as error:
            expected = f"at most {meter.limit} characters and items"
            message = f"a value of the input is too large: {expected}"
            raise InvalidArgument(message, field="input.values", value=len(values), expected=expected) from error
        todo: list[tuple[str, object]] = [(f"input.values.{key}", item) for key, item in values.items()]
        while todo:
            field, item = todo.pop()
            if isinstance(item, dict):
                for key in item:
                    check_type(f"{field} key", key, str, "a string")
                todo.extend((f"{field}.{key}", inner) for key, inner in item.items())
            elif isinstance(item, list | tuple):
                todo.extend((f"{field}[{at}]", inner) for at, inner in enumerate(item))
            elif item is not None:
                check_type(field, item, (str, int, float), "text, a number, true, false, none, a list or a mapping")

    def _render(self, name: str, template: Template, values: Mapping[str, Any]) -> str:
        """Return the rendered text, or raise what `process` says."""
        try:
            return template.render(values)
        except Missing as error:
            raise _missing(name, error, values) from error
        except (Exceeded, SecurityError, RecursionError, MemoryError) as error:
            cause = f"{type(error).__name__}: {error}"
            raise PluginFailed(f"template {name!r} was stopped: {cause}", plugin=PLUGIN, template=name) from error
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            cause = f"{type(error).__name__}: {error}"
            message = f"template {name!r} cannot be rendered with these values: {cause}"
            expected = "values of the kinds that the template works with"
            raise InvalidArgument(message, field="input.values", value=sorted(values), expected=expected) from error


def _missing(template: str, error: Missing, values: Mapping[str, Any]) -> InvalidArgument:
    """Return the error for a variable that is not there."""
    known = values if error.known is None else error.known
    nearest = _nearest(str(error.name), known)
    message = f"template {template!r}: {error.message}" + _hint(nearest)
    expected = f"one of {', '.join(sorted(known)[:20])}" if known else "a value"
    field = f"input.values.{error.name}"
    return InvalidArgument(message, field=field, value=None, expected=expected, nearest=nearest)


def _nearest(name: str, known: Iterable[str]) -> str | None:
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=0)), None)


def _hint(nearest: str | None) -> str:
    return "" if nearest is None else f"; the nearest is {nearest!r}"


def _compiled(sandbox: Sandbox, name: str, source: str) -> Template:
    """Return the template; raise `ConfigError` naming it, the line and what is wrong."""
    field = f"templates.{name}"
    try:
        return sandbox.template(source)
    except TemplateSyntaxError as error:
        message = f"{PLUGIN}: {field}, line {error.lineno}: {error.message}"
        facts = {"field": field, "line": error.lineno, "expected": "a Jinja template", "source": PLUGIN}
        raise ConfigError(message, **facts) from error
    except (SyntaxError, RecursionError, MemoryError, ValueError) as error:
        message = f"{PLUGIN}: {field} is nested too deeply or cannot be compiled: {type(error).__name__}"
        raise ConfigError(message, field=field, expected="a Jinja template", source=PLUGIN) from error


@hookimpl
def llmos_processor(config: Mapping[str, Any]) -> Processor:
    """Return a rendering processor; *config* holds `Options`.  Raises `ConfigError`, also for a wrong template."""
    options = read_options(Options, config, PLUGIN)
    sandbox = Sandbox()
    templates = {name: _compiled(sandbox, name, source) for name, source in options.templates.items()}
    if options.default is not None and options.default not in templates:
        nearest = _nearest(options.default, templates)
        message = f"{PLUGIN}: default names no template: {options.default!r}" + _hint(nearest)
        facts = {"field": "default", "value": options.default, "expected": sorted(templates), "nearest": nearest}
        raise ConfigError(message, **facts, source=PLUGIN)
    return Rendering(options, templates)
