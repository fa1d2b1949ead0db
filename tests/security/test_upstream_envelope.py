"""What reaches the node is an envelope the proxy wrote, of a method the table passes (hardening.md 1, 2; security.md 7, 8).

Hostile bodies go through the real doors, chain and upstream; what a listening node hears is compared byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from middleware.chain import Chain
from middleware.forward import Forward
from middleware.methods import MethodTable
from proxy.methods.dispatcher import Dispatcher
from proxy.server.door import Door
from proxy.server.http import DappListener
from proxy.upstream.l1 import L1
from tests.server.conftest import HttpAnswer, post
from tests.upstream.fake_node import FakeNode

EVERYTHING = [
    "eth_*",
    "debug_*",
    "txpool_*",
    "admin_*",
    "personal_*",
    "engine_*",
    "miner_*",
    "wallet_*",
    "l2_*",
    "clef_*",
]


@dataclass
class Proxied:
    """A proxy before a node that writes down what it hears."""

    port: int
    node: FakeNode
    before: int

    async def ask(self, body: bytes, *lines: str) -> HttpAnswer:
        return await post(self.port, *lines, body=body)

    def heard(self) -> list[bytes]:
        """Return the raw requests that came because of callers, without the proxy's own questions at start."""
        return self.node.asked[self.before :]


@asynccontextmanager
async def proxied(folder: Path, transport: str = "http", allow: list[str] | None = None) -> AsyncIterator[Proxied]:
    node = FakeNode()
    opened = node.ipc(folder / "node.ipc") if transport == "ipc" else node.http()
    async with opened as url:
        l1 = L1([url])
        await l1.call("web3_clientVersion")
        table = MethodTable(EVERYTHING if allow is None else allow, dev=True)
        own = Dispatcher({})
        listener = DappListener(Door(Chain([], Forward(table, l1, own, own), table=table)))
        await listener.start(0)
        try:
            yield Proxied(listener.port, node, len(node.asked))
        finally:
            await listener.close(0.5)
            await l1.close()


SMUGGLED = [
    ('{"id":1.5,"jsonrpc":"2.0","method":"eth_gasPrice","Method":"admin_exportChain"}', "1.5", None),
    ('{"Method":"eth_sendTransaction","jsonrpc":"2.0","id":1,"method":"eth_gasPrice"}', "1", None),
    (
        '{"METHOD":"eth_sign","JSONRPC":"2.0","ID":9,"PARAMS":[1],"jsonrpc":"2.0","id":1,"method":"eth_gasPrice"}',
        "1",
        None,
    ),
    ('{"jsonrpc":"2.0","id":1,"method":"eth_gasPrice","params":[],"Params":["0xdead"],"\\u212ad":2}', "1", "[]"),
    ('{"jsonrpc":"2.0","id":1,"method":"eth_gasPrice","param\\u017f":[1],"x":{"method":"eth_sign"}}', "1", None),
    (
        '{"jsonrpc":"2.0","id":"a","meth\\u006fd":"eth\\u005fgasPrice","params":[ {"method":"eth_sign"} ]}',
        '"a"',
        '[ {"method":"eth_sign"} ]',
    ),
    ('  {  "params" : [1 , 2],"method":"eth_gasPrice"  ,"id" : null,"jsonrpc":"2.0"}  ', "null", "[1 , 2]"),
]


@pytest.mark.parametrize(("body", "raw_id", "params"), SMUGGLED)
async def test_the_node_hears_four_members_and_no_more(
    body: str, raw_id: str, params: str | None, short_tmp: Path
) -> None:
    async with proxied(short_tmp) as proxy:
        answer = await proxy.ask(body.encode())
        assert answer.json["id"] == json.loads(raw_id)
        tail = "" if params is None else f',"params":{params}'
        assert proxy.heard() == [f'{{"jsonrpc":"2.0","id":{raw_id},"method":"eth_gasPrice"{tail}}}'.encode()]


async def test_over_a_shared_socket_too(short_tmp: Path) -> None:
    async with proxied(short_tmp, "ipc") as proxy:
        for body, _, params in SMUGGLED:
            before = len(proxy.node.asked)
            await proxy.ask(body.encode())
            heard = [json.loads(raw, object_pairs_hook=list) for raw in proxy.node.asked[before:]]
            members = [name for name, _ in heard[-1]]
            assert members == ["jsonrpc", "id", "method", *(["params"] if params is not None else [])]
            assert dict(heard[-1])["method"] == "eth_gasPrice"


@pytest.mark.parametrize(
    "body",
    [
        '{"jsonrpc":"2.0","id":1,"method":"eth_gasPrice","method":"eth_sign"}',
        '{"jsonrpc":"2.0","id":1,"method":"eth_sign","method":"eth_gasPrice"}',
        '{"jsonrpc":"2.0","id":1,"method":"eth_gasPrice","meth\\u006fd":"eth_gasPrice"}',
        '{"jsonrpc":"2.0","id":1,"id":2,"method":"eth_gasPrice"}',
        '{"jsonrpc":"2.0","id":1,"method":"eth_gasPrice","params":[],"params":["0xdead"]}',
        '{"jsonrpc":"2.0","id":1,"method":"eth_gasPrice","Method":"eth_sign","Method":"eth_sign"}',
    ],
)
async def test_a_member_twice_reaches_nobody(body: str, short_tmp: Path) -> None:
    async with proxied(short_tmp) as proxy:
        assert (await proxy.ask(body.encode())).error["code"] == -32600
        good = b'{"jsonrpc":"2.0","id":7,"method":"eth_gasPrice"}'
        codes = [
            one.get("error", {}).get("code")
            for one in (await proxy.ask(b"[" + body.encode() + b"," + good + b"]")).json
        ]
        assert codes == [-32600, None]
        assert proxy.heard() == [good]


SIGNERS = [
    *("eth_sign", "eth_signTransaction", "eth_signTypedData", "eth_signTypedData_v4", "eth_sendTransaction"),
    *(
        "eth_sendTransactionSync",
        "eth_sendUnsignedTransaction",
        "eth_sendPrivateTransaction",
        "eth_resend",
        "eth_decrypt",
    ),
    *("eth_getEncryptionPublicKey", "eth_coinbase", "eth_accounts", "personal_sign", "personal_unlockAccount"),
    *("personal_sendTransaction", "personal_importRawKey", "admin_exportChain", "admin_addPeer", "engine_newPayloadV4"),
    *(
        "miner_start",
        "wallet_sendCalls",
        "wallet_importRawKey",
        "debug_setHead",
        "debug_chaindbCompact",
        "debug_cpuProfile",
    ),
    *(
        "debug_goTrace",
        "debug_writeMutexProfile",
        "debug_standardTraceBlockToFile",
        "clef_new",
        "l2_invoke",
        "eth_subscribe",
    ),
    *("eth_newFilter", "hardhat_signTypedData", "anvil_sendUnsignedTransaction"),
]


@pytest.mark.parametrize("method", SIGNERS)
async def test_signers_never_reach_the_node_whatever_the_config_says(method: str, short_tmp: Path) -> None:
    async with proxied(short_tmp, allow=[*EVERYTHING, method]) as proxy:
        for name in (
            method,
            method.upper(),
            method.capitalize(),
            method.replace("_", "\\u005f"),
            f" {method}",
            f"{method}\\u0000",
        ):
            body = f'{{"jsonrpc":"2.0","id":1,"method":"{name}","params":["0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266","0x00"]}}'
            error = (await proxy.ask(body.encode())).json["error"]
            assert error["code"] in (4200, -32601), name
            await proxy.ask(body.replace('"id":1,', "").encode())
        assert proxy.heard() == []


async def test_nothing_of_the_callers_headers_reaches_the_node(short_tmp: Path) -> None:
    async with proxied(short_tmp) as proxy:
        lines = [
            *(
                "Origin: https://app.example",
                "Cookie: session=secret",
                "Referer: https://app.example/secret",
                "X-Secret: secret",
            ),
            *("User-Agent: secret", "Accept-Language: secret", "Accept-Encoding: gzip", "X-Forwarded-For: 1.2.3.4"),
        ]
        assert (await proxy.ask(b'{"jsonrpc":"2.0","id":1,"method":"eth_gasPrice"}', *lines)).status == 200
        heard = json.dumps([dict(headers) for headers in proxy.node.headers]).lower()
        assert heard != "[]"
        for word in ("secret", "app.example", "cookie", "origin", "1.2.3.4", "gzip"):
            assert word not in heard


async def test_the_nodes_error_leaves_as_it_came(short_tmp: Path) -> None:
    async with proxied(short_tmp) as proxy:
        raw = (
            b'{"jsonrpc":"2.0","id":1,"error":{"code":3,"message":"execution reverted: \\u00e9","data":"0x08c379a0"} }'
        )

        async def fail(request: dict[str, Any]) -> bytes:
            return raw

        proxy.node.answer = fail
        assert (await proxy.ask(b'{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[]}')).body == raw
