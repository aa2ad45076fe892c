"""The ``optimum`` exporter plugin: whatever optimum exports, to model folders of the layouts that run it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from llmos_kernel.errors import InvalidArgument
from llmos_kernel.hookspecs import hookimpl
from llmos_kernel.services import Exporter, Progress
from llmos_optimum.folder import check_source, finish, new_folder
from llmos_optimum.options import Options
from llmos_optimum.process import run_export

api: Final = 1
"""The version of the exporter contract that this plugin speaks."""


class OptimumExporter(Exporter):
    """Writes model folders with optimum, in a process of its own; options are the fields of `Options`."""

    def export(self, source: Path, target: Path, options: Mapping[str, Any], progress: Progress) -> Mapping[str, Any]:
        """Write *target* from *source*; *progress* hears of steps, each of them a share of the weights' bytes.

        Returns the manifest as plain values.  Raises what `run_export` raises, `InvalidArgument` for a wrong option
        and `ModelUnavailable` for a checkpoint that cannot be exported.
        """
        wanted = Options.read(options)
        source = source.absolute()
        model = wanted.name or source.name
        size = check_source(source, model=model)

        def shown(what: str, done: int, total: int) -> None:
            progress(what, size * done // total, size)

        with new_folder(target) as folder:
            request = {"source": str(source), "target": str(folder.absolute()), "task": wanted.task}
            facts = run_export(wanted.python, request, wanted.timeout, shown, model=model)
            return finish(folder, source, facts, wanted)


@hookimpl
def llmos_exporter(config: Mapping[str, Any]) -> Exporter:
    """``llmos.exporter``: the exporter by optimum, which has no settings."""
    if config:
        name = next(iter(config))
        message = f"exporter optimum: {name} is {config[name]!r}, expected no settings"
        raise InvalidArgument(message, field=name, value=config[name], expected="no settings")
    return OptimumExporter()
