"""The public surface: small, complete, and cheap to import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import llmos
from llmos import testing


def test_every_public_name_is_there() -> None:
    """`__all__` is what `dir` shows, and each name loads."""
    assert sorted(llmos.__all__) == sorted(dir(llmos))
    assert all(getattr(llmos, name) is not None for name in llmos.__all__)
    assert all(hasattr(testing, name) for name in testing.__all__)


def test_other_names_are_not() -> None:
    """A misspelt name is the usual error."""
    with pytest.raises(AttributeError, match="Cleint"):
        llmos.Cleint  # noqa: B018 - the access is what is tested


@pytest.mark.parametrize(
    "code", ["import llmos", "import llmos.cli; llmos.cli.run(['--help'])", "import llmos.testing.fixtures"]
)
def test_importing_is_cheap(code: str) -> None:
    """Neither the package nor the help page brings the kernel, an event loop, numbers or drawing."""
    heavy = {"asyncio", "numpy", "rich", "structlog", "llmos_kernel", "attrs"}
    tell = f"\nimport sys; print(*({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code + tell], capture_output=True, text=True, timeout=60, check=True)

    assert "" == done.stdout.splitlines()[-1]
