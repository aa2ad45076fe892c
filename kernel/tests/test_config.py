"""The configuration refuses what it does not understand, naming the field."""

from __future__ import annotations

from typing import Any

import pytest

from llmos_kernel.config import KernelConfig
from llmos_kernel.contracts import ModelSpec
from llmos_kernel.errors import ConfigError, InvalidArgument

TINY = ModelSpec(name="tiny", backend="echo")


def test_defaults_embed_it_bare() -> None:
    """Without arguments no plugin is allowed, none is active, and every limit is finite."""
    config = KernelConfig()

    assert ((), (), ()) == (config.plugins, config.policies, config.observers)
    assert 0 < config.timeout < float("inf")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("plugins", "onnx"),
        ("plugins", 7),
        ("blocked", ["a", 7]),
        ("policies", {"a": 1}),
        ("scheduler", ""),
        ("scheduler", None),
        ("router", ""),
        ("router", 7),
        ("schedulers", []),
        ("options", "x"),
        ("aliases", 7),
        ("models", TINY),
        ("models", ["tiny"]),
        ("devices", []),
        ("timeout", 0),
        ("timeout", float("nan")),
        ("stall_timeout", float("inf")),
        ("plugin_timeout", "1"),
        ("workers", 0),
        ("workers", True),
        ("call_rows", 1.5),
    ],
)
def test_bad_value(field: str, value: Any) -> None:
    """A value of the wrong kind or out of range is an error that names the field, the value and what is right."""
    with pytest.raises(InvalidArgument) as caught:
        KernelConfig(**{field: value})

    assert field == caught.value.fields["field"]
    assert caught.value.fields["expected"]


def test_bad_device() -> None:
    """A wrong number of bytes names the device."""
    with pytest.raises(InvalidArgument, match=r"devices.cuda:0 must be a whole number"):
        KernelConfig(devices={"cuda:0": -1})


def test_model_named_twice() -> None:
    """Two models of one name are refused."""
    with pytest.raises(ConfigError, match="models names 'tiny' twice"):
        KernelConfig(models=[TINY, TINY])


def test_lists_become_tuples() -> None:
    """Lists, as TOML has them, are taken and frozen."""
    lists: dict[str, Any] = {"plugins": ["a"], "models": [TINY]}
    config = KernelConfig(**lists)

    assert (("a",), (TINY,)) == (config.plugins, config.models)
