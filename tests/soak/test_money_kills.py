"""The long run of tests/security/test_money_crash.py (`make soak`): a real process, a real node, hundreds of kills at random moments."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from pathlib import Path

import pytest
from eth_utils.address import to_checksum_address

from proxy.upstream.l1 import L1
from tests.conftest import Anvil
from tests.host.neighbours import new_keyring
from tests.host.small_gateway import CREATION
from tests.soak.conftest import Progress
from tests.wallet.conftest import OWNER

pytestmark = pytest.mark.timeout(7200)

KILLS = 500
LATEST = 0.6


async def test_hundreds_of_kills_move_every_amount_once(
    anvil: Anvil, tmp_path: Path, kills: int, chance: random.Random, progress: Progress
) -> None:
    l1 = L1([anvil.ipc])
    await l1.start()
    own = new_keyring(tmp_path).plugin_account((7002, 0, 0, 0)).address
    for account in (OWNER, own):
        await l1.call("anvil_setBalance", account, hex(10**21))
    created = await l1.call("eth_sendTransaction", {"from": OWNER, "data": "0x" + CREATION.hex(), "gas": hex(10**6)})
    while (receipt := await l1.call("eth_getTransactionReceipt", created)) is None:  # noqa: ASYNC110  anvil tells nobody
        await asyncio.sleep(0.01)
    gateway = to_checksum_address(receipt["contractAddress"])
    started = int(await l1.call("eth_getTransactionCount", OWNER, "latest"), 16)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.soak.killed_operations", str(tmp_path), anvil.ipc, gateway),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    acknowledged: list[str] = []
    try:
        for killed in range(1, kills + 1):
            process.stdin.write(b"9\n")
            child = int(await process.stdout.readline())
            await asyncio.sleep(chance.uniform(0, LATEST))  # the moment is what is tried
            with contextlib.suppress(ProcessLookupError):  # it was done before
                os.kill(child, signal.SIGKILL)
            while (line := await process.stdout.readline()) != b"dead\n":
                if line.startswith(b"+"):
                    acknowledged.append(line.split()[2].decode())
            progress(f"{killed} of {kills} kills of the daemon's operations, {len(acknowledged)} acknowledged")
        process.stdin.write(b"0\n")
        said = [await process.stdout.readline() for _ in range(3)]
        rows = json.loads(said[1][2:])
    finally:
        process.stdin.close()
        await process.wait()
    kinds = [kind for _, kind, _, _ in rows]
    assert {status for _, _, status, _ in rows} == {"done"}, [row for row in rows if row[2] != "done"][:3]
    assert set(acknowledged) <= {operation for operation, *_ in rows}, "acknowledged and gone"
    paid = kinds.count("deposit") + 2 * kinds.count("plan")
    assert int(await l1.call("eth_getBalance", gateway, "latest"), 16) == paid
    assert int(await l1.call("eth_getTransactionCount", OWNER, "latest"), 16) - started == paid
    assert int(await l1.call("eth_getTransactionCount", own, "latest"), 16) == kinds.count("send")
    assert len(acknowledged) > kills / 4, "it was killed before it did anything"
    await l1.close()
