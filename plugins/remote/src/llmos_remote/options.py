"""What a model's specification says of a far end, and which far ends a key may be sent to."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any
from urllib.parse import SplitResult, urlsplit

import attrs

from llmos import Secret
from llmos_kernel.api import Usage, check_number, listed, number, of_type, string
from llmos_kernel.contracts import ModelSpec
from llmos_kernel.errors import InvalidArgument, ModelUnavailable

_flag = of_type(bool, "true or false")
_seconds = number(0.001, 86400, whole=False)


def _choice(*words: str) -> Any:  # noqa: ANN401 - attrs types validators as Any
    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in words:
            raise InvalidArgument.of(attribute.name, value, f"one of {', '.join(map(repr, words))}")

    return validate


def _reference(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    # The value itself is not shown: it may be a key.
    if value is not None and not isinstance(value, Secret):
        expected = 'a reference: { env = "NAME" } or { file = "path" }'
        message = f"{attribute.name} must be {expected}, not the key itself"
        raise InvalidArgument(message, field=attribute.name, value="(not shown)", expected=expected)


def _names(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, tuple) or not all(isinstance(one, str) and one for one in value):
        raise InvalidArgument.of(attribute.name, value, "a list of names")


@attrs.frozen(kw_only=True)
class Prices:
    """Prices of a million tokens, in any one currency."""

    prompt: float = 0.0
    cached: float = 0.0
    """Of a prompt's tokens that the far end had in its cache."""
    generated: float = 0.0

    def cost(self, used: Usage) -> float:
        """Return what the tokens of *used* cost."""
        fresh = (used.prompt - used.cached) * self.prompt + used.cached * self.cached
        return (fresh + used.generated * self.generated) / 1e6


def _prices(value: object) -> Prices:
    """Return what a table says; raise `InvalidArgument` naming the key that is wrong."""
    if isinstance(value, Prices):
        return value
    known = attrs.fields_dict(Prices)
    if not isinstance(value, Mapping) or set(value) - set(known):
        raise InvalidArgument.of("prices", value, f"a table with the keys {', '.join(known)}")
    for key, price in value.items():
        check_number(f"prices.{key}", price, 0, 1e9, whole=False)
    return Prices(**{"cached": value.get("prompt", 0.0), **value})


@attrs.frozen(kw_only=True)
class Options:
    """What a model's specification may say in ``options``."""

    model: str = attrs.field(default="", validator=string)
    """What the far end calls the model; by default what llmos calls it."""
    base_url: str = attrs.field(default="", validator=string)
    """Where the far end is; by default at the makers' of the protocol."""
    api_key: Secret | None = attrs.field(default=None, validator=_reference)
    """Where the key is: ``{ env = "NAME" }`` or ``{ file = "path" }``."""
    insecure: bool = attrs.field(default=False, validator=_flag)
    """Allow ``http`` to another machine: key and texts can be read on the way."""
    rows: int = attrs.field(default=8, validator=number(1, 1024))
    """Most tasks at once; fewer while the far end refuses some."""
    timeout: float = attrs.field(default=300.0, validator=_seconds)
    """Seconds of silence after which the far end counts as gone."""
    connect: float = attrs.field(default=10.0, validator=_seconds)
    """Seconds for a connection."""
    retries: int = attrs.field(default=2, validator=number(0, 100))
    """How often a task that was refused before its answer began is asked again."""
    patience: float = attrs.field(default=60.0, validator=_seconds)
    """The longest wait before it is, in seconds."""
    nbytes: int = attrs.field(default=2**26, validator=number(1024, 2**34))
    """Most bytes of one answer as it comes over the line."""
    prices: Prices = attrs.field(factory=Prices, converter=_prices)
    extra: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=_names)
    """Parameters that this far end knows besides those of the protocol: they are passed as they are."""
    text: str = attrs.field(default="chat", validator=_choice("chat", "completions"))
    """By which of OpenAI's routes ``generate`` tasks go."""
    length: str = attrs.field(default="", validator=_choice("", "max_tokens", "max_completion_tokens"))
    """What the far end calls the most tokens of an answer; by default what OpenAI or the others do."""
    max_tokens: int = attrs.field(default=4096, validator=number(1, 2**40))
    """Most tokens of an answer where a task says nothing, for the protocol that wants a number: Anthropic's."""
    usage: bool = attrs.field(default=True, validator=_flag)
    """Ask OpenAI's protocol for the tokens of streamed answers; some far ends do not know the question."""


def read_options(config: Mapping[str, Any], spec: ModelSpec) -> Options:
    """Return the options of *spec*, with *config*, the backend's own, for defaults.

    Raises `ModelUnavailable` naming the option that is wrong.
    """
    given = {**config, **spec.options}
    known = attrs.fields_dict(Options)
    for key in given:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            hint = f"; the nearest is {near[0]!r}" if near else ""
            raise unavailable(spec.name, f"unknown option {key!r}{hint}", key, expected=sorted(known))
    try:
        return Options(**{"model": _far_name(spec), **given})
    except InvalidArgument as error:
        facts = {"value": error.fields.get("value"), "expected": error.fields.get("expected")}
        raise unavailable(spec.name, error.message, str(error.fields.get("field", "")), **facts) from error


def unavailable(model: str, why: str, field: str, **facts: object) -> ModelUnavailable:
    """Return the error for an option *field* of *model*."""
    return ModelUnavailable(f"model {model!r}: {why}", model=model, field=field, **facts)


@attrs.frozen
class Place:
    """A far end that was checked: the one that requests go to, whatever it answers."""

    scheme: str
    host: str
    port: int
    path: str
    """What every path begins with, without a slash at its end."""

    @property
    def url(self) -> str:
        """Its address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def local(self) -> bool:
        """Whether it is on this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def read_place(base_url: str, model: str, *, insecure: bool) -> Place:
    """Return the far end at *base_url*; raise `ModelUnavailable` where a key must not go there."""
    try:
        parts = urlsplit(base_url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError:  # a port that is no number, brackets that do not match
        parts, port = SplitResult("", "", "", "", ""), 0
    expected = "https://HOST[:PORT][/PATH], without a user, a query or a fragment"
    if parts.username is not None or parts.password is not None:  # not shown: it may be a key
        raise unavailable(model, f"base_url must be {expected}", "base_url", value="(not shown)", expected=expected)
    if not (port and parts.hostname) or parts.query or parts.fragment or any(one <= " " for one in base_url):
        why = f"base_url must be {expected}, not {base_url!r:.200}"
        raise unavailable(model, why, "base_url", value=base_url[:200], expected=expected)
    place = Place(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))
    if place.scheme == "http" and not (insecure or place.local):
        why = f"base_url is http, which others on the way to {place.host} can read; use https, or set insecure = true"
        raise unavailable(model, why, "base_url", value=base_url[:200], expected="https")
    return place


def read_key(options: Options, model: str, variables: tuple[str, ...], *, default: bool) -> str:
    """Return the key for the far end.

    *variables* are where the makers' own key may be in the environment: it is looked for only if the far end is theirs
    (*default*), because nobody else is to see it.  Elsewhere no key is no error.  Raises `ModelUnavailable`.
    """
    if options.api_key is not None:
        try:
            return _checked(options.api_key.reveal(), model)
        except InvalidArgument as error:
            raise unavailable(model, error.message, "api_key", expected="a key") from error
    if not default:
        return ""
    found = next((os.environ[name] for name in variables if os.environ.get(name)), "")
    if not found:
        why = f'there is no key: set the environment variable {variables[0]}, or options.api_key = {{ env = "NAME" }}'
        raise unavailable(model, why, "api_key", value=None, expected=variables[0])
    return _checked(found, model)


def _checked(key: str, model: str) -> str:
    if not key or not key.isascii() or any(one <= " " for one in key):
        raise unavailable(model, "the key is empty or has spaces, line ends or other signs in it", "api_key",
                          value="(not shown)", expected="a key of printable ASCII")  # fmt: skip
    return key


def _far_name(spec: ModelSpec) -> str:
    return spec.name.removeprefix(f"{spec.backend}:")
