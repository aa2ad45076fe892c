"""``llmos version``."""

from __future__ import annotations

import click

from llmos.cli._common import json_option, print_columns, print_json


@click.command("version")
@json_option
def command(as_json: bool) -> None:
    """Print the versions of everything that takes part."""
    import platform  # noqa: PLC0415 - nobody else needs it
    from importlib import metadata  # noqa: PLC0415 - the same

    found = {
        dist.metadata["Name"]: dist.version
        for dist in metadata.distributions()
        if (dist.metadata["Name"] or "").lower().replace("_", "-").startswith("llmos")
    }
    rows = [*sorted(found.items()), ("python", platform.python_version()), ("platform", platform.platform())]
    if as_json:
        print_json(dict(rows))
    else:
        print_columns(rows)
