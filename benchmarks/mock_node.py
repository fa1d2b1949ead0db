"""A node that costs next to nothing, over HTTP and over a unix socket: what is left is the cost of who stands before it.

`python -m benchmarks.mock_node SOCKET` says {"ready": true, "port": N} on its first line. It knows enough of a chain to
be accepted as a node (one block, for ever) and answers everything else with a balance. It trusts its caller: complete
HTTP requests with Content-Length, one JSON object a line on the socket.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import cast

import msgspec
import uvloop

BLOCK: dict[str, object] = {
    **dict.fromkeys(("number", "timestamp", "gasUsed", "difficulty", "size", "baseFeePerGas"), "0x0"),
    **dict.fromkeys(("hash", "stateRoot", "transactionsRoot", "receiptsRoot", "mixHash"), "0x" + "11" * 32),
    "parentHash": "0x" + "00" * 32,
    "sha3Uncles": "0x" + "22" * 32,
    "logsBloom": "0x" + "00" * 256,
    "gasLimit": "0x1c9c380",
    "miner": "0x" + "00" * 20,
    "extraData": "0x",
    "nonce": "0x" + "00" * 8,
    "transactions": [],
    "uncles": [],
}
KNOWN = {
    "eth_chainId": '"0x539"',
    "net_version": '"1337"',
    "web3_clientVersion": '"mock/1"',
    "eth_blockNumber": '"0x0"',
    "eth_syncing": "false",
    "eth_getBlockByNumber": json.dumps(BLOCK),
    "eth_getBlockByHash": json.dumps(BLOCK),
    "eth_subscribe": '"0x1"',
}
RESULTS = {name: text.encode() for name, text in KNOWN.items()}
BALANCE = b'"0x21e19e0c9bab2400000"'


class Call(msgspec.Struct):
    """What the mock reads of a request."""

    method: str
    id: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(Call).decode


def answer(request: bytes) -> bytes:
    """Return the answer to `request` with its id."""
    call = _decode(request)
    return b'{"jsonrpc":"2.0","id":' + bytes(call.id) + b',"result":' + RESULTS.get(call.method, BALANCE) + b"}"


class Lines(asyncio.Protocol):
    """The unix socket: an object a line, answers of one read in one write."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._transport.write(b"".join(answer(line) + b"\n" for line in lines if line))


class Posts(asyncio.Protocol):
    """HTTP: POST with Content-Length, keep-alive."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while (end := self._rest.find(b"\r\n\r\n") + 4) > 3:
            head = self._rest[:end].lower()
            at = head.index(b"content-length:") + 15
            whole = end + int(head[at : head.index(b"\r", at)])
            if len(self._rest) < whole:
                return
            body = answer(self._rest[end:whole])
            self._rest = self._rest[whole:]
            length = str(len(body)).encode()
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: " + length + b"\r\n\r\n" + body
            )


async def serve(path: str) -> None:
    """Listen on `path` and on a free port, until SIGTERM."""
    loop = asyncio.get_running_loop()
    await loop.create_unix_server(Lines, path)
    server = await loop.create_server(Posts, "127.0.0.1", 0)
    sys.stdout.write(json.dumps({"ready": True, "port": server.sockets[0].getsockname()[1]}) + "\n")
    sys.stdout.flush()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
