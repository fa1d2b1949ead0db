"""The hot path leaves no garbage: what one call needed is gone with it, and the garbage collector has nothing to look for."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from pathlib import Path

from middleware.chain import Chain
from middleware.forward import Forward
from middleware.methods import MethodTable
from middleware.waist import ANONYMOUS, Answer, Context, Request
from proxy.server.bodies import Body
from proxy.server.door import Door, Waiting
from proxy.upstream.l1 import L1
from tests.upstream.fake_node import FakeNode

CALL = b'{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":["0x01","latest"]}'
PARTS = {"Waiting", "Passage", "Pending"}


async def never(request: Request, context: Context) -> Answer:
    raise AssertionError(request)


async def test_a_passed_call_leaves_nothing_behind(short_tmp: Path) -> None:
    async with FakeNode().ipc(short_tmp / "node.ipc") as url:
        l1 = L1([url])
        await l1.start()
        door = Door(Chain([], Forward(MethodTable(), l1, (), never)))
        context = door.bound(Context(ANONYMOUS))

        async def call() -> None:
            answered: asyncio.Future[Body | None] = asyncio.get_running_loop().create_future()
            assert isinstance(door.pass_on(CALL, context, answered.set_result), Waiting)
            assert b'"0x' in bytes(await answered or b"")  # type: ignore[arg-type]

        await call()
        gc.collect()
        gc.disable()
        before = _of_a_call()  # what other tests of this process left is not ours
        try:
            for _ in range(20):
                await call()
            left = _of_a_call() - before
        finally:
            gc.enable()
        await l1.close()
    assert left == Counter()


def _of_a_call() -> Counter[str]:
    """Count what a call is made of."""
    return Counter(name for one in gc.get_objects() if (name := type(one).__name__) in PARTS)
