"""The models that requests name: each is loaded when it is first asked for, and stays at hand."""

from __future__ import annotations

import asyncio

from llmos import AsyncClient, AsyncModel, ModelInfo


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

    async def _known(self, name: str) -> str:
        """Return *name* if a model is called so; a client must not name a folder, which `load_model` would take."""
        info = ModelInfo.from_plain(await self._client.control("InspectModel", name))
        return info.name
