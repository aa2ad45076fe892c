"""``/metrics``: what an observer of the kernel measured, for Prometheus.

The server knows nothing of what is measured: it passes the question on to the kernel's control port, with the seat of
whoever came, so a tenant is told of its own tasks, an operator of everybody's, and a policy may forbid it.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request
from starlette.responses import Response

from llmos_server.document.parts import Responses
from llmos_server.failures import Refusal
from llmos_server.state import seat_of

router = APIRouter(tags=["Operation"])
NOBODY = (
    "nothing is measured: pip install llmos-observability, and name the observer in the settings: "
    'observers = ["metrics"]'
)
KINDS = ("text/plain", "application/openmetrics-text")
"""Media types that an asker may take."""
MEASURED: Responses = {
    200: {"description": "The measurements.", "content": {kind: {"schema": {"type": "string"}} for kind in KINDS}}
}


@router.get(
    "/metrics", summary="What Prometheus scrapes, as text or as OpenMetrics", responses=MEASURED,
    response_class=Response,
)  # fmt: skip
async def metrics(request: Request, accept: Annotated[str, Header(max_length=4096)] = "") -> Response:
    """Return the measurements in a format that the asker takes; 404 where no observer measures."""
    answer = await seat_of(request).client.control("Metrics", accept)
    if answer is None:
        raise Refusal(404, NOBODY, code="not_measured")
    content_type, content = answer
    return Response(content, headers={"Content-Type": content_type, "Cache-Control": "no-store"})
