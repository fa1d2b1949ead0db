"""Persists, deposits and sends, and keeps nothing in memory: whatever is killed, what it did is on disk or on the chain."""

import json
from typing import TypedDict

from l2proxy_sdk import Plugin, String, Uint64, action


class Names(TypedDict):
    names: String


class Moved(TypedDict):
    operation: String


class Mover(Plugin):
    async def start(self, info):
        await self.ready()

    @action(approval="never")
    async def write(self, number: Uint64) -> None:
        name = f"{number:012}"
        await self.store.write({name + "a": "x" * 50, name + "b": "y" * 50})

    @action(approval="never")
    async def written(self, after: String) -> Names:
        rows = await self.store.scan(start=after, end="~", limit=5000)
        return {"names": json.dumps([key for key, _ in rows])}

    @action(approval="never")
    async def deposit(self) -> Moved:
        return {"operation": (await self.gateway.deposit(function="open()", value=1)).id}

    @action(approval="never")
    async def send(self) -> Moved:
        return {"operation": (await self.gateway.send(function="answer(uint256)", args=[0])).id}
