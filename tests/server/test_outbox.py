"""What leaves on an open connection: in order, bounded, and ended for a reader that does not read."""

from __future__ import annotations

import asyncio

import pytest

from proxy.server.outbox import Outbox
from proxy.server.taking import SlowReader


class Wire:
    """A transport that takes frames only while it is open."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.parts: list[tuple[bytes, bool, bool]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.asked = asyncio.Event()
        self.transport = None

    @property
    def clogged(self) -> bool:
        return not self.open.is_set()

    def send(self, frame: bytes) -> None:
        self.frames.append(frame)

    def send_part(self, part: bytes, *, first: bool, last: bool) -> None:
        self.parts.append((part, first, last))

    async def drained(self) -> None:
        self.asked.set()
        await self.open.wait()


async def test_frames_leave_in_order_and_all_before_the_end() -> None:
    wire = Wire()
    outbox = Outbox(wire)
    running = asyncio.create_task(outbox.run())
    await outbox.put(b"1")
    outbox.push_raw(b"2")
    outbox.push("m", [3])
    outbox.finish()
    await running
    assert wire.frames == [b"1", b"2", b'{"jsonrpc":"2.0","method":"m","params":[3]}']


async def test_answers_wait_for_a_slow_reader() -> None:
    wire = Wire()
    wire.open.clear()
    outbox = Outbox(wire, most_bytes=10)
    running = asyncio.create_task(outbox.run())
    await outbox.put(b"x" * 6)
    await wire.asked.wait()
    await outbox.put(b"y" * 4)
    late = asyncio.create_task(outbox.put(b"z" * 4))
    await asyncio.sleep(0)
    assert not late.done()
    wire.open.set()
    await late
    outbox.finish()
    await running
    assert b"".join(wire.frames) == b"x" * 6 + b"y" * 4 + b"z" * 4


async def test_an_answer_larger_than_everything_still_leaves() -> None:
    wire = Wire()
    outbox = Outbox(wire, most_bytes=10)
    running = asyncio.create_task(outbox.run())
    await outbox.put(b"x" * 100)
    await outbox.put(b"y" * 100)
    outbox.finish()
    await running
    assert len(wire.frames) == 2


async def test_pushes_that_pile_up_end_the_connection() -> None:
    wire = Wire()
    wire.open.clear()
    outbox = Outbox(wire, most_bytes=10)
    running = asyncio.create_task(outbox.run())
    for _ in range(5):
        outbox.push_raw(b"x" * 4)
    wire.open.set()
    with pytest.raises(SlowReader):
        await running


async def test_a_reader_that_takes_nothing_ends_the_connection() -> None:
    wire = Wire()
    wire.open.clear()
    outbox = Outbox(wire, stall_seconds=0.05)
    outbox.push_raw(b"x")
    with pytest.raises(SlowReader):
        await outbox.run()


async def test_the_end_is_told_once_to_everyone_and_lets_waiters_go() -> None:
    told: list[int] = []
    wire = Wire()
    wire.open.clear()
    outbox = Outbox(wire, most_bytes=1)

    def breaks() -> None:
        raise RuntimeError("a subscription that cannot end")

    outbox.on_close(breaks)
    outbox.on_close(lambda: told.append(1))
    await outbox.put(b"a")
    waiting = asyncio.create_task(outbox.put(b"b"))
    await asyncio.sleep(0)
    await outbox.close()
    await outbox.close()
    await waiting
    outbox.on_close(lambda: told.append(2))
    outbox.push_raw(b"late")
    assert told == [1, 2]
