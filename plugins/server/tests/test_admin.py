"""What the dashboard's routes tell and do, and to whom."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmos import KeyRing
from llmos.testing import EchoBackend, echo_spec
from llmos_kernel import Action, Decision, Policy
from llmos_kernel.errors import ModelUnavailable
from plugins.server.tests.serving import PATIENCE, Site, bearer, ended_tasks, serving, streaming

TIMES = ("queued", "prefill", "decode")


def ticks(site: Site, count: int, **params: Any) -> list[dict[str, Any]]:
    """Return the first events of the stream."""
    found: list[dict[str, Any]] = []
    with site.http.stream("GET", "/v1/llmos/events", params=params) as response:
        assert "text/event-stream; charset=utf-8" == response.headers["content-type"]
        for line in response.iter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
            if len(found) == count:
                break
    return found


def test_models_tell_state_size_provider_and_speed() -> None:
    """A model that was never asked for is unloaded; one that answered is loaded, with what its executor says."""
    with serving() as site:
        site.chat("one two three four")
        ended_tasks(site, 1)
        found = {one["name"]: one for one in site.http.get("/v1/llmos/models").json()["data"]}

    assert {"echo", "toy"} == found.keys()
    assert ("loaded", "unloaded") == (found["echo"]["state"], found["toy"]["state"])
    assert "echo" == found["echo"]["executor"]["provider"]
    assert (1, 0) == (found["echo"]["speed"]["tasks"], found["toy"]["speed"]["tasks"])
    assert found["echo"]["speed"]["decode"] > 0
    assert [] == [name for name in ("path", "options") if name in found["echo"]]


def test_a_model_is_loaded_and_unloaded() -> None:
    """By its alias, too; the answer to loading does not wait for it."""
    with serving() as site:
        begun = site.post("/v1/llmos/models/parrot/load")
        site.chat()
        loaded = site.http.get("/v1/llmos/models/echo").json()
        gone = site.post("/v1/llmos/models/parrot/unload")

    assert (202, "echo") == (begun.status_code, begun.json()["name"])
    assert begun.json()["state"] in ("loading", "loaded")
    assert "loaded" == loaded["state"]
    assert (200, "unloaded") == (gone.status_code, gone.json()["state"])


def test_a_model_in_use_is_not_unloaded() -> None:
    """The refusal is typed, and the task goes on."""
    with serving() as site:
        with streaming(site):
            refused = site.post("/v1/llmos/models/echo/unload")
        (task,) = ended_tasks(site, 1)

    assert (503, "unavailable") == (refused.status_code, refused.json()["error"]["code"])
    assert "done" == task["state"]


def test_why_a_model_did_not_load() -> None:
    """It is told with the model, until it does load."""
    echo = EchoBackend()
    echo.faults.load = ModelUnavailable("toy is broken: <img src=x onerror=alert(1)>", model="toy")
    with serving(echo=echo) as site:
        site.post("/v1/llmos/models/toy/load")
        until = time.monotonic() + PATIENCE
        facts: dict[str, Any] = {"why": ""}
        while not facts["why"] and time.monotonic() < until:
            facts = site.http.get("/v1/llmos/models/toy").json()

    assert "unloaded" == facts["state"]
    assert "toy is broken" in facts["why"]


def test_tasks_tell_their_time_line() -> None:
    """Of one that lives and of one that ended; its parts add up to its age."""
    with serving() as site:
        with streaming(site):
            (live,) = site.http.get("/v1/llmos/tasks").json()["data"]
        (ended,) = ended_tasks(site, 1)

    assert ("running", None) == (live["state"], live["ended"])
    assert ("chat", "echo", "local", "done", "") == tuple(
        ended[name] for name in ("kind", "model", "tenant", "state", "error")
    )
    assert 3 == ended["generated"]
    for task in (live, ended):
        assert sum(part["seconds"] for part in task["timeline"]) == pytest.approx(task["age"])
        assert {part["phase"] for part in task["timeline"]} <= set(TIMES)


def test_tasks_are_filtered() -> None:
    """By state, model and kind; what is beyond the limit is counted."""
    with serving() as site:
        site.chat()
        site.post("/v1/completions", model="toy", prompt="a b")
        ended_tasks(site, 2)

        def kinds(query: str) -> list[str]:
            return [task["kind"] for task in site.http.get(f"/v1/llmos/tasks?{query}").json()["data"]]

        assert ["generate", "chat"] == kinds("state=all")
        assert ["generate"] == kinds("model=toy")
        assert ["chat"] == kinds("kind=chat")
        assert ["generate", "chat"] == kinds("state=done")
        assert [] == kinds("state=live") == kinds("state=failed")
        few = site.http.get("/v1/llmos/tasks?limit=1").json()
    assert (1, 1) == (len(few["data"]), few["more"])


def test_a_task_is_cancelled() -> None:
    """Once; then it is not there any more."""
    with serving() as site, streaming(site) as asking:
        (live,) = site.http.get("/v1/llmos/tasks").json()["data"]
        gone = site.post(f"/v1/llmos/tasks/{live['id']}/cancel")
        asking.join(PATIENCE)
        (ended,) = ended_tasks(site, 1)
        again = site.post(f"/v1/llmos/tasks/{live['id']}/cancel")

    assert (200, "cancelled") == (gone.status_code, gone.json()["state"])
    assert ("cancelled", "Cancelled") == (ended["state"], ended["error"])
    assert 404 == again.status_code


def test_a_task_gets_another_priority() -> None:
    """A number in range; anything else is refused by the name of the field."""
    with serving() as site, streaming(site):
        (live,) = site.http.get("/v1/llmos/tasks").json()["data"]
        changed = site.http.patch(f"/v1/llmos/tasks/{live['id']}", json={"priority": 7})
        wrong = site.http.patch(f"/v1/llmos/tasks/{live['id']}", json={"priority": 1e9})

    assert 7 == changed.json()["priority"]
    assert (400, "priority") == (wrong.status_code, wrong.json()["error"]["param"])


def test_plugins_tell_state_and_reason(site: Site) -> None:
    """Of each, by its key."""
    found = {one["key"]: one for one in site.http.get("/v1/llmos/plugins").json()["data"]}

    assert ("active", "") == (found["observer:console"]["state"], found["observer:console"]["why"])


def test_stats_count_and_look_back() -> None:
    """Counts, memory, quantiles over what ended, and a history with as many tokens as were made."""
    with serving() as site:
        for _ in range(3):
            site.chat("one two three four")
        ended_tasks(site, 3)
        facts = site.http.get("/v1/llmos/stats").json()

    assert ("running", True) == (facts["state"], facts["heard"])
    may = {"unload": True, "reasons": True, "evaluations": True}
    assert {"name": "local", "tenant": "local", "operator": False, "may": may} == facts["you"]
    assert [3, 3, 3] == [facts["latency"][name]["count"] for name in ("first", "between", "whole")]
    assert facts["latency"]["whole"]["p50"] <= facts["latency"]["whole"]["p99"]
    made = sum(row["generated"] for row in facts["history"])
    assert made == pytest.approx(12)


def test_events_follow_each_other() -> None:
    """Each has the counts and the rates since the last one; live tasks are in them."""
    with serving() as site, streaming(site):
        first, second = ticks(site, 2, interval=0.05)

    assert first["rates"]["at"] < second["rates"]["at"]
    assert (1, 0) == (second["rates"]["running"], second["rates"]["waiting"])
    assert {"running": 1} == second["tasks"]


# --- who may -----------------------------------------------------------------------------------------------------


def test_a_tenant_sees_its_own_tasks_and_an_operator_all(tmp_path: Path) -> None:
    """Those that live and those that ended; what one may not see one may not cancel."""
    ring = KeyRing(tmp_path)
    ann, _ = ring.create("ann", tenant="acme", now=time.time())
    eve, _ = ring.create("eve", tenant="evil", now=time.time())
    boss, _ = ring.create("boss", tenant="staff", scopes=("operator",), now=time.time())
    with serving(ring=ring, local="keys") as site:
        with streaming(site, **bearer(ann)):
            seen = {who: _tasks(site, key) for who, key in (("ann", ann), ("eve", eve), ("boss", boss))}
            (task,) = seen["ann"]
            refused = site.http.post(f"/v1/llmos/tasks/{task['id']}/cancel", headers=bearer(eve))
        ended_tasks(site, 1, **bearer(ann))
        after = [len(_tasks(site, key)) for key in (ann, eve, boss)]
        told = [site.http.get("/v1/llmos/stats", headers=bearer(key)).json()["history"] for key in (ann, eve, boss)]

    assert [1, 0, 1] == [len(found) for found in seen.values()]
    assert 404 == refused.status_code
    assert [1, 0, 1] == after
    assert [True, False, True] == [bool(rows) for rows in told]


def _tasks(site: Site, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.http.get("/v1/llmos/tasks", headers=bearer(key)).json()["data"]
    return found


def test_reasons_are_for_this_machine_and_operators(tmp_path: Path) -> None:
    """They may name files."""
    ring = KeyRing(tmp_path)
    ann, _ = ring.create("ann", tenant="acme", now=time.time())
    boss, _ = ring.create("boss", tenant="staff", scopes=("operator",), now=time.time())
    with serving(ring=ring, local="keys") as site:
        values = [
            {one["value"] for one in site.http.get("/v1/llmos/plugins", headers=bearer(key)).json()["data"]}
            for key in (ann, boss)
        ]

    assert {""} == values[0]
    assert "" not in values[1]


class Forbids(Policy):
    """Forbids some control messages."""

    name = "forbids"

    def __init__(self, *actions: str) -> None:
        self.actions = actions

    def check(self, action: Action) -> Decision:
        """Deny what was named."""
        return Decision.DENY if action.name in self.actions else Decision.ABSTAIN


@pytest.mark.parametrize(
    ("action", "method", "path"),
    [
        ("ListModels", "GET", "models"), ("InspectModel", "GET", "models/echo"),
        ("LoadModel", "POST", "models/echo/load"), ("UnloadModel", "POST", "models/echo/unload"),
        ("ListTasks", "GET", "tasks"),
        ("CancelTask", "POST", "tasks/1/cancel"), ("ListPlugins", "GET", "plugins"), ("Stats", "GET", "stats"),
        ("Stats", "GET", "events"),
    ],
)  # fmt: skip
def test_policies_forbid_each(action: str, method: str, path: str) -> None:
    """Nothing goes past the control port, so a policy can forbid everything that the dashboard does."""
    with serving(Forbids(f"control.{action}"), config={"policies": ("forbids",)}) as site:
        assert 403 == site.http.request(method, f"/v1/llmos/{path}").status_code


def test_what_is_not_there(site: Site) -> None:
    """404 for models and tasks that do not exist, 400 for parameters that cannot be."""
    found = [
        site.http.get(f"/v1/llmos/{path}").status_code
        for path in ("models/none", "tasks?limit=0", "events?interval=nan")
    ]

    assert [404, 400, 400] == found
    assert 404 == site.post("/v1/llmos/tasks/99/cancel").status_code


def test_the_stream_ends_with_the_server() -> None:
    """A dashboard that is open does not hold up the end."""
    with serving(drain=PATIENCE) as site, httpx.Client(base_url=site.url, timeout=PATIENCE) as watcher:
        request = watcher.build_request("GET", "/v1/llmos/events", params={"interval": 0.05})
        with contextlib.closing(watcher.send(request, stream=True)) as response:
            lines = response.iter_lines()
            next(lines)
            site.server.should_exit = True
            rest = list(lines)

    assert [] == [line for line in rest if "error" in line[:12]]


def test_names_may_have_slashes() -> None:
    """Names of folders do."""
    with serving(config={"models": (echo_spec("some/one"),)}) as site:
        assert 202 == site.post("/v1/llmos/models/some/one/load").status_code
        assert "some/one" == site.http.get("/v1/llmos/models/some/one").json()["name"]
