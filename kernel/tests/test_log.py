"""Logs: structlog is imported when something is first logged, and configured by nobody but the program."""

from __future__ import annotations

import subprocess
import sys

import pytest
import structlog

from llmos_kernel._log import log


def test_goes_to_the_configured_logger() -> None:
    """An event arrives with its level and its fields, ``event`` among the names that a field may have."""
    with structlog.testing.capture_logs() as logs:
        log("warning", "plugin.failed", plugin="store:x", level=3)

    assert [{"event": "plugin.failed", "log_level": "warning", "plugin": "store:x", "level": 3}] == logs


def test_stderr_without_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """A program that configured no logs finds its stdout clean and structlog still unconfigured."""
    structlog.reset_defaults()
    log("error", "executor.crashed", model="tiny")
    out, err = capsys.readouterr()

    assert "" == out
    assert "executor.crashed" in err
    assert not structlog.is_configured()


def test_imported_when_first_used() -> None:
    """Importing this module does not import structlog; logging does."""
    script = (
        "import sys\n"
        "from llmos_kernel._log import log\n"
        "before = 'structlog' in sys.modules\n"
        "log('info', 'hello')\n"
        "print(before, 'structlog' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "False True\n" == done.stdout
