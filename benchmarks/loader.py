"""The load generator for machines without wrk: the bodies of a file in turn over N connections, one request each at a time.

`python -m benchmarks.loader URL FILE CONNECTIONS SECONDS` ends with the line wrk's script writes (calls.lua).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop


class Caller(asyncio.Protocol):
    """One connection: asks, waits for the whole answer, asks again, until the time is over."""

    def __init__(self, requests: Iterator[bytes], end: float, latencies: list[float]) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self.errors = 0
        self._requests = requests
        self._end = end
        self._latencies = latencies
        self._missing = 0
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            self._head += data
            end = self._head.find(b"\r\n\r\n") + 4
            if end < 4:
                return
            head = self._head[:end].lower()
            self.errors += b" 200 " not in head[:14]
            at = head.index(b"content-length:") + 15
            self._missing = int(head[at : head.index(b"\r", at)])
            data = self._head[end:]
        self._missing -= len(data)
        if not self._missing:
            self._head = b""
            self._latencies.append(time.perf_counter() - self._asked)
            self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.errors += 1
            self.done.set_result(None)

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        if self._asked >= self._end:
            if not self.done.done():
                self.done.set_result(None)
            self._transport.close()
            return
        self._transport.write(next(self._requests))


async def load(url: str, bodies: list[bytes], connections: int, seconds: float) -> None:
    """Run the load and write its figures."""
    parts = urlsplit(url)
    head = f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\nContent-Length: "
    written = [head.encode() + str(len(line)).encode() + b"\r\n\r\n" + line for line in bodies]
    requests = itertools.cycle(written)
    latencies: list[float] = []
    start = time.perf_counter()
    loop = asyncio.get_running_loop()
    callers = [
        (
            await loop.create_connection(
                lambda: Caller(requests, start + seconds, latencies), parts.hostname or "127.0.0.1", parts.port or 80
            )
        )[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(caller.done for caller in callers))
    took = time.perf_counter() - start
    latencies.sort()
    figures = {
        "requests": len(latencies),
        "microseconds": round(took * 1e6),
        "errors": sum(caller.errors for caller in callers),
        "p50": round(latencies[len(latencies) // 2] * 1e6) if latencies else 0,
        "p99": round(latencies[len(latencies) * 99 // 100] * 1e6) if latencies else 0,
    }
    sys.stdout.write(f"figures {json.dumps(figures)}\n")


if __name__ == "__main__":
    uvloop.run(load(sys.argv[1], Path(sys.argv[2]).read_bytes().splitlines(), int(sys.argv[3]), float(sys.argv[4])))
