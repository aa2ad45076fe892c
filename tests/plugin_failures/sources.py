"""One plugin of each kind, as a module that nobody would complain about, and the ways to spoil it.

Each kind's plugin calls ``act()`` where it is used first: that is where it raises or blocks at run time.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from llmos_kernel.contracts import API
from llmos_kernel.hookspecs import HOOKS

NAME, DISTRIBUTION, MODULE = "fake", "fake-plugin", "fake_plugin"
KINDS = tuple(API)
VICTIM = "victim"
"""The principal that a policy's ``act`` is for, and the model that a backend or a scheduler serves."""

_HEADER = """
{top}
import threading
import click
from llmos.testing import Capitals, CopyExporter, EchoBackend, EchoExecutor, FirstCome, FirstSuited, MemoryStore
from llmos_kernel import Decision, ModelSpec, Policy
from llmos_kernel.hookspecs import hookimpl

api = {api}
entered, release = threading.Event(), threading.Event()

def act():
    {act}
"""
_MADE: Mapping[str, str] = {
    "backend": """
class Executor(EchoExecutor):
    def step(self, plan):
        act()
        return super().step(plan)

class Made(EchoBackend):
    llmos_backend = None
    def load(self, spec):
        return Executor()
""",
    "scheduler": """
class Made(FirstCome):
    busy = False
    def arrived(self, task):
        self.busy = True
        super().arrived(task)
    def plan(self, now, limits):
        if self.busy:
            act()
        return super().plan(now, limits)
""",
    "router": """
class Made(FirstSuited):
    def route(self, kind, want, candidates):
        act()
        return super().route(kind, want, candidates)
""",
    "policy": """
class Made(Policy):
    def check(self, action):
        if action.principal.name == "victim" and action.name == "schedule":
            act()
        return Decision.ABSTAIN
""",
    "processor": """
class Made(Capitals):
    def process(self, value, params):
        act()
        return super().process(value, params)
""",
    "store": """
class Made(MemoryStore):
    def get(self, key):
        act()
        return super().get(key)
""",
    "exporter": """
class Made(CopyExporter):
    def export(self, source, target, options, progress):
        act()
        return super().export(source, target, options, progress)
""",
    "command": """
def Made():
    return click.Command("fake", callback=act)
""",
    "model": "",
}
_HOOK = """
@hookimpl
def {hook}({argument}):
    {body}
"""
_BODIES = {"observer": "act()", "model": 'return [ModelSpec(name="victim", backend="echo")]'}
_ARGUMENTS = {"observer": "event", "command": "", "model": ""}
MODELS = '[{"name": "victim", "backend": "echo"}]'


@attrs.frozen(kw_only=True)
class Failure:
    """One way to spoil a plugin; the fields that are not set leave it as it is."""

    title: str
    top: str = ""
    api: str = "1"
    act: str = "pass"
    body: str = ""
    misspelt: bool = False
    requires: tuple[str, ...] = ()
    twin: bool = False
    """Whether another distribution claims the same name."""
    models: str = MODELS

    def source(self, kind: str) -> str:
        """Return the module of the spoilt plugin of *kind*."""
        hook = HOOKS[kind]
        hook = f"{hook[:-1]}{hook[-1] * 2}" if self.misspelt else hook
        body = self.body or _BODIES.get(kind, "return Made()")
        header = _HEADER.format(top=self.top, api=self.api, act=self.act)
        return (
            header + _MADE.get(kind, "") + _HOOK.format(hook=hook, argument=_ARGUMENTS.get(kind, "config"), body=body)
        )


NEEDED = "a-package-that-nobody-has"
FAILURES: Mapping[str, Failure] = {
    "import": Failure(title="raises at import", top="raise RuntimeError('broken at import')"),
    "exit": Failure(title="exits at import", top="raise SystemExit(7)"),
    "needs": Failure(title="misses a dependency", requires=(f"{NEEDED}>=1",)),
    "needs-undeclared": Failure(title="misses one that it does not declare", top="import a_module_that_nobody_has"),
    "api": Failure(title="is of another contract version", api="99"),
    "kernel": Failure(title="requires another kernel", requires=("llmos-kernel>=99",)),
    "taken": Failure(title="has a name that another has", twin=True),
    "misspelt": Failure(title="misspells its hook", misspelt=True),
    "returns": Failure(title="returns the wrong type", body="return 7", models='{"name": "victim"}'),
    "hook": Failure(title="raises in its hook", body="raise RuntimeError('broken in its hook')"),
    "blocks": Failure(title="blocks", act="entered.set(), release.wait(60)"),
    "raises": Failure(title="raises at run time", act="raise RuntimeError('broken in use')"),
    "exits": Failure(title="exits at run time", act="raise SystemExit(7)"),
}
