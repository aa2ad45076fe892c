"""``llmos plugins new``: the start of a plugin, made from the template by copier."""

from __future__ import annotations

import re
from pathlib import Path

from llmos_kernel.errors import InvalidArgument, PluginMissing

TEMPLATE = Path(__file__).parents[1] / "plugin-template"
"""The template: within the wheel, or in the repository, to which a link leads."""
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def make(kind: str, name: str, folder: Path, description: str = "") -> Path:
    """Write the package of a new plugin of *kind* called *name* into a new folder within *folder*; return that.

    Raises `InvalidArgument` for a name that cannot be one and for a folder that is there, and `PluginMissing` where
    copier is not installed.
    """
    if NAME.fullmatch(name) is None:
        raise InvalidArgument.of("name", name, "small letters, digits and hyphens, as in loud-voice")
    target = folder / f"llmos-{name}"
    if target.exists():
        raise InvalidArgument.of("name", name, f"one for which there is no folder {target} yet")
    try:
        from copier import run_copy  # noqa: PLC0415 - an extra, and slow to import
    except ModuleNotFoundError as error:
        message = f"llmos plugins new needs {error.name}: pip install 'llmos-sdk[new]'"
        raise PluginMissing(message, plugin="copier", needs="llmos-sdk[new]") from error
    data = {"name": name, "kind": kind} | ({"description": description} if description else {})
    run_copy(str(TEMPLATE.resolve()), target, data=data, defaults=True, quiet=True)
    return target
