"""Each kind of plugin in use: the kernel or the command that has one called ``fake``, and what uses it."""

from __future__ import annotations

import importlib
import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

from kernel.tests.distributions import Site
from llmos.cli import run
from llmos.cli._common import Common
from llmos.testing import EchoBackend, FirstComePlugin, Recorder, VirtualClock, echo_spec
from llmos_kernel import Auto, Credentials, Done, Failed, Kernel, KernelConfig, ModelSpec, Process, Task
from llmos_kernel.errors import KernelError
from llmos_kernel.loader import PluginRecord
from tests.plugin_failures.sources import DISTRIBUTION, MODULE, NAME, VICTIM, Failure

PATIENCE = 20.0
"""Seconds of real time after which something that should have happened at once did not."""
FOREVER = 1e6
"""Virtual seconds."""
COMMANDS: Mapping[str, list[str]] = {
    "exporter": ["export", "checkpoint", "target", "--with", NAME, "--json"], "command": [NAME],
}  # fmt: skip
"""How the command line uses the kinds that no kernel uses."""
_SETTINGS: Mapping[str, dict[str, Any]] = {
    "backend": {"models": (echo_spec(), ModelSpec(name=VICTIM, backend=NAME))},
    "scheduler": {"models": (echo_spec(), echo_spec(VICTIM)), "schedulers": {VICTIM: NAME}}, "router": {"router": NAME},
    "policy": {"policies": (NAME,)}, "observer": {"observers": (NAME,)},
}  # fmt: skip
_TASKS: Mapping[str, Task] = {
    "backend": Task("generate", VICTIM, "a b"), "scheduler": Task("generate", VICTIM, "a b"),
    "router": Task("generate", Auto(), "a b"), "processor": Task("generate", "echo", "a b", pre=(NAME,)),
    "model": Task("generate", VICTIM, "a b"),
}  # fmt: skip
BYSTANDER = Task("generate", "echo", "c d")


def install(site: Site, kind: str, failure: Failure) -> None:
    """Install the plugin of *kind* that has the *failure*, and nothing of what it needs."""
    package = kind == "model"  # its list lies beside its package
    files = {f"{MODULE}/__init__.py" if package else f"{MODULE}.py": failure.source(kind)}
    files |= {f"{MODULE}/models.json": failure.models} if package else {}
    site.install(DISTRIBUTION, {f"{kind}:{NAME}": MODULE}, requires=failure.requires, files=files)
    if failure.twin:
        site.install("fake-thief", {f"{kind}:{NAME}": "fake_thief"}, files={"fake_thief.py": ""})


def only(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be installed but what is in *site*; what is imported already stays so."""
    for name in ("packaging.markers", "packaging.requirements", "structlog"):
        importlib.import_module(name)  # what is loaded when it is first needed
    kept = [path for path in sys.path if path == str(site.folder) or not any(Path(path).glob("*.dist-info"))]
    monkeypatch.setattr(sys, "path", kept)


def plugin_module() -> ModuleType:
    """Return the plugin's module, which is imported already."""
    return sys.modules[MODULE]


@attrs.define
class Scene:
    """A kernel that is told to use the plugin, an observer that counts, and a bystander who does not use it."""

    kind: str
    clock: VirtualClock | None = None
    recorder: Recorder = attrs.field(factory=Recorder)
    kernel: Kernel = attrs.field(init=False)
    bystander: Process = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        settings = {"models": (echo_spec(),), "plugins": (DISTRIBUTION, "fake-thief"), "timeout": FOREVER}
        config = KernelConfig(**{**settings, **_SETTINGS.get(self.kind, {})})
        plugins = (EchoBackend(), FirstComePlugin(), self.recorder)
        self.kernel = Kernel(config, plugins=plugins, clock=self.clock)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start the kernel; afterwards nothing is left of it, and every task has ended once."""
        with self.kernel:
            self.bystander = self.kernel.attach()
            yield
            assert "running" == self.kernel.state
        ends = ("task.done", "task.failed", "task.cancelled")
        seen = self.recorder.events

        assert sorted(one.fields["task"] for one in seen if one.name == "task.accepted") == sorted(
            one.fields["task"] for one in seen if one.name in ends
        )

    def look_on(self) -> None:
        """Do what the bystander does all the time."""
        assert "c d" == text_of(self.bystander, BYSTANDER)

    def use(self) -> str:
        """Use the plugin; return where a failure was seen, raise what it was."""
        if self.kind == "store":
            self.kernel.plugins.store(NAME).get("key")
        elif self.kind == "policy":
            text_of(self.kernel.attach(Credentials(VICTIM)), BYSTANDER)
        else:
            text_of(self.kernel.attach(), _TASKS.get(self.kind, BYSTANDER))
        return "unused"

    def record(self) -> PluginRecord:
        """Return what the kernel knows of the plugin."""
        found = [one for one in self.kernel.plugins.records() if one.key == f"{self.kind}:{NAME}"]
        return next(one for one in found if one.distribution == DISTRIBUTION)


class TaskEndedBadly(Exception):
    """The call was accepted, and its task failed."""


def text_of(process: Process, task: Task) -> str:
    """Return the text of *task*; raise why it was refused, or `TaskEndedBadly` from why it failed."""
    end = process.recv(process.schedule(task), timeout=FOREVER).body
    if isinstance(end, Failed):
        raise TaskEndedBadly from end.error
    assert isinstance(end, Done)
    return end.text


def command_line(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run the command line of somebody with an echo model in this process; return its exit code and its output."""
    common = Common(plugins=(EchoBackend(), FirstComePlugin()))
    common.json = True
    code = run(arguments, common)
    out, err = capsys.readouterr()

    assert "Traceback" not in err
    return code, out


def told(out: str) -> KernelError:
    """Return the error in the output of a command."""
    return KernelError.from_wire(json.loads(out[out.index("{") :]))


class Aside(threading.Thread):
    """Somebody who uses the plugin meanwhile, and what became of it."""

    def __init__(self, use: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._use = use
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Use it."""
        try:
            self._use()
        except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
            self.error = error

    def end(self) -> None:
        """Wait until it has ended."""
        self.join(PATIENCE)

        assert not self.is_alive()
