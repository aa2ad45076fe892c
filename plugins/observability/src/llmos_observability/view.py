"""What ``ps`` and ``top`` show: the control port's answers as rows of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import attrs
from rich.cells import cell_len, set_cell_size

Facts = Mapping[str, Any]
Row = tuple[str, ...]
RUNNING = frozenset(("running", "stalled"))
TASKS = ("ID", "STATE", "MODEL", "KIND", "TENANT", "PRIO", "AGE", "TOKENS", "TOK/S")
MODELS = ("MODEL", "STATE", "WAITING", "RUNNING", "TOK/S", "MEMORY")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Asked(Protocol):
    """A client, of whatever kernel."""

    def control(self, message: str, *args: Any) -> Any:  # noqa: ANN401 - plain values
        """Ask the control port."""


@attrs.frozen
class View:
    """A kernel at one moment."""

    stats: Facts
    models: Sequence[Facts]
    tasks: Sequence[Facts]
    """Those that the asker may see."""

    @classmethod
    def of(cls, client: Asked) -> View:
        """Ask for everything."""
        return cls(client.control("Stats"), client.control("ListModels"), client.control("ListTasks"))

    def task_rows(self) -> list[Row]:
        """Return a row per task, as `TASKS` says, those that run first, then those of high priority, then the old."""
        return [_task_row(task) for task in sorted(self.tasks, key=_rank)]

    def model_rows(self) -> list[Row]:
        """Return a row per model that is loaded or wanted, as `MODELS` says."""
        running, waiting = Counter[str](), Counter[str]()
        speeds = {model["name"]: 0.0 for model in self.models}
        for task in self.tasks:
            (running if task["state"] in RUNNING else waiting)[task["model"]] += 1
            if task["model"] in speeds and task["state"] in RUNNING:  # not `call`, which is no model
                speeds[task["model"]] += speed(task)
        return [
            (
                clean(model["name"]), model["state"], str(waiting[model["name"]]), str(running[model["name"]]),
                f"{speeds[model['name']]:.1f}", _footprint(model["footprint"]),
            )
            for model in self.models
            if model["state"] != "unloaded" or model["unfinished"]
        ]  # fmt: skip

    def summary(self) -> list[str]:
        """Return what is said of the kernel, a line each."""
        kinds = {"processes": "process", "handles": "handle", "ports": "port"}
        counts = [f"{self.stats[many]} {one if self.stats[many] == 1 else many}" for many, one in kinds.items()]
        dropped = self.stats["events_dropped"]
        lines = [
            ", ".join([f"kernel {self.stats['state']}", *counts, *([f"{dropped} events dropped"] if dropped else [])])
        ]
        devices = self.stats["devices"].items()
        return [
            *lines,
            *(f"{clean(name)}: {size(one['used'])} of {size(one['limit'])} of weights" for name, one in devices),
        ]


def speed(task: Facts) -> float:
    """Return how many tokens a second the task generated since its first one."""
    return task["generated"] / task["decode"] if task["decode"] > 0 and task["generated"] else 0.0


def size(nbytes: float) -> str:
    """Return a number of bytes for people: ``1.5 GiB``."""
    for unit in _UNITS:
        if nbytes < 1024 or unit == _UNITS[-1]:
            break
        nbytes /= 1024
    return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"


def duration(seconds: float) -> str:
    """Return a time for people: ``12.3s``, ``4m05s``, ``2h03m``."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    if seconds < 3600:
        return f"{int(seconds // 60)}m{int(seconds % 60):02}s"
    return f"{int(seconds // 3600)}h{int(seconds % 3600 // 60):02}m"


def clean(name: object) -> str:
    """Return a name without what a terminal would obey."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(name))


def table(header: Row, rows: Iterable[Row], width: int) -> list[str]:
    """Return lines of at most *width* columns: where there is no room, the longest column is cut."""
    lines = [header, *rows]
    widths = [max(cell_len(row[column]) for row in lines) for column in range(len(header))]
    while sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > 4:
        widths[widths.index(max(widths))] -= 1
    return ["  ".join(_cell(cell, room) for cell, room in zip(row, widths, strict=True)).rstrip() for row in lines]


def _cell(text: str, room: int) -> str:
    return set_cell_size(text, room) if cell_len(text) <= room else f"{set_cell_size(text, room - 1)}…"


def _rank(task: Facts) -> tuple[bool, int, int]:
    return task["state"] not in RUNNING, -task["priority"], task["id"]


def _task_row(task: Facts) -> Row:
    return (
        str(task["id"]), task["state"], clean(task["model"]), clean(task["kind"]), clean(task["tenant"]),
        str(task["priority"]), duration(task["age"]), f"{task['prompt']}+{task['generated']}",
        f"{speed(task):.1f}" if speed(task) else "-",
    )  # fmt: skip


def _footprint(footprint: Facts | None) -> str:
    return "-" if footprint is None else f"{size(footprint['nbytes'])} {clean(footprint['device'])}"
