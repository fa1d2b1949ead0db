"""Says what it hears: every host service and every way to fail, for tests of the host."""

import asyncio
import json
import os
from typing import TypedDict

from l2proxy_sdk import ActionError, Bool, Plugin, String, Uint64, Uint256, action
from l2proxy_sdk.errors import HostError


class Said(TypedDict):
    text: String
    number: Uint256


class Numbered(TypedDict):
    number: Uint256


class Counted(TypedDict):
    count: Uint64


class Answered(TypedDict):
    answer: String


class Echo(Plugin):
    async def start(self, info):
        self.go = asyncio.Event()
        self.heard = []
        self.invoked = []
        await self.ready()

    @action(approval="never")
    async def say(self, text: String, number: Uint256) -> Said:
        self.invoked.append("say")
        return {"text": text, "number": number}

    @action(approval="never")
    async def count(self) -> Counted:
        before = await self.store.get("count")
        count = int(before or 0) + 1
        await self.store.put("count", str(count))
        await self.state.update(patch={"count": count})
        return {"count": count}

    @action(approval="never")
    async def ask(self, method: String, params: String) -> Answered:
        self.invoked.append("ask")
        if method == "invoked":
            return {"answer": json.dumps(self.invoked)}
        if method == "heard":
            return {"answer": json.dumps(self.heard)}
        try:
            answer = await self._host.call_with(method, json.loads(params))
        except HostError as error:
            answer = {"error": {"code": error.code, "message": error.message}}
        return {"answer": json.dumps(answer)}

    @action(approval="never")
    async def fail(self, how: String) -> None:
        if how == "error":
            raise ActionError(7, "no such luck", {"left": "0x1"}, spent=False)
        if how == "bug":
            raise ValueError("/etc/secret")
        if how == "exit":
            os._exit(3)

    @action(approval="never")
    async def wait(self, go: Bool) -> None:
        if go:
            self.go.set()
        await self.go.wait()

    @action(approval="never")
    async def late(self, how: String, number: Uint256) -> Numbered:
        """Answer once another call says go."""
        await self.go.wait()
        self.go.clear()
        if how == "error":
            raise ActionError(8, "too late")
        return {"number": number}

    async def get_layer2_state(self, path, origin):
        self.invoked.append("state")
        return {"asked": True, "for": origin}

    async def on_block(self, number, block_hash, timestamp):
        self.heard.append(["block", number, block_hash])

    async def on_reorg(self, from_block, to_block):
        self.heard.append(["reorg", from_block, to_block])

    async def on_logs(self, watch, logs, removed):
        self.heard.append(["logs", watch, [log["data"] for log in logs], removed])

    async def on_operation(self, operation):
        self.heard.append(["operation", operation.id, operation.status])

    async def on_scheduled(self, id, data, missed):  # noqa: A002
        self.heard.append(["scheduled", id, data, missed])

    async def on_hub_open(self):
        self.heard.append(["hub open"])

    async def on_hub_message(self, message):
        self.heard.append(["hub", message if isinstance(message, str) else message.hex()])

    async def on_hub_close(self, code, reason):
        self.heard.append(["hub close", code, reason])

    async def on_lock(self):
        self.heard.append(["lock"])

    async def on_unlock(self):
        self.heard.append(["unlock"])
