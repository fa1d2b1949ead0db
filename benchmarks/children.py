"""The processes of one run: start, wait until they answer, read their CPU time and memory, end them by their own id."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp

from proxy.demo.processes import Process, ProcessFailed, last_words

ROOT = Path(__file__).parent.parent
TICK = os.sysconf("SC_CLK_TCK")


@contextmanager
def held_port() -> Iterator[int]:
    """Hold a free port for a program that cannot choose one and say which, or for several one after the other.

    The system gives it to nobody else meanwhile, and refuses connections while none listens. A program must set SO_REUSEADDR, as
    servers do: then it may listen where another socket is bound and does not listen.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the CPU time the processes and their present children have used, in seconds (in steps of 10 ms)."""
    total = 0
    family = [one for pid in pids for one in (pid, *_children(pid))]
    for member in family:
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def resident_bytes(pid: int) -> int:
    """Return the resident memory of one process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@asynccontextmanager
async def saying_ready(name: str, command: Sequence[str | Path], folder: Path) -> AsyncIterator[Process]:
    """Run a program that says on its first line that it is ready."""
    process = await Process.start(name, command, folder / f"{name}.log")
    try:
        yield process
    finally:
        await process.stop()


@asynccontextmanager
async def silent(name: str, command: Sequence[str | Path], url: str, folder: Path) -> AsyncIterator[int]:
    """Run a program that says nothing, wait until `url` answers a POST, and return its process id."""
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output, start_new_session=True)
    try:
        await _until_answering(name, url, process, log)
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _until_answering(name: str, url: str, process: asyncio.subprocess.Process, log: Path) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}'
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        while process.returncode is None:
            try:
                async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.02)  # another process, which says nothing when it is ready
    raise ProcessFailed(f"{name} ended: {last_words(log)}")
