"""kill -9 at any moment of `persist`: nothing acknowledged is lost, nothing is there in part, the store opens (security.md 23)."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from proxy.host.services.store import Load, Store
from proxy.host.services.store_sealing import Sealing
from proxy.host.store_opening import open_store
from proxy.storage.counter import Counter

KEY = bytes(32)
WRITER = """
import asyncio, os, sys
from pathlib import Path
from proxy.host.services.store import Persist, Store
from proxy.host.services.store_sealing import Sealing
from proxy.host.store_opening import open_store
from proxy.storage.counter import Counter

async def main(folder, first):
    opened = open_store("p", folder / "store", lambda text: None)
    store = Store(opened.database, 1 << 30)
    counter = Counter(folder / "counters", store.book.id)
    store.committed = counter.write
    assert await store.open(Sealing(bytes(32)))
    async def write(lane):
        number = first
        while True:
            name = f"{lane}/{number:08}"
            await store.persist(Persist(put={name + "a": "x" * 50, name + "b": "y" * 50, f"last{lane}": name}), None)
            os.write(1, name.encode() + b"\\n")
            number += 1
    await asyncio.gather(*(write(lane) for lane in range(8)))

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


def kill_while_it_writes(folder: Path, rng: random.Random, first: int) -> list[str]:
    """Run a writer and kill it after some of its acknowledgements, wherever it is then; return all it acknowledged."""
    command = [sys.executable, "-c", WRITER, str(folder), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline() for _ in range(rng.randrange(1, 60))]
        writer.kill()
        acknowledged += writer.stdout.readlines()
    return [line.decode().strip() for line in acknowledged if line.endswith(b"\n")]


async def names_in(store: Store) -> AsyncIterator[str]:
    """Yield every key, a thousand at a time: one answer has a bound."""
    asker: Any = None
    start = ""
    while items := (await store.load(Load(start=start, end="\x7f", limit=1000), asker))["items"]:
        for key, _ in items:
            yield key
        start = key + "\0"


async def check(folder: Path, acknowledged: list[str]) -> None:
    """Open what was left and look for everything that was acknowledged, and for halves."""
    notices: list[str] = []
    opened = open_store("p", folder / "store", notices.append)
    store = Store(opened.database, 1 << 30)
    assert await store.open(Sealing(KEY)), "the book does not fit the data"
    assert not notices, "a process that was killed leaves no damage"
    outside = Counter(folder / "counters", store.book.id).read()
    assert outside is not None
    assert store.book.counter - outside in (0, 1), "the counters are apart by one commit at most"
    names = {key async for key in names_in(store)}
    for name in acknowledged:
        assert {f"{name}a", f"{name}b"} <= names, f"{name} was acknowledged and is gone"
    halves = {key[:-1] for key in names if key[-1] == "a"} ^ {key[:-1] for key in names if key[-1] == "b"}
    assert not halves
    await store.close()


async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    rng, acknowledged = random.Random(23), list[str]()
    for round_ in range(4):
        acknowledged += kill_while_it_writes(tmp_path, rng, round_ * 1000)
        await check(tmp_path, acknowledged)
    assert len(acknowledged) > 4
