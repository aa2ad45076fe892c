"""What the bodies of all requests share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Finite = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=512)]
Text = Annotated[str, Field(max_length=2**23)]


class Body(BaseModel):
    """A body, or a part of one: no field that is not known, and no number for a string."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
