"""The doctor's look at the L1 nodes: each asked by itself, over a connection of its own, for what the proxy needs of it.

Only reads are sent; nothing is pinned. What is shown of an address never holds its userinfo, path or query.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from middleware.errors import Disconnected, RpcError
from proxy.app.doctor.finding import Finding, fail, ok, warn
from proxy.upstream.addresses import BadAddress, Kind, parse
from proxy.upstream.identity import BadPin, ChainIdentity, read_pin
from proxy.upstream.l1 import L1

SECONDS = 10.0  # for one question
SAMPLES = 5  # questions whose median is the latency
AHEAD = 15.0  # seconds a block may be ahead of this machine's clock
SLOW = 0.5  # seconds of a read
NO_TRANSACTION = "0x" + "00" * 31 + "01"
MISSING = (-32601, 4200)


async def look(urls: Sequence[str], pin: Path, stale_after: float) -> AsyncIterator[Finding]:
    """Yield what is found about each node."""
    if not urls:
        yield warn("L1", "no node is configured", "name one under [l1] urls, or with `l2proxy run --l1 URL` (or --dev)")
    try:
        pinned = read_pin(pin)
    except BadPin:
        pinned = None  # the look at the data directory says so
    for place, url in enumerate(urls, 1):
        name = f"node {place}"
        if url == "dev":
            yield ok(name, "the embedded L1; it starts with the daemon")
            continue
        try:
            address = parse(url)
        except BadAddress as error:
            yield fail(name, str(error), "mend it under [l1] urls")
            continue
        shown = address.target if address.kind is Kind.IPC else address.shown
        async for finding in _node(name, shown, url, pinned, stale_after):
            yield finding


async def _node(
    name: str, shown: str, url: str, pinned: ChainIdentity | None, stale_after: float
) -> AsyncIterator[Finding]:
    l1 = L1([url], call_seconds=SECONDS, notice=lambda _: None)
    try:
        try:
            async with asyncio.timeout(3 * SECONDS):
                await l1.call("eth_chainId")
        except (Disconnected, TimeoutError) as error:
            said = l1.nodes[0].trouble or (error.message if isinstance(error, Disconnected) else "it did not answer")
            why = said.removeprefix(f"{l1.nodes[0].address.shown}: ")
            yield fail(name, f"{shown}: {why}", "start the node, or mend its address under [l1] urls")
            return
        found = l1.identity
        if pinned is not None and not pinned.same_chain(found):
            do = "connect it to the pinned chain, or use another data directory"
            yield fail(name, f"{shown} serves {found}; this data directory is pinned to {pinned}", do)
            return
        yield ok(name, f"{shown}: chain {found.chain_id}, {found.client_version or 'it hides its version'}")
        for check in (_latency, _head, _syncing, _subscriptions, _traces):
            try:
                if (finding := await check(l1, name, stale_after)) is not None:
                    yield finding
            except RpcError as error:
                yield warn(f"{name} {check.__name__[1:]}", error.message, "look at the node's own log")
    finally:
        await l1.close()


async def _latency(l1: L1, name: str, _stale_after: float) -> Finding:
    times = []
    for _ in range(SAMPLES):
        started = time.perf_counter()
        await l1.call("eth_blockNumber")
        times.append(time.perf_counter() - started)
    median = sorted(times)[SAMPLES // 2]
    found = f"{median * 1000:.1f} ms for a read"
    if median > SLOW:
        return warn(f"{name} latency", found, "choose a nearer node, or name it behind a faster one in [l1] urls")
    return ok(f"{name} latency", found)


async def _head(l1: L1, name: str, stale_after: float) -> Finding:
    check = f"{name} head"
    block = await l1.call("eth_getBlockByNumber", "latest", False)
    try:
        number, age = int(block["number"], 16), time.time() - int(block["timestamp"], 16)
    except (KeyError, TypeError, ValueError):
        return fail(check, "its newest block cannot be read", "look at the node's own log, or choose another node")
    if l1.is_dev:
        return ok(check, f"block {number}; a dev node makes blocks when it likes")
    if age < -AHEAD:
        found = f"block {number} is {-age:.0f} s ahead of this machine's clock"
        return fail(check, found, "set the clock (`timedatectl set-ntp true`): deadlines and budgets depend on it")
    if age > stale_after:
        do = "wait until the node is in sync; or set the clock, if it is ahead; or raise [l1] stale_after"
        return fail(check, f"block {number} is {age:.0f} s old, more than {stale_after:g} s", do)
    return ok(check, f"block {number}, {max(age, 0):.0f} s old")


async def _syncing(l1: L1, name: str, _stale_after: float) -> Finding | None:
    if await l1.call("eth_syncing") is False:
        return None
    return warn(f"{name} sync", "it says that it is syncing", "wait; until then it may lack newest blocks and states")


async def _subscriptions(l1: L1, name: str, _stale_after: float) -> Finding:
    check = f"{name} subscriptions"
    if l1.nodes[0].address.kind is Kind.HTTP:
        return ok(check, "over HTTP there are none: new blocks are polled for; ws:// or its socket is quicker")
    try:
        await l1.call("eth_subscribe", "newHeads")
    except RpcError as error:
        if isinstance(error, Disconnected):
            raise
        return warn(check, f"it has none ({error.message}): new blocks are polled for", "nothing must be done")
    return ok(check, "pushed by the node")


async def _traces(l1: L1, name: str, _stale_after: float) -> Finding:
    check = f"{name} traces"
    try:
        await l1.call("debug_traceTransaction", NO_TRANSACTION)
    except RpcError as error:
        if isinstance(error, Disconnected):
            raise
        lacks = error.code in MISSING or "not available" in error.message or "not exist" in error.message
        if lacks:
            return ok(check, "the node does not serve debug_trace*")
    return ok(check, "the node serves debug_trace*")
