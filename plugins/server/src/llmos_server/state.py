"""What the routes share."""

from __future__ import annotations

from typing import Any, cast

import attrs
from starlette.requests import Request

from llmos import AsyncClient
from llmos_server.models import Models
from llmos_server.options import ServerOptions


@attrs.define
class State:
    """The client, its models, and how much a request may take."""

    client: AsyncClient
    options: ServerOptions
    models: Models = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.models = Models(self.client)

    def limits(self) -> dict[str, Any]:
        """Return what every task is given: the time after which it ends, whoever still reads."""
        return {"deadline": self.options.seconds}


def state_of(request: Request) -> State:
    """Return the state of the application that answers *request*."""
    return cast("State", request.app.state.llmos)
