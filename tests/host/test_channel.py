"""Lines on the pipe to a plugin: in pieces and many at once, in their order, up to the limit of one line."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest

from proxy.host import frames
from proxy.host.channel import AT_ONCE, MAX_HELD, Channel
from proxy.host.pipes import Incoming


@pytest.fixture(autouse=True)
def _always_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plugin here has to give way to others: it would where the machine stopped us for a few milliseconds (test_pacing.py)."""
    monkeypatch.setattr("proxy.host.pacing.BURST", 3600.0)


class Pipe:
    """The writing end, as the channel uses it; each write is one call of the system."""

    def __init__(self, *, broken: bool = False) -> None:
        self.written: list[bytes] = []
        self.transport = self
        self.broken = broken  # the process is dead, and the channel has not heard it

    def write(self, data: bytes) -> None:
        if self.broken:
            raise RuntimeError("the handler is closed")  # as uvloop's transports say it
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.broken

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        pass


def answer(number: int, value: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "result": value}).encode() + b"\n"


async def talked(*chunks: bytes, asks: int = 2, broken: bool = False) -> tuple[list[Any], str, list[bytes]]:
    """Return what `asks` questions came to, why the channel ended, and what was written, when the plugin says `chunks`."""
    reader, pipe = Incoming(frames.MAX_LINE), Pipe(broken=broken)

    async def handle(method: str, params: dict[str, Any]) -> Any:
        return {method: params}

    channel = Channel(reader, cast(asyncio.StreamWriter, pipe), handle, lambda *_: None)
    asked = [asyncio.create_task(channel.request("invoke", {"n": n})) for n in range(asks)]
    serving = asyncio.create_task(channel.serve())
    await asyncio.sleep(0)
    for chunk in chunks:
        reader.feed_data(chunk)
        for _ in range(4):
            await asyncio.sleep(0)
    reader.feed_eof()
    reason = await serving
    return await asyncio.gather(*asked, return_exceptions=True), reason, pipe.written


async def test_lines_in_pieces_and_many_lines_in_one_piece() -> None:
    both = answer(2, "b") + answer(1, "a")
    for cut in (1, 20, len(both) // 2, len(both) // 2 + 3, len(both) - 1):
        outcomes, reason, written = await talked(both[:cut], both[cut:])
        assert (outcomes, reason) == (["a", "b"], "ended")
        assert [json.loads(line)["params"] for line in b"".join(written).splitlines()] == [{"n": 0}, {"n": 1}]
        assert len(written) == 1  # what was asked in one turn of the loop went out in one write
    outcomes, reason, _ = await talked(*(both[at : at + 1] for at in range(len(both))))
    assert (outcomes, reason) == (["a", "b"], "ended")


async def test_requests_of_one_piece_are_answered_in_one_write() -> None:
    asked = b"".join(b'{"jsonrpc":"2.0","id":%d,"method":"m","params":{}}\n' % n for n in range(5))
    _, reason, written = await talked(asked, asks=0)
    assert [json.loads(line)["id"] for line in b"".join(written).splitlines()] == [0, 1, 2, 3, 4]
    assert (reason, len(written)) == ("ended", 1)


async def test_a_line_is_refused_at_the_limit_in_whatever_pieces_it_comes() -> None:
    whole = answer(1, "x" * (frames.MAX_LINE - len(answer(1, ""))))
    assert len(whole) == frames.MAX_LINE
    for pieces in ([whole], [whole[:7], whole[7:-1], whole[-1:]]):
        outcomes, reason, _ = await talked(*pieces, asks=1)
        assert (len(outcomes[0]), reason) == (frames.MAX_LINE - len(answer(1, "")), "ended")
    for pieces in ([b" " + whole], [b"x" * frames.MAX_LINE], [b"x" * (frames.MAX_LINE - 1), b"x"]):
        _, reason, _ = await talked(*pieces, asks=1)
        assert "a line over" in reason
    _, reason, _ = await talked(whole[:100], asks=1)
    assert reason == "ended in the middle of a line"


async def test_who_asks_a_process_that_just_died_hears_of_its_end_and_nothing_is_raised_in_the_loop() -> None:
    raised: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    outcomes, reason, written = await talked(asks=2, broken=True)
    assert [str(outcome) for outcome in outcomes] == ["ended", "ended"]
    assert (reason, written, raised) == ("ended", [], [])


class FullPipe(Pipe):
    """A pipe whose other end does not read until `room` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.room = asyncio.Event()

    def get_write_buffer_size(self) -> int:
        return 0 if self.room.is_set() else 10 * AT_ONCE

    async def drain(self) -> None:
        await self.room.wait()


async def test_nothing_is_taken_while_the_plugin_does_not_read_and_nothing_is_lost() -> None:
    reader, pipe, handled = Incoming(frames.MAX_LINE), FullPipe(), list[int]()

    async def handle(_: str, params: dict[str, Any]) -> Any:
        handled.append(params["n"])

    channel = Channel(reader, cast(asyncio.StreamWriter, pipe), handle, lambda *_: None)
    asked = [b'{"jsonrpc":"2.0","id":%d,"method":"m","params":{"n":%d}}\n' % (n, n) for n in range(6)]
    reader.feed_data(b"".join(asked[:2]) + asked[2][:9])  # before anybody listens
    serving = asyncio.create_task(channel.serve())
    for piece in (asked[2][9:] + asked[3], asked[4][:5], asked[4][5:] + asked[5]):
        for _ in range(4):
            await asyncio.sleep(0)
        reader.feed_data(piece)
    reader.feed_eof()
    assert handled == []
    assert not serving.done()
    pipe.room.set()
    assert await serving == "ended"
    assert handled in ([], [0, 1, 2, 3, 4, 5])  # begun together, or all cancelled by the end
    assert channel.ended == "ended"


async def test_what_open_requests_hold_in_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A MiB of empty lists takes twenty when it is parsed, and 256 requests may be open: the rest of such is refused, and they end."""
    monkeypatch.setattr("proxy.host.channel.MAX_HELD", MAX_HELD // 128)
    reader, pipe, waiting = Incoming(frames.MAX_LINE), Pipe(), asyncio.Event()
    open_now = 0

    async def handle(method: str, params: dict[str, Any]) -> Any:
        nonlocal open_now
        open_now += 1
        await waiting.wait()
        return {}

    channel = Channel(reader, cast(asyncio.StreamWriter, pipe), handle, lambda *_: None)
    serving = asyncio.create_task(channel.serve())
    await asyncio.sleep(0)
    lists = b",".join([b"[]"] * 2_300)
    line = b'{"jsonrpc":"2.0","id":%d,"method":"m","params":{"a":[' + lists + b"]}}\n"
    for number in range(8):
        reader.feed_data(line % number)
        await asyncio.sleep(0)

    async def answers(count: int) -> list[Any]:
        async with asyncio.timeout(60):
            while (said := b"".join(pipe.written)).count(b"\n") < count:  # noqa: ASYNC110 - the channel tells nobody
                await asyncio.sleep(0.01)
        return [json.loads(row) for row in said.splitlines()]

    most = MAX_HELD // 128 // frames.weight(line % 0)
    refused = await answers(8 - most)
    assert (most, open_now) == (3, 3)
    assert {row["error"]["code"] for row in refused} == {-32005}
    waiting.set()
    await answers(8)
    reader.feed_data(line % 9)
    assert (await answers(9))[-1] == {"jsonrpc": "2.0", "id": 9, "result": {}}
    reader.feed_eof()
    assert await serving == "ended"
