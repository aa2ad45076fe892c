"""W3C trace contexts, in the form in which tasks hold them (https://www.w3.org/TR/trace-context/, section 3).

A ``traceparent``, and after a space a ``tracestate`` if there is one.  Nothing here needs OpenTelemetry.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llmos_kernel.api import check_type
from llmos_kernel.errors import InvalidArgument

Trace = str | Mapping[str, str]
"""A ``traceparent``, or the headers of a request: what OpenTelemetry's ``inject`` writes."""
MOST = 32
"""Most members of a ``tracestate``."""
LONGEST = 512
"""Most characters of a ``tracestate`` that are passed on: as many as the standard asks for."""
_EXPECTED = "a traceparent: 00-{32 hexadecimal digits}-{16}-{2}, in lower case, neither number all zeros"
_PARENT = re.compile(r"(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_KEY = r"[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13}"
_MEMBER = re.compile(rf"({_KEY})=[ -+\--<>-~]{{0,255}}[!-+\--<>-~]")


def trace_context(value: Trace) -> str:
    """Return what `Task.trace` holds for *value*; empty for headers without a ``traceparent``, and for an empty string.

    Raises `InvalidArgument` for a ``traceparent`` that the standard says to ignore.  A ``tracestate`` that is none is
    left out, as the standard says.  A version that is not known yet is read as the first one.
    """
    parent, state = _parts(value)
    if parent == "":
        return ""
    check_type("trace", parent, str, _EXPECTED)
    read = _PARENT.fullmatch(parent.strip(" \t"))
    if read is None or (read[1] == "00" and read[4]):
        raise InvalidArgument.of("trace", parent, _EXPECTED)
    flags = read[3] if read[1] == "00" else f"{int(read[3], 16) & 1:02x}"
    return f"00-{read[2]}-{flags} {_state(state)}".rstrip()


def _parts(value: Any) -> tuple[Any, Any]:  # noqa: ANN401 - whatever somebody passes
    if isinstance(value, str):
        parent, _, state = value.partition(" ")
        return parent, state
    check_type("trace", value, Mapping, "a string or a mapping of headers")
    headers = {str(name).lower(): text for name, text in value.items()}
    return headers.get("traceparent", ""), headers.get("tracestate", "")


def _state(value: object) -> str:
    """Return *value* without empty members; nothing if it is no ``tracestate``."""
    if not isinstance(value, str) or len(value) > LONGEST:
        return ""
    members = [member for part in value.split(",") if (member := part.strip(" \t"))]
    read = [_MEMBER.fullmatch(member) for member in members]
    keys = {one[1] for one in read if one is not None}
    return ",".join(members) if len(keys) == len(members) <= MOST else ""
