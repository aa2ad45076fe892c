"""A policy of rules: what no rule allows is denied.

A rule allows *actions* on *resources* to whoever it is for.  All its fields are patterns of shell kind (``*`` is any
text), and one of each kind must fit; a field that is not given fits everything::

    [[options."policy:rules".allow]]
    tenants = ["acme"]
    actions = ["attach", "alloc", "schedule"]
    resources = ["kernel", "model:tiny"]

Actions are ``attach``, ``alloc``, ``schedule``, ``grant`` and ``control.<message>``; resources are the kind and the
name of the object, ``model:tiny`` for instance.  There are no rules that deny: the order of rules means nothing, and
taking one away never allows more (Saltzer and Schroeder, "The Protection of Information in Computer Systems", 1975:
fail-safe defaults).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from typing import Any

import attrs

from llmos import read_options
from llmos_kernel.api import check_type, listed, names
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Action, Decision, Policy

api = 1
"""The version of the policies' contract that this module is written for."""
SOURCE = "policy:rules"
LOCAL = "local"
"""The tenant of who comes from this machine, without a key."""


def _patterns() -> Any:  # noqa: ANN401 - attrs types fields as Any
    return attrs.field(default=("*",), converter=listed, validator=names)


@attrs.frozen(kw_only=True)
class Rule:
    """Something that is allowed."""

    principals: tuple[str, ...] = _patterns()
    """Names of holders of keys."""
    tenants: tuple[str, ...] = _patterns()
    scopes: tuple[str, ...] = attrs.field(default=(), converter=listed, validator=names)
    """Who has one of these; if none are named, whoever."""
    actions: tuple[str, ...] = _patterns()
    resources: tuple[str, ...] = _patterns()
    _compiled: tuple[re.Pattern[str], ...] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        fields = (self.principals, self.tenants, self.actions, self.resources)
        object.__setattr__(self, "_compiled", tuple(map(_compiled, fields)))

    def allows(self, action: Action) -> bool:
        """Return whether the rule is about *action*."""
        who = action.principal
        values = (who.name, who.tenant, action.name, action.resource)
        fits = all(pattern.match(value) for pattern, value in zip(self._compiled, values, strict=True))
        return fits and (not self.scopes or not who.scopes.isdisjoint(self.scopes))


def _compiled(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)) or r"(?!)")


def _rules(value: object) -> object:
    if not isinstance(value, list | tuple):
        return value
    found = []
    for number, one in enumerate(value):
        check_type(f"allow[{number}]", one, (Mapping, Rule), "a table of patterns")
        found.append(one if isinstance(one, Rule) else read_options(Rule, one, f"{SOURCE}, allow[{number}]"))
    return tuple(found)


def _listed(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    check_type(attribute.name, value, tuple, "a list of rules")


def _flag(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    check_type(attribute.name, value, bool, "true or false")


@attrs.frozen(kw_only=True)
class Options:
    """What ``rules`` can be told."""

    allow: tuple[Rule, ...] = attrs.field(default=(), converter=_rules, validator=_listed)
    """The rules."""
    local: bool = attrs.field(default=True, validator=_flag)
    """Whether who comes from this machine without a key may do everything."""


class Rules(Policy):
    """Denies what no rule allows."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def check(self, action: Action) -> Decision:
        """Allow what a rule is about."""
        if self._options.local and action.principal.tenant == LOCAL:
            return Decision.ALLOW
        return Decision.ALLOW if any(rule.allows(action) for rule in self._options.allow) else Decision.DENY


@hookimpl
def llmos_policy(config: Mapping[str, Any]) -> Policy:
    """Return the policy; *config* holds `Options`.  Raises `ConfigError`."""
    return Rules(read_options(Options, config, SOURCE))
