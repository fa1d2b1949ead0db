"""`layer1.watch` in a test: what L1 has and the plugin was not told, in order, a block at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from l2proxy_sdk.values import quantity

from .layer1 import FakeLayer1

Layer1 = Callable[[str, list[Any]], Awaitable[Any]]
Tell = Callable[[str, dict[str, Any]], Awaitable[Any]]


async def follow(watches: dict[str, dict[str, Any]], layer1: Layer1, tell: Tell) -> int:
    """Tell each watch what is new to it; return the head's number."""
    head = int(await layer1("eth_blockNumber", []), 16)
    for watch in list(watches.values()):
        upto = head - int(watch.get("confirmations", 0))
        for number in range(watch.get("cursor", 0), upto + 1):
            watch["cursor"] = number + 1
            await _step(watch, number, layer1, tell)
    return head


async def reorg(watches: dict[str, dict[str, Any]], layer1: FakeLayer1, depth: int, tell: Tell) -> None:
    """Replace the last `depth` blocks by others without logs; tell each watch what it had heard of them, and what is there now."""
    head = len(layer1.blocks) - 1
    first = head - depth + 1
    heard = []
    for watch in watches.values():
        cursor = watch.get("cursor", 0)
        if cursor > first:
            bounds = {"fromBlock": hex(first), "toBlock": hex(cursor - 1)}
            heard.append((watch, await layer1("eth_getLogs", [watch["logs"] | bounds]) if "logs" in watch else []))
    layer1.drop(depth)
    for _ in range(depth):
        layer1.mine()
    for watch, logs in heard:
        if logs:
            gone = [log | {"removed": True} for log in logs]
            await tell("logs", {"watch": watch["name"], "logs": gone, "removed": True})
        if watch.get("blocks"):
            await tell("reorg", {"from": hex(first), "to": hex(head)})
        watch["cursor"] = first
    await follow(watches, layer1, tell)


def due(timers: Mapping[str, Mapping[str, Any]], by: str, upto: float) -> list[str]:
    """Return the timers by `time` or `block` whose moment is no later than `upto`, the earliest first."""
    found = [(moment(timer[by]), name) for name, timer in timers.items() if timer.get(by) is not None]
    return [name for at, name in sorted(found) if at <= upto]


def moment(at: Any) -> float:
    """Return a timer's moment as a number."""
    return quantity(at, "time") if isinstance(at, str) else float(at)


async def _step(watch: dict[str, Any], number: int, layer1: Layer1, tell: Tell) -> None:
    block = await layer1("eth_getBlockByNumber", [hex(number), False])
    if watch.get("blocks"):
        await tell("block", {name: block[name] for name in ("number", "hash", "timestamp")})
    if "logs" in watch:
        logs = await layer1("eth_getLogs", [watch["logs"] | {"blockHash": block["hash"]}])
        if logs:
            await tell("logs", {"watch": watch["name"], "logs": logs, "removed": False})
