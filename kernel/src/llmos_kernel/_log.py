"""Structured logs.  structlog is imported when something is first logged: it costs 170 ms and brings rich along."""

from __future__ import annotations

import sys
from typing import Any


def log(level: str, event: str, /, **fields: Any) -> None:  # noqa: ANN401 - fields are whatever tells what happened
    """Log *event* at *level* (``debug``, ``info``, ``warning``, ``error``) to the logger that the program configured.

    Where it configured none, the line goes to stderr: stdout belongs to the program, and so does its configuration.
    """
    import structlog  # noqa: PLC0415 - see above

    stderr = structlog.PrintLogger(sys.stderr)
    logger = structlog.get_logger("llmos") if structlog.is_configured() else structlog.wrap_logger(stderr)
    getattr(logger, level)(event, **fields)
