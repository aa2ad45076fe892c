"""Every kind of plugin fails in every way, and what is seen of it is what the contract says."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernel.tests.distributions import Site, temporary_site
from llmos.cli._failures import next_step
from llmos.cli._probe import probe
from llmos.testing import VirtualClock
from llmos_kernel import KernelConfig
from llmos_kernel.errors import KernelError, NotFound
from llmos_kernel.loader import USABLE
from llmos_kernel.plugins import Plugins
from tests.plugin_failures.outcomes import PAGE, TABLE, written
from tests.plugin_failures.sources import DISTRIBUTION, FAILURES, KINDS, MODULE, NAME, VICTIM
from tests.plugin_failures.using import (
    COMMANDS, PATIENCE, Aside, Scene, TaskEndedBadly, command_line, install, only, plugin_module, told,
)  # fmt: skip

SETTINGS = 'plugins = ["*"]\nmodel = "echo"\n[[models]]\nname = "echo"\nbackend = "echo"\n'
CELLS = [pytest.param(kind, failure, id=f"{failure}-{kind}") for kind, failure in TABLE]
AT_ONCE = [cell for cell in CELLS if cell.values[1] != "blocks"]
Seen = tuple[str, BaseException | None]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A user with a home of their own, an echo model, and nothing that is installed."""
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    (tmp_path / "cwd" / "checkpoint").mkdir(parents=True)
    (tmp_path / "cwd" / "checkpoint" / "weights").write_bytes(b"weights")
    (tmp_path / "cwd" / "llmos.toml").write_text(SETTINGS, "utf-8")
    monkeypatch.chdir(tmp_path / "cwd")
    with temporary_site(tmp_path / "site", monkeypatch) as made:
        only(made, monkeypatch)
        yield made


def outcome_in_a_kernel(scene: Scene) -> Seen:
    """Use the plugin; return where it was seen to fail, and how."""
    try:
        with scene.running():
            scene.look_on()
            seen = _used(scene)
            scene.look_on()
    except KernelError as error:
        return "start", error
    record = scene.record()
    out = scene.kind in ("model", "observer") and record.state in ("failed", "incompatible")
    if out and (seen[0] == "unused" or isinstance(seen[1], NotFound)):  # as if the model were not installed
        return "left out", record.error()
    return seen


def _used(scene: Scene) -> Seen:
    try:
        scene.use()
    except TaskEndedBadly as failed:
        return "task", failed.__cause__
    except BaseException as error:  # noqa: BLE001 - what a plugin raises is what is looked at
        return "caller", error
    return "unused", None


def outcome_of_a_command(kind: str, capsys: pytest.CaptureFixture[str]) -> Seen:
    """Run the command that uses the plugin; return the same."""
    try:
        code, out = command_line(*COMMANDS[kind], capsys=capsys)
    except SystemExit as end:
        return "exits", end
    return ("caller", told(out)) if code else ("unused", None)


def explained(error: BaseException | None) -> bool:
    """Return whether *error* names the plugin, or its model, and what to do next."""
    if not isinstance(error, KernelError):
        return False
    step = any(words in error.message for words in ("report it to", "pip install", "install a version", "uninstall"))
    return any(name in error.message for name in (NAME, VICTIM)) and (step or bool(next_step(error)))


@pytest.mark.parametrize(("kind", "failure"), AT_ONCE)
def test_outcome(kind: str, failure: str, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """It shows in one place, as one typed error with plugin and next step; a bystander is not affected."""
    install(site, kind, FAILURES[failure])
    expected = TABLE[kind, failure]
    if kind in COMMANDS:
        place, error = outcome_of_a_command(kind, capsys)
        assert 0 == command_line("generate", "c d", capsys=capsys)[0]
    else:
        scene = Scene(kind)
        place, error = outcome_in_a_kernel(scene)
        record = scene.record()
        assert (expected.state, expected.state != "active") == (record.state, bool(record.why))

    assert expected.place == place
    assert expected.error is None or (expected.error, True) == (type(error), explained(error))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "model"])
def test_blocked(kind: str, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Who uses a plugin that does not return waits, or gets an error in time; a bystander is served meanwhile."""
    install(site, kind, FAILURES["blocks"])
    if kind in COMMANDS:
        user = Aside(lambda: command_line(*COMMANDS[kind], capsys=capsys))
        seen = _while_it_blocks(user, lambda: None)
    else:
        clock = VirtualClock()
        scene = Scene(kind, clock)
        with scene.running():
            user = Aside(scene.use)
            seen = _while_it_blocks(user, scene.look_on, clock if kind == "processor" else None)

    assert TABLE[kind, "blocks"].place == seen[0]
    assert isinstance(seen[1], TABLE[kind, "blocks"].error or type(None))


def _while_it_blocks(user: Aside, look_on: Callable[[], None], clock: VirtualClock | None = None) -> Seen:
    """Look on while *user* is stuck; return what became of *user*, when time passes if there is a *clock*."""
    until = time.monotonic() + PATIENCE
    while not hasattr(sys.modules.get(MODULE), "act") and time.monotonic() < until:
        user.join(0.001)  # until it is imported, all of it
    assert plugin_module().entered.wait(PATIENCE)
    look_on()
    while clock is not None and user.is_alive() and time.monotonic() < until:
        clock.advance(31.0)
        user.join(0.01)
    ended = not user.is_alive()
    plugin_module().release.set()
    user.end()
    if user.error is None:
        return "waits", None
    assert ended
    return ("task", user.error.__cause__) if isinstance(user.error, TaskEndedBadly) else ("caller", user.error)


@pytest.mark.parametrize(("kind", "failure"), CELLS)
def test_disabled(kind: str, failure: str, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is wrong with it, its listing and switching it off run none of its code, and the tool works after it."""
    install(site, kind, FAILURES[failure])
    expected = TABLE[kind, failure]
    code, out = command_line("plugins", "list", "--json", capsys=capsys)
    before = {(one["key"], one["distribution"]): one["state"] for one in json.loads(out)}
    switched, _ = command_line("plugins", "disable", f"{kind}:{NAME}", capsys=capsys)
    _, out = command_line("plugins", "list", "--json", capsys=capsys)
    after = {one["state"] for one in json.loads(out) if one["key"] == f"{kind}:{NAME}"}

    assert (0, 0) == (code, switched)
    assert (expected.state if expected.known else "discovered") == before[f"{kind}:{NAME}", DISTRIBUTION]
    assert {"blocked"} == after
    assert 0 == command_line("generate", "c d", capsys=capsys)[0]
    assert MODULE not in sys.modules


@pytest.mark.parametrize(("kind", "failure"), CELLS)
def test_doctor(kind: str, failure: str, site: Site) -> None:
    """The doctor's examination tells what a plugin fails with, unless nothing but use can show it."""
    install(site, kind, FAILURES[failure])
    expected = TABLE[kind, failure]
    config = KernelConfig(plugins=("*",))
    shown = {(one.key, one.distribution): (one.state, one.why) for one in Plugins(config).records()}
    looked = {one["name"]: one for one in probe(config, load=False) if one.get("kind") == "plugin"}
    state, why = shown[f"{kind}:{NAME}", DISTRIBUTION]
    if found := looked.get(f"{kind}:{NAME}"):
        state, why = found["state"], found["why"]

    at_once = failure not in ("blocks", "raises", "exits") and (kind, failure) != ("observer", "hook")
    in_use = kind in ("scheduler", "policy", "store") and failure in ("hook", "returns")
    if at_once and not in_use and expected.place != "unused":
        assert (expected.state, True) == (state, bool(why))
    else:
        assert (True, "") == (state in USABLE, why)


def test_the_page_has_the_matrix() -> None:
    """The documentation's table is the one that these tests hold; ``python -m tests.plugin_failures`` writes it."""
    page = PAGE.read_text("utf-8")

    assert written(page) == page
