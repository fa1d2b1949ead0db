"""A plugin for the SDK's own tests: one of everything an author can declare or do wrong."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, TypedDict

from l2proxy_sdk import (
    ActionError,
    Address,
    Bool,
    Bytes,
    Bytes4,
    Call,
    Int64,
    Length,
    Operation,
    Plugin,
    StartInfo,
    String,
    Uint8,
    Uint256,
    action,
)


class Point(TypedDict):
    """A tuple."""

    x: Int64
    y: Uint8


class Everything(TypedDict):
    """One of each type."""

    amount: Uint256
    to: Address
    raw: Bytes
    tag: Bytes4
    flag: Bool
    text: String
    points: list[Point]
    pair: Annotated[list[Uint8], Length(2)]


class Number(TypedDict):
    """One number."""

    number: Uint256


class Sample(Plugin):
    """Echoes, waits, fails."""

    async def start(self, info: StartInfo) -> None:
        self.events: list[Any] = [("start", info.chain_id, info.owner, sorted(info.gateways), info.restored)]
        self.gate = asyncio.Event()

    @action(approval="never")
    async def echo(
        self,
        amount: Uint256,
        to: Address,
        raw: Bytes,
        tag: Bytes4,
        flag: Bool,
        text: String,
        points: list[Point],
        pair: Annotated[list[Uint8], Length(2)],
    ) -> Everything:
        """Return what came.

        A second paragraph is not the description.
        """
        assert type(amount) is int
        assert type(raw) is bytes
        assert type(tag) is bytes
        assert all(type(point["x"]) is int for point in points)
        return {
            "amount": amount,
            "to": to,
            "raw": raw,
            "tag": tag,
            "flag": flag,
            "text": text,
            "points": points,
            "pair": pair,
        }

    @action(spends=("value", "ETH"), approval="always", idempotent=True)
    async def spend(self, value: Uint256, call: Call) -> Number:
        """Spend, and read something meanwhile."""
        await self.store.get("while serving")
        self.events.append(("spend", call.origin, call.deadline, call.idempotency_key))
        return {"number": value}

    @action
    async def wait(self) -> None:
        """Wait for the gate."""
        await self.gate.wait()

    @action
    async def open(self) -> None:
        """Open the gate."""
        self.gate.set()

    @action
    async def refuse(self, spent: Bool) -> None:
        """Answer with an error of our own."""
        raise ActionError(7, "too much", {"left": "0x1"}, spent=spent)

    @action
    async def crash(self) -> None:
        """Fail as authors do."""
        secret = "a-secret-value"
        raise RuntimeError(f"{secret} in /home/somebody")

    @action
    async def wrong(self) -> Number:
        """Return what was not declared."""
        return {"number": "five"}  # type: ignore[typeddict-item]

    @action
    async def owner_signs(self) -> None:
        """Ask for what the owner refuses."""
        await self.keys.sign("owner", message="hello")

    @action
    async def sign(self) -> String2:
        """Sign with an own key."""
        return {"text": await self.keys.sign(await self.keys.account(0), message="hello")}

    @action
    async def be_ready(self) -> None:
        """Say so."""
        await self.ready()

    @action
    async def shout(self) -> None:
        """Print where a careless author prints."""
        print("to the log, not to the channel")  # noqa: T201

    @action
    async def later(self) -> None:
        """Ask the host after the action has answered."""

        async def after() -> None:
            await self.gate.wait()
            await self.store.get("after serving")

        self.task = asyncio.create_task(after())

    async def on_block(self, number: int, block_hash: str, timestamp: int) -> None:
        self.events.append(("block", number, block_hash, timestamp))

    async def on_reorg(self, from_block: int, to_block: int) -> None:
        self.events.append(("reorg", from_block, to_block))

    async def on_logs(self, watch: str, logs: Any, removed: bool) -> None:
        self.events.append(("logs", watch, list(logs), removed))

    async def on_hub_open(self) -> None:
        self.events.append(("hub open",))

    async def on_hub_message(self, message: str | bytes) -> None:
        self.events.append(("hub message", message))

    async def on_hub_close(self, code: int | None, reason: str | None) -> None:
        self.events.append(("hub close", code, reason))

    async def on_operation(self, operation: Operation) -> None:
        self.events.append(("operation", operation.id, operation.status))

    async def on_scheduled(self, id: str, data: Any, missed: bool) -> None:  # noqa: A002
        self.events.append(("scheduled", id, data, missed))

    async def on_lock(self) -> None:
        self.events.append(("lock",))

    async def on_unlock(self) -> None:
        self.events.append(("unlock",))

    async def stop(self) -> None:
        self.events.append(("stop",))


class String2(TypedDict):
    """One text."""

    text: String
