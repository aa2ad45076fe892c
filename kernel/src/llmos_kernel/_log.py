"""Structured logs.  structlog is imported when something is first logged: it costs 170 ms and brings rich along."""

from __future__ import annotations

import sys
from typing import Any


def log(level: str, event: str, /, **fields: Any) -> None:  # noqa: ANN401 - fields are whatever tells what happened
    """Log *event* at *level* (``debug``, ``info``, ``warning``, ``error``) to the logger that the program configured.

    Where it configured none, the line goes to stderr: stdout belongs to the program, and so does its configuration.
    """
    import structlog  # noqa: PLC0415 - see above

    if structlog.is_configured():
        logger = structlog.get_logger("llmos")
    else:
        logger = structlog.wrap_logger(structlog.PrintLogger(sys.stderr))
    getattr(logger, level)(event, **fields)
