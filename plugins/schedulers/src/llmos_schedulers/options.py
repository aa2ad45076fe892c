"""Validators of options that the kernel's own do not cover."""

from __future__ import annotations

from typing import Any

import attrs

from llmos_kernel.api import of_type
from llmos_kernel.errors import InvalidArgument

flag = of_type(bool, "true or false")


def one_of(*choices: str) -> Any:  # noqa: ANN401 - attrs types validators as Any
    """Return an attrs validator: one of *choices*, by name."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in choices:
            raise InvalidArgument.of(attribute.name, value, " or ".join(map(repr, choices)))

    return validate
