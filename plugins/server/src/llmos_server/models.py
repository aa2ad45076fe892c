"""The models that requests name: each is loaded when it is first asked for, and stays at hand."""

from __future__ import annotations

import asyncio
from typing import Any

from llmos import AsyncClient, AsyncModel, ModelInfo


BEGINNING = 1_700_000_000
"""When models that do not say when they were made are said to have been, in seconds of Unix: clients want a time."""
AUTO = "auto"
"""A name for any model that will do: a router chooses one for each task."""
LATEST = ":latest"
"""What clients of Ollama add to names."""


class Models:
    """Models by name, for one client.  For one event loop."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._models: dict[str, AsyncModel] = {}
        self._loading: dict[str, asyncio.Lock] = {}

    async def get(self, name: str) -> AsyncModel:
        """Return the model of that name or alias; raise `NotFound`, or why it cannot be loaded."""
        if name not in self._models:
            async with self._loading.setdefault(name, asyncio.Lock()):
                try:
                    if name not in self._models:
                        self._models[name] = await self._client.load_model(await self._known(name))
                finally:
                    self._loading.pop(name, None)
        return self._models[name]

    async def listed(self) -> tuple[ModelInfo, ...]:
        """Return what can be asked for."""
        return await self._client.models()

    async def info(self, name: str) -> ModelInfo:
        """Return what is known of the model of that name or alias; raise `NotFound`."""
        found: dict[str, Any] = await self._client.control("InspectModel", name.removesuffix(LATEST))
        return ModelInfo.from_plain(found)

    async def unload(self, name: str) -> None:
        """Unload the model of that name or alias; raise `ModelUnavailable` where it is in use.

        One that is not loaded stays so: whoever wanted it unloaded has what was wanted.
        """
        info = await self.info(name)
        if info.state != "unloaded":
            await self._client.control("UnloadModel", info.name)

    async def _known(self, name: str) -> str:
        """Return *name* if a model is called so; a client must not name a folder, which `load_model` would take."""
        return name if name == AUTO else (await self.info(name)).name
