"""Errors as clients of OpenAI's API know them: a status, and ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import attrs
from starlette.responses import JSONResponse

from llmos_kernel.errors import (
    BudgetExceeded, CallerError, Cancelled, DeadlineExceeded, InvalidArgument, KernelError, KernelStopped, NotFound,
    Overloaded, PermissionDenied, ResourceError,
)  # fmt: skip

_STATUS: tuple[tuple[type[KernelError], int, str, str | None], ...] = (
    (PermissionDenied, 403, "permission_error", None),
    (NotFound, 404, "invalid_request_error", "model_not_found"),
    (BudgetExceeded, 429, "rate_limit_error", "rate_limit_exceeded"),
    (Overloaded, 429, "rate_limit_error", "overloaded"),
    (DeadlineExceeded, 504, "timeout_error", "deadline_exceeded"),
    (Cancelled, 499, "invalid_request_error", "cancelled"),
    (InvalidArgument, 400, "invalid_request_error", None),
    (CallerError, 400, "invalid_request_error", None),
    (KernelStopped, 503, "server_error", "stopping"),
    (ResourceError, 503, "server_error", "unavailable"),
    (KernelError, 500, "server_error", None),
)
"""Status, type and code, by the first class that fits."""
FIELD = re.compile(r"[a-z_][a-z0-9_]*(?<!_str)")
"""How fields are spelt."""
OLLAMA = "/api/"
"""What the routes of Ollama's API begin with; its errors are one sentence."""
_PRIVATE = "the server could not do this; its log says why"


@attrs.frozen
class Refusal(Exception):
    """A request that is answered with an error."""

    status: int
    message: str
    kind: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    retry_after: float | None = None

    @classmethod
    def of(cls, error: KernelError) -> Refusal:
        """Return what a client is told of *error*: whose turn it is, and nothing of the machine."""
        status, kind, code = next((row[1], row[2], row[3]) for row in _STATUS if isinstance(error, row[0]))
        param = error.fields.get("field") if status in (400, 404) else None
        retry = error.fields.get("retry_after")
        told = _PRIVATE if status >= 500 and code is None else error.message
        after = float(retry) if isinstance(retry, int | float) else None
        return cls(status, told, kind, param if isinstance(param, str) else None, code, after)

    def body(self, path: str = "") -> dict[str, Any]:
        """Return the error as JSON has it, as clients of the route at *path* expect it."""
        if path.startswith(OLLAMA):
            return {"error": self.message}
        facts = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": facts}

    def response(self, path: str = "") -> JSONResponse:
        """Return the whole answer to a request for *path*."""
        headers = {} if self.retry_after is None else {"Retry-After": str(max(1, math.ceil(self.retry_after)))}
        if self.status == 408 or self.code == "stopping":
            headers["Connection"] = "close"  # a client that is slow, or that should go elsewhere
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(path), self.status, headers)


def invalid(problems: Sequence[Mapping[str, Any]], known: Collection[str] = ()) -> Refusal:
    """Return the refusal of a request that is not what its route takes.

    *problems* are pydantic's.  Of the ways in which a value is none of several kinds, the one that went deepest is
    told: that is the kind that was meant.  *known* are the fields that a misspelt one may have meant.
    """
    worst = max(problems, key=lambda problem: len(_place(problem)))
    param = ".".join(_place(worst)) or None
    why = str(worst.get("msg", "is wrong"))
    if worst.get("type") == "extra_forbidden":
        name = str(worst["loc"][-1])
        near = get_close_matches(name, known, n=1)
        why = "there is no such field" if FIELD.fullmatch(name) else f"there is no field {name!r:.100}"
        why = f"{why}; did you mean {near[0]}?" if near else why
    return Refusal(400, f"{param}: {why}" if param else why, param=param)


def _place(problem: Mapping[str, Any]) -> list[str]:
    """Return where in the body the problem is, without the names that pydantic has for kinds of values."""
    parts = [str(part) for part in problem.get("loc", ())]
    return [part for part in parts[1:] if part.isdecimal() or FIELD.fullmatch(part)]
