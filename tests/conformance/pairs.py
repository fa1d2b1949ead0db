"""A real node, the proxy's own doors, chain and upstream before it, and a caller of each over the same transport."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from middleware.chain import Chain
from middleware.forward import Forward
from middleware.methods import MethodTable
from proxy.methods.dispatcher import Dispatcher
from proxy.server.door import Door
from proxy.server.http import DappListener
from proxy.server.socket import SocketListener
from proxy.upstream.l1 import L1
from tests.conformance import callers
from tests.conformance.callers import Ask
from tests.conformance.exchanges import RECORDED
from tests.conftest import Anvil, start_anvil

TRANSPORTS = ("http", "ws", "ipc")
ALLOW = ["debug_*", "txpool_*", "testing_*"]
CHAIN_ID = 3503995874084926  # of the recorded chain, whose genesis the nodes begin with

# The same options make the same chain: accounts of the recorded genesis, blocks at fixed times, cheap gas.
OPTIONS = (
    *("--init", str(RECORDED / "genesis.json"), "--timestamp", "2000000000"),
    *("--block-base-fee-per-gas", "1", "--order", "fifo"),
)


@dataclass(frozen=True)
class Pair:
    """One transport: straight to the node, and through the proxy."""

    direct: Ask
    proxied: Ask


def node(binary: Path, *options: str) -> AbstractAsyncContextManager[Anvil]:
    """Run a node that begins with the recorded genesis."""
    return start_anvil(binary, CHAIN_ID, *OPTIONS, *options)


@asynccontextmanager
async def pair(anvil: Anvil, transport: str, folder: Path, beside: Anvil | None = None) -> AsyncIterator[Pair]:
    """Open a proxy on `anvil` over `transport`; `direct` asks `beside` (the same node, if None)."""
    direct_to = beside or anvil
    async with AsyncExitStack() as stack:
        l1 = L1([getattr(anvil, transport)])
        stack.push_async_callback(l1.close)
        await l1.start()
        table = MethodTable(ALLOW)
        own = Dispatcher({})
        door = Door(Chain([], Forward(table, l1, own, own), table=table), batch=100)
        if transport == "ipc":
            socket = SocketListener(door, folder / "l2proxy.ipc", most_bytes=callers.LIMIT)
            await socket.start()
            stack.push_async_callback(socket.close, 1.0)
            proxied = await stack.enter_async_context(callers.ipc(socket.path))
            direct = await stack.enter_async_context(callers.ipc(direct_to.ipc))
        else:
            listener = DappListener(door)
            await listener.start(0)
            stack.push_async_callback(listener.close, 1.0)
            caller = callers.http if transport == "http" else callers.ws
            proxied = await stack.enter_async_context(caller(f"{transport}://127.0.0.1:{listener.port}"))
            direct = await stack.enter_async_context(caller(getattr(direct_to, transport)))
        yield Pair(direct, proxied)
