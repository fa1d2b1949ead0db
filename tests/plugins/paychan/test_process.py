"""The plugin's process is killed under a live daemon, then the daemon itself: no wei and no order is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from middleware.errors import RpcError
from proxy.demo.journey import PAYMENT, Journey, http_client
from proxy.demo.party import Party
from tests.conftest import TEST_PHRASE

pytestmark = pytest.mark.timeout(180)

UP_TO_DEPOSIT = ("keys", "L1", "daemons", "funds", "contract", "hub", "install", "connect", "deposit")


async def test_plugin_and_daemon_are_killed_while_they_pay_and_every_order_is_paid_once(short_tmp: Path) -> None:
    (phrase := short_tmp / "phrase").write_text(TEST_PHRASE)
    journey = Journey(short_tmp, phrase, payments=12)
    steps = dict(journey.steps)
    try:
        for name in UP_TO_DEPOSIT:
            await steps[name]()
        async with http_client(journey.alice.token_url) as shop:

            async def order(number: int) -> Any:
                params = {"toAddress": journey.bob.address, "value": str(PAYMENT)}
                key = {"idempotencyKey": f"order-{number}"}
                return await shop.request("l2_invoke", ["paychan", "makePayment", params, key])

            assert await order(0) == {"nonce": "0x1", "balance": hex(10**18 - PAYMENT)}
            with pytest.raises(RpcError) as caught:
                await _killed_during(order(1), journey.alice)
            assert caught.value.code == -32012
            assert caught.value.data == {"plugin": "paychan", "outcome": "unknown"}
            # It is back, with its hub: at once, and for the very order that was cut off.
            assert await order(1) == {"nonce": "0x2", "balance": hex(10**18 - 2 * PAYMENT)}
            assert await order(1) == {"nonce": "0x2", "balance": hex(10**18 - 2 * PAYMENT)}
            assert (await order(2))["nonce"] == "0x3"
            under_way = asyncio.gather(*(order(number) for number in range(3, 7)), return_exceptions=True)
            await journey.alice.kill()  # as a power cut would, in the middle of the payments
            await under_way
        await journey.alice.start()
        for name in ("payments", "withdraw", "close", "balances"):  # asks for orders 0 to 11 again, with the same keys
            await steps[name]()
        assert all(line.must == line.has for line in journey.balances)
    finally:
        await journey.end()


async def _killed_during(calling: Any, party: Party) -> Any:
    """Stop the plugin's process, wait until the proxy has let the call through, kill it; return what the caller got."""
    assert party.daemon is not None
    plugin = _child_of(party.daemon.pid)
    before = await _asked(party)
    os.kill(plugin, signal.SIGSTOP)
    call = asyncio.ensure_future(calling)
    async with asyncio.timeout(60):
        while await _asked(party) == before:  # noqa: ASYNC110  nobody is told
            await asyncio.sleep(0.01)
    await party.admin("admin_status")  # one more turn of the daemon's loop: the question lies in the plugin's pipe
    os.kill(plugin, signal.SIGKILL)
    return await call


async def _asked(party: Party) -> int:
    """Return how many calls the proxy has let through to the plugin: the audit log knows of one before its entry is synced."""
    ((_, invokes),) = [(row["id"], row["invokes"]) for row in (await party.admin("admin_status"))["plugins"]]
    return int(invokes)


def _child_of(daemon: int) -> int:
    """Return the only child of the daemon that is a process of Python's: its one plugin."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, rest = status.read_text().rpartition(") ")
        except OSError:
            continue  # it has just ended
        if rest.split()[1] == str(daemon):
            found.append(int(status.parent.name))
    assert len(found) == 1, found
    return found[0]
