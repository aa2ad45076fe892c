"""``/metrics`` passes on what an observer of the kernel measured."""

from __future__ import annotations

import time
from pathlib import Path

from llmos import KeyRing
from llmos.testing import ScriptedPolicy
from llmos_kernel import Action, Decision
from plugins.server.tests.serving import Gauge, Site, serving


def test_nobody_measures(site: Site) -> None:
    """Without an observer that measures the answer says how to have one."""
    answer = site.http.get("/metrics")

    assert (404, "not_measured") == (answer.status_code, answer.json()["error"]["code"])
    assert "llmos-observability" in answer.json()["error"]["message"]


def test_formats_are_the_observers_affair() -> None:
    """What the asker takes reaches the observer; its content type and its bytes are passed on as they are."""
    with serving(Gauge()) as site:
        answer = site.http.get("/metrics", headers={"accept": "application/openmetrics-text"})

    assert "text/plain; version=0.0.4; charset=utf-8" == answer.headers["content-type"]
    assert ("no-store", "application/openmetrics-text local\n") == (answer.headers["cache-control"], answer.text)


def test_who_is_told_what(tmp_path: Path) -> None:
    """It needs a key; a tenant is told of itself, an operator of everybody."""
    ring = KeyRing(tmp_path)
    ann, _ = ring.create("ann", tenant="acme", now=time.time())
    boss, _ = ring.create("boss", tenant="staff", scopes=("operator",), now=time.time())
    with serving(Gauge(), ring=ring, local="keys") as site:
        nobody = site.http.get("/metrics")
        told = [site.http.get("/metrics", headers=bearer(key)).text.split()[-1] for key in (ann, boss)]

    assert 401 == nobody.status_code
    assert ["acme", "None"] == told


def test_a_policy_may_forbid_it() -> None:
    """The question is an action like any other."""
    policy = ScriptedPolicy(lambda action: Decision.DENY if _asks(action) else Decision.ABSTAIN)
    with serving(Gauge(), policy) as site:
        answer = site.http.get("/metrics")

    assert (403, "permission_error") == (answer.status_code, answer.json()["error"]["type"])


def _asks(action: Action) -> bool:
    return action.name == "control.Metrics"


def bearer(shown: str) -> dict[str, str]:
    """Return the header that shows a key."""
    return {"authorization": f"Bearer {shown}"}
