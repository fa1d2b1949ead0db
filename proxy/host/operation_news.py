"""What operations have become, told to the plugin that began them: kept on disk until it has answered (plugin.md, `operation`)."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from middleware.errors import PluginUnavailable
from proxy.host.deliveries import Deliveries
from proxy.host.services.store_turns import Turns
from proxy.storage import Space


class OperationNews:
    """The queue of one plugin; what was answered leaves it in the plugin's turns."""

    def __init__(self, space: Space, turns: Turns, deliveries: Deliveries) -> None:
        self._space = space
        self._turns = turns
        self._deliveries = deliveries
        self._queued = asyncio.Event()
        self._told = 0

    def __bool__(self) -> bool:
        return next(iter(self._space.scan(limit=1)), None) is not None

    def add(self, operation: dict[str, Any]) -> None:
        """Keep one until it is answered; on disk when this returns."""
        last = next((key for key, _ in self._space.scan(limit=1, reverse=True)), None)
        number = max(self._told, 0 if last is None else int.from_bytes(last, "big")) + 1
        self._told = number
        self._space.write({number.to_bytes(8, "big"): msgspec.json.encode(operation)})
        self._queued.set()

    async def run(self) -> None:
        """Tell them in order, until cancelled or the plugin is gone for good."""
        while True:
            self._queued.clear()
            for key, value in list(self._space.scan(limit=100)):
                try:
                    await self._deliveries.deliver("operation", "operation", msgspec.json.decode(value))
                except PluginUnavailable:
                    return
                await self._turns.write(self._space.batch(delete=[key]))
                self._queued.set()
            await self._queued.wait()
