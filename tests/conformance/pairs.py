"""A real node, the proxy's own doors, chain and upstream before it, and a caller of each over the same transport."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from middleware.cache import Cache
from middleware.chain import Chain
from middleware.forward import Forward
from middleware.methods import MethodTable
from proxy.app.node_answers import NodeAnswers
from proxy.config import CacheSettings, Config
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
class Doors:
    """One transport to the node: straight, and through every door of a proxy that asks over that transport.

    `proxied`: the fast lane, the slow lane (a body in chunks), the cache switched on (twice: the second may come from it),
    WebSocket and unix socket.
    """

    direct: Ask
    proxied: dict[str, Ask]
    memory: Cache


def node(binary: Path, *options: str) -> AbstractAsyncContextManager[Anvil]:
    """Run a node that begins with the recorded genesis."""
    return start_anvil(binary, CHAIN_ID, *OPTIONS, *options)


@asynccontextmanager
async def doors(anvil: Anvil, transport: str, folder: Path, beside: Anvil | None = None) -> AsyncIterator[Doors]:
    """Open a proxy on `anvil` over `transport`; `direct` asks `beside` (the same node, if None)."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        l1 = L1([getattr(anvil, transport)])
        stack.push_async_callback(l1.close)
        await l1.start()
        table = MethodTable(ALLOW)
        remembers = NodeAnswers(l1, table, Config(cache=CacheSettings(enabled=True)))
        plain = _door(l1, table, NodeAnswers(l1, table, Config()))
        listener = await _listening(stack, plain)
        cached = await _listening(stack, _door(l1, table, remembers))
        socket = SocketListener(plain, folder / "l2proxy.ipc", most_bytes=callers.LIMIT)
        await socket.start()
        stack.push_async_callback(socket.close, 1.0)
        remembering = await enter(callers.http(f"http://127.0.0.1:{cached.port}"))
        direct = {"http": callers.http, "ws": callers.ws, "ipc": callers.ipc}[transport]
        yield Doors(
            await enter(direct(getattr(beside or anvil, transport))),
            {
                "fast": await enter(callers.http(f"http://127.0.0.1:{listener.port}")),
                "slow": await enter(callers.chunked(f"http://127.0.0.1:{listener.port}")),
                "ws": await enter(callers.ws(f"ws://127.0.0.1:{listener.port}")),
                "ipc": await enter(callers.ipc(socket.path)),
                "cache": remembering,
                "cached": remembering,
            },
            remembers.cache,
        )


def _door(l1: L1, table: MethodTable, answers: NodeAnswers) -> Door:
    own = Dispatcher({})
    return Door(Chain(answers.links(), Forward(table, l1, own, own), table=table), batch=100)


async def _listening(stack: AsyncExitStack, door: Door) -> DappListener:
    listener = DappListener(door)
    await listener.start(0)
    stack.push_async_callback(listener.close, 1.0)
    return listener
