"""The embedded L1 as an upstream: a dev node over a socket that pushes nothing, so everything is made from reads."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec

from middleware.waist import ANONYMOUS, Context, NodeReply, Request
from proxy.methods.filters import Filters, handlers
from proxy.upstream.embedded import CHAIN_ID
from proxy.upstream.embedded.launch import ensure
from proxy.upstream.l1 import L1


async def test_the_embedded_l1_serves_as_any_node_does(short_tmp: Path) -> None:
    node = await ensure(short_tmp / "dev-l1", {})
    l1 = L1([str(node.socket)], pin=short_tmp / "chain.json")
    try:
        await l1.start()
        assert (l1.chain_id, l1.is_dev) == (CHAIN_ID, True)
        heads: asyncio.Queue[Any] = asyncio.Queue()

        def arrived(raw: msgspec.Raw) -> None:
            heads.put_nowait(json.loads(bytes(raw)))

        await l1.subscribe(["newHeads"], arrived)
        methods, context = handlers(Filters(l1)), Context(ANONYMOUS)
        blocks = await methods["eth_newBlockFilter"]([], context)
        await l1.call("evm_mine")
        async with asyncio.timeout(60):
            head = await heads.get()
        assert head["number"] == "0x1"
        assert await methods["eth_getFilterChanges"]([blocks], context) == [head["hash"]]
        pending = await methods["eth_newPendingTransactionFilter"]([], context)
        assert await methods["eth_getFilterChanges"]([pending], context) == []
        await l1.subscribe(["newPendingTransactions"], arrived)
        for raw_id in (b"1", b'"a"', b"null", b"1.5", b"123456789012345678901234567890"):
            answer = await l1.forward(Request("eth_chainId", b"[]", raw_id))
            assert answer == NodeReply(b'{"jsonrpc":"2.0","id":' + raw_id + b',"result":"0x539"}')
    finally:
        await l1.close()
        await node.stop()
