"""Who opens a shared socket when several want one in the very turn in which an attempt ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.upstream.failures import Unreachable
from proxy.upstream.figures import NodeFigures
from proxy.upstream.line import Line
from proxy.upstream.multiplexed import Multiplexed
from proxy.upstream.node_socket import Receiver, Socket


async def _admits(ask: Any) -> None:
    """Verify nothing."""


# Where it fails it turns in a circle without ever waiting, which nothing but a signal ends.
@pytest.mark.timeout(60, method="signal")
async def test_who_comes_when_an_attempt_has_just_failed_makes_one_of_his_own() -> None:
    """Both wait for one event: the attempt fails in the turn in which the second asks, before anybody was told so."""
    begun, gate = asyncio.Event(), asyncio.Event()
    attempts = 0

    async def refused(receiver: Receiver) -> Socket:
        nonlocal attempts
        attempts += 1
        begun.set()
        await gate.wait()
        raise Unreachable("it refused the connection")

    node = Multiplexed(refused, _admits, NodeFigures())
    first = asyncio.create_task(node.line())

    async def second() -> Line:
        await begun.wait()
        await gate.wait()
        return await node.line()

    late = asyncio.create_task(second())
    await begun.wait()
    await asyncio.sleep(0)  # now the second waits for the gate as well
    gate.set()
    ended = await asyncio.gather(first, late, return_exceptions=True)
    assert [type(one) for one in ended] == [Unreachable, Unreachable]
    assert attempts == 2


class _Closing:
    """A socket that has ended by the time it is used."""

    closed = True

    def close(self) -> None:
        """It is closed."""


async def test_a_node_that_closes_every_socket_at_once_is_not_asked_in_a_circle() -> None:
    attempts = 0

    async def closes(receiver: Receiver) -> Any:
        nonlocal attempts
        attempts += 1
        assert attempts < 5
        await asyncio.sleep(0)
        return _Closing()

    with pytest.raises(Unreachable):
        await Multiplexed(closes, _admits, NodeFigures()).line()
    assert attempts == 1


async def test_who_waits_for_a_socket_while_all_are_closed_is_told_so_and_not_cancelled() -> None:
    """All are closed where a node turns out to serve another chain, and whoever asks at that moment is no part of it."""

    async def never(receiver: Receiver) -> Any:
        await asyncio.Event().wait()

    node = Multiplexed(never, _admits, NodeFigures())
    waiting = asyncio.create_task(node.line())
    await asyncio.sleep(0)
    leaving = asyncio.create_task(node.line())
    await asyncio.sleep(0)
    leaving.cancel()
    await node.close()
    with pytest.raises(Unreachable, match="has ended"):
        await waiting
    with pytest.raises(asyncio.CancelledError):
        await leaving
