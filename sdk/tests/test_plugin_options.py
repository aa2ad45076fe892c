"""A plugin's configuration becomes its own class, or one error that names the plugin and the key."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from llmos import read_options
from llmos_kernel.api import number, of_type
from llmos_kernel.errors import ConfigError


@attrs.frozen(kw_only=True)
class Choices:
    """What a plugin can be told."""

    chunk: int = attrs.field(default=512, validator=number(1, 1000))
    quick: bool = attrs.field(default=True, validator=of_type(bool, "true or false"))


@attrs.frozen
class Nothing:
    """A plugin without options."""


def test_what_is_given_wins_over_defaults() -> None:
    """Options that are not given keep their defaults."""
    assert Choices(chunk=3) == read_options(Choices, {"chunk": 3}, "scheduler:some")
    assert Nothing() == read_options(Nothing, {}, "scheduler:some")


@pytest.mark.parametrize(
    ("kind", "config", "field", "said"),
    [
        (Choices, {"chunks": 3}, "chunks", "'chunk'"),
        (Choices, {"chunk": 0}, "chunk", "from 1 to 1000"),
        (Choices, {"quick": "yes"}, "quick", "true or false"),
        (Choices, {3: 4}, "3", "scheduler:some has no option 3"),
        (Nothing, {"x": 1}, "x", "it has none"),
    ],
)
def test_what_is_wrong_is_named(kind: type[Any], config: dict[Any, object], field: str, said: str) -> None:
    """An unknown option, with the nearest, or a wrong value, with what would be right; and whose it is."""
    with pytest.raises(ConfigError, match=said) as caught:
        read_options(kind, config, "scheduler:some")

    assert (field, "scheduler:some") == (caught.value.fields["field"], caught.value.fields["source"])
