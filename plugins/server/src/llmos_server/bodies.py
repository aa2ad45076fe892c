"""What the bodies of all requests share.

What is wrong is told of the first part of a list only (``fail_fast``), and not of each field of an object that has too
many: to tell of a million faults would take minutes, in which nobody else is answered.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST = 4096
"""Most fields of an object whose fields have names of their own."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=512)]
Text = Annotated[str, Field(max_length=2**23)]


class Body(BaseModel):
    """A body, or a part of one: no field that is not known, and no number for a string."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _has_few_fields(cls, value: object) -> object:
        """Refuse at once what would be refused field by field, which takes minutes for a million of them."""
        if isinstance(value, dict):
            for one in (value, *(one for one in value.values() if isinstance(one, dict))):
                if len(one) > MOST:
                    raise ValueError(f"an object has {len(one)} fields; it may have {MOST}")
        return value
