"""The policy of rules: what no rule allows is denied."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmos.testing import EchoBackend, FirstComePlugin, echo_spec
from llmos_kernel import Action, Credentials, Decision, Kernel, KernelConfig, Model, Port, Principal, Task
from llmos_kernel.errors import ConfigError, PermissionDenied
from llmos_security.rules import Rule, llmos_policy

ACME = Credentials("ann", "acme", ["chat"])


def action(name: str = "schedule", resource: str = "model:tiny", **who: Any) -> Action:
    """Return what somebody of acme wants to do."""
    principal = Principal(**{"process": 1, "name": "ann", "tenant": "acme", "scopes": frozenset(["chat"]), **who})
    return Action(principal, name, resource)


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ({}, True), ({"tenants": ["acme"]}, True), ({"tenants": ["acm?"]}, True), ({"tenants": ["rival"]}, False),
        ({"tenants": []}, False), ({"principals": ["ann", "bob"]}, True), ({"principals": ["bob"]}, False),
        ({"scopes": ["chat"]}, True), ({"scopes": ["admin"]}, False), ({"scopes": ["admin", "chat"]}, True),
        ({"actions": ["schedule"]}, True), ({"actions": ["alloc"]}, False), ({"actions": ["control.*"]}, False),
        ({"resources": ["model:*"]}, True), ({"resources": ["model:large"]}, False),
        ({"tenants": ["acme"], "actions": ["alloc"]}, False), ({"tenants": ["ACME"]}, False),
    ],
)  # fmt: skip
def test_a_rule(rule: dict[str, Any], allowed: bool) -> None:
    """Every field must fit."""
    decision = llmos_policy({"allow": [rule]}).check(action())

    assert (Decision.ALLOW if allowed else Decision.DENY) is decision


def test_no_rule_means_no() -> None:
    """Except for who comes from this machine without a key, unless that is switched off."""
    assert Decision.DENY is llmos_policy({}).check(action())
    assert Decision.ALLOW is llmos_policy({}).check(action(tenant="local"))
    assert Decision.DENY is llmos_policy({"local": False}).check(action(tenant="local"))


patterns = st.lists(st.text("ab*?[]:", max_size=5), max_size=3)


@given(st.lists(st.tuples(patterns, patterns), max_size=4), st.text("ab:[", max_size=5), st.text("ab:[", max_size=5))
def test_rules_fit_as_shells_do(rules: list[tuple[list[str], list[str]]], name: str, resource: str) -> None:
    """The same as trying every pattern of every rule."""
    policy = llmos_policy({"allow": [{"actions": actions, "resources": things} for actions, things in rules]})
    expected = any(
        any(fnmatchcase(name, one) for one in actions) and any(fnmatchcase(resource, one) for one in things)
        for actions, things in rules
    )

    assert (Decision.ALLOW if expected else Decision.DENY) is policy.check(action(name, resource))


@given(st.lists(patterns, min_size=1, max_size=4), st.data())
def test_taking_a_rule_away_never_allows_more(rules: list[list[str]], data: st.DataObject) -> None:
    """Nor does their order matter."""
    left = [{"actions": one} for one in rules]
    wanted = action(data.draw(st.text("ab*?[]:", max_size=5)))
    fewer = data.draw(st.permutations(left))[:-1]
    before, after = (llmos_policy({"allow": some}).check(wanted) for some in (left, fewer))

    assert before is Decision.ALLOW or after is Decision.DENY
    assert before is llmos_policy({"allow": left[::-1]}).check(wanted)


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"allow": {}}, "allow must be a list of rules"), ({"allow": "all"}, "allow must be a list of rules"),
        ({"allow": [3]}, "a table of patterns"), ({"allow": [{"tenant": ["x"]}]}, "nearest is 'tenants'"),
        ({"allow": [{"tenants": "acme"}]}, "tenants must be a list of names"), ({"local": "no"}, "true or false"),
        ({"deny": []}, "no option 'deny'"),
    ],
)  # fmt: skip
def test_wrong_options(config: dict[str, Any], match: str) -> None:
    """Each is one error that names what is wrong; a policy that cannot be made refuses the start."""
    with pytest.raises((ConfigError, ValueError), match=match):
        llmos_policy(config)


def test_on_a_kernel() -> None:
    """Who may schedule on one model may not have another, nor anything else."""
    rule = Rule(tenants=("acme",), actions=("attach", "alloc", "schedule"), resources=("kernel", "model:echo"))
    policy = llmos_policy({"allow": [rule]})
    config = KernelConfig(models=(echo_spec("echo"), echo_spec("secret")))
    with Kernel(config, plugins=(EchoBackend(), FirstComePlugin(), policy)) as kernel:
        with kernel.attach(ACME) as process:
            process.recv(process.schedule(Task("generate", process.alloc(Model("echo")), "hi")))
            for denied in (Model("secret"), Port(1)):
                with pytest.raises(PermissionDenied, match="policy rules denies"):
                    process.alloc(denied)
        with pytest.raises(PermissionDenied):
            kernel.attach(Credentials("eve", "rival"))
