"""What a far end answers instead of an answer, as errors of llmos.

Messages of far ends are passed on, cut, on one line, and without the key: some repeat it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import attrs

from llmos_kernel.errors import InvalidArgument, KernelError, ModelUnavailable, Overloaded
from llmos_remote.options import Place
from llmos_remote.pace import retry_after, span

LONGEST = 300
"""Most letters of a far end's message."""
_BUSY = {429, 503, 529}
_AGAIN = {429, 500, 502, 503, 529}
"""What may be asked again.  Not 504: who stands between cannot know whether the work was done, and billed."""
_SIGNS = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]+")


class Refusal(Exception):
    """A far end refused a request before it began to answer.  It is not seen outside of this package."""

    def __init__(self, error: KernelError, *, again: bool = False, after: float | None = None) -> None:
        super().__init__(error.message)
        self.error, self.again, self.after = error, again, after


@attrs.frozen
class FarEnd:
    """Who is asked, in words; and the key, which is taken out of everything that is said."""

    model: str
    """What llmos calls the model."""
    name: str
    """What the far end calls it."""
    place: Place
    advice: str
    """What to do about a key that is refused."""
    key: str = attrs.field(default="", repr=False)

    def clean(self, text: object) -> str:
        """Return *text* for a message."""
        said = text if isinstance(text, str) else repr(text)
        if self.key:
            said = said.replace(self.key, "(key)")
        said = _SIGNS.sub(" ", said).strip()
        return said if len(said) <= LONGEST else f"{said[:LONGEST]}…"

    def unavailable(self, what: str, **facts: object) -> ModelUnavailable:
        """Return the error for a far end that does not do what it should."""
        return ModelUnavailable(f"{self.model}: {self.place.host} {what}", model=self.model, **facts)

    def nonsense(self, error: BaseException) -> ModelUnavailable:
        """Return the error for an answer that is not of the protocol."""
        why = self.clean(f"{type(error).__name__}: {error}")
        return self.unavailable(f"answered what is not of its protocol ({why})")

    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
        """Return what becomes of a request that was answered with *status* instead of 200."""
        said = _Said.of(body)
        why = f"{status}: {self.clean(said.message)}" if said.message else str(status)
        if status in {400, 413, 422}:
            return Refusal(InvalidArgument(
                f"{self.model}: {self.place.host} refused the request ({why})", field=self.clean(said.field) or "input",
                value=None, expected="what the far end takes", status=status,
            ))  # fmt: skip
        if said.code == "insufficient_quota" or status in {401, 402, 403}:
            return Refusal(self.unavailable(f"refused the key ({why}); {self.advice}", field="api_key", status=status))
        if status == 404:
            what = f"knows no model {self.name!r} under {self.place.path or '/'} ({why})"
            return Refusal(self.unavailable(what, field="model", value=self.name, status=status))
        after = retry_after(headers, datetime.now(UTC))
        after = said.delay if after is None else after
        if status in _BUSY:
            waits = {} if after is None else {"retry_after": after}
            message = f"{self.model}: {self.place.host} has too much to do for now ({why})"
            return Refusal(Overloaded(message, model=self.model, status=status, **waits), again=True, after=after)
        if 300 <= status < 400:
            return Refusal(self.unavailable(f"points elsewhere ({status}), where no key is sent", field="base_url"))
        return Refusal(self.unavailable(f"failed ({why})", status=status), again=status in _AGAIN, after=after)


@attrs.frozen
class _Said:
    """What the body of a refusal says; far ends put it in several ways."""

    message: str = ""
    code: str = ""
    field: str = ""
    delay: float | None = None

    @classmethod
    def of(cls, body: bytes) -> _Said:
        try:
            found: Any = json.loads(body)
        except (ValueError, RecursionError):
            return cls()
        found = found[0] if isinstance(found, list) and found else found
        error = found.get("error", found) if isinstance(found, Mapping) else found
        if not isinstance(error, Mapping):
            return cls(error if isinstance(error, str) else "")
        message = error.get("message", error.get("detail"))
        return cls(_text(message), _text(error.get("code")), _text(error.get("param")), _delay(error.get("details")))


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else repr(value)[:LONGEST]


def _delay(details: object) -> float | None:
    """Return the delay of a ``google.rpc.RetryInfo``."""
    for one in details if isinstance(details, list) else ():
        if isinstance(one, Mapping) and isinstance(one.get("retryDelay"), str):
            return span(one["retryDelay"])
    return None
