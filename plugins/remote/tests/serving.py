"""A kernel with one model at a far end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llmos import Client
from llmos.testing import FirstComePlugin
from llmos_kernel import Backend, Kernel, KernelConfig, ModelSpec
from plugins.remote.tests.far_end import PATIENCE, FarEnd

KINDS = ("generate", "chat", "embed")


def spec_of(server: FarEnd, backend: str = "openai", **options: Any) -> ModelSpec:
    """Return the specification of the model ``far`` at *server*."""
    url = server.url if backend == "openai" else server.url.removesuffix("/v1")
    given = {"model": "theirs", "base_url": url, **options}
    kinds = KINDS if backend != "anthropic" else KINDS[:2]
    return ModelSpec(name="far", backend=backend, kinds=kinds, options=given)


@contextmanager
def client_of(backend: Backend, spec: ModelSpec, *plugins: object) -> Iterator[Client]:
    """Give a client of a kernel that serves *spec*."""
    config = KernelConfig(models=(spec,), timeout=PATIENCE)
    given = ((spec.backend, backend), FirstComePlugin(), *plugins)
    with Kernel(config, plugins=given) as kernel, Client(kernel=kernel) as client:
        yield client
