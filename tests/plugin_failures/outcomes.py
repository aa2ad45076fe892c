"""What becomes of each kind of plugin when it fails in each way: the contract as a table."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from llmos_kernel.errors import (
    ExecutorCrashed, KernelError, PermissionDenied, PluginFailed, PluginIncompatible, PluginMissing,
)  # fmt: skip
from tests.plugin_failures.sources import FAILURES, KINDS
from tests.workspace import ROOT

_PLACES: Mapping[str, str] = {
    "backend": "caller", "scheduler": "start", "router": "start", "policy": "start", "processor": "task",
    "store": "caller", "observer": "left out", "exporter": "caller", "command": "caller", "model": "left out",
}  # fmt: skip
"""Where it shows that a plugin cannot be had."""
_ERRORS: Mapping[str, type[KernelError]] = {
    "import": PluginFailed, "exit": PluginFailed, "needs": PluginMissing, "needs-undeclared": PluginMissing,
    "api": PluginIncompatible, "kernel": PluginIncompatible, "taken": PluginFailed, "misspelt": PluginFailed,
    "returns": PluginFailed, "hook": PluginFailed,
}  # fmt: skip
"""What is raised then."""
_WITHOUT_IMPORT = {"needs", "kernel", "taken"}
"""What metadata tells."""
_IN_USE: Mapping[str, tuple[str, type[KernelError]]] = {
    "backend": ("task", ExecutorCrashed), "scheduler": ("task", PluginFailed), "router": ("caller", PluginFailed),
    "policy": ("caller", PermissionDenied), "processor": ("task", PluginFailed), "observer": ("left out", PluginFailed),
    "exporter": ("caller", PluginFailed), "command": ("caller", PluginFailed),
}  # fmt: skip
"""Where it shows that a plugin failed at run time, and how."""


@attrs.frozen
class Outcome:
    """What is seen of a failure."""

    place: str
    """``start``: the kernel refuses to start; ``caller``, ``task``: who asked gets the error, or the one task does;
    ``left out``: work goes on without the plugin, and its record says why; ``waits``: who uses it waits, and nobody
    else; ``exits``: the exit code is its; ``unused``: nothing happens, because nobody looks at what is wrong."""
    error: type[KernelError] | None = None
    state: str = "failed"
    """What the plugin's record says afterwards."""
    known: bool = False
    """Whether ``llmos plugins list`` can tell, which imports no plugin."""

    def __str__(self) -> str:
        error = f"`{self.error.__name__}`" if self.error else "what it raises"
        return {
            "start": f"refuses to start: {error}", "caller": f"its caller: {error}",
            "task": f"its tasks: {error}", "left out": f"left out: {error}",
            "waits": "its caller waits", "unused": "nothing", "exits": "its own exit code",
        }[self.place]  # fmt: skip


def outcome(kind: str, failure: str) -> Outcome:
    """Return what the contract says."""
    if failure in _ERRORS:
        error, known = _ERRORS[failure], failure in _WITHOUT_IMPORT
        state = "incompatible" if error is PluginIncompatible else "failed"
        code_is_never_run = kind == "model" and not known and failure != "returns"
        if code_is_never_run or (kind, failure) == ("observer", "returns"):
            return Outcome("unused", state="active")
        if (kind, failure) == ("observer", "hook"):  # its hook is its use
            return Outcome("left out", PluginFailed)
        return Outcome(_PLACES[kind], error, state, known)
    if kind == "model":
        return Outcome("unused", state="active")
    if failure == "blocks":
        return Outcome("task", PluginFailed, "active") if kind == "processor" else Outcome("waits", state="active")
    if kind == "store":  # whoever has it calls it directly
        return Outcome("caller", None, "active")
    if (kind, failure) == ("command", "exits"):  # a program may end as it likes
        return Outcome("exits", state="active")
    place, error = _IN_USE[kind]
    return Outcome(place, error, "failed" if kind in ("scheduler", "observer") else "active")


TABLE: Mapping[tuple[str, str], Outcome] = {
    (kind, failure): outcome(kind, failure) for failure in FAILURES for kind in KINDS
}
PAGE = ROOT / "docs" / "explanation" / "errors.md"
_BEGIN, _END = "<!-- failures:begin -->\n", "<!-- failures:end -->\n"


def markdown() -> str:
    """Return the table as a page has it: a row per failure, a column per kind."""
    rows = [["a plugin that", *KINDS], ["---"] * (len(KINDS) + 1)]
    rows += [[FAILURES[one].title, *(str(TABLE[kind, one]) for kind in KINDS)] for one in FAILURES]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def written(page: str) -> str:
    """Return *page* with the table between its marks."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return before + _BEGIN + markdown() + _END + after
