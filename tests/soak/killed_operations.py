"""A process that moves money until it is killed: started once, it forks a child for each line it reads, so that a death is cheap.

`python -m tests.soak.killed_operations FOLDER NODE GATEWAY`; a line is how many operations the child begins. The child prints its
pid, `+ KIND ID` for each operation that was acknowledged, and, where it is let live, `= JSON` of all of them once they are over.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from proxy.upstream.l1 import L1
from tests.host.neighbours import new_keyring
from tests.host.operations_bench import PLUGIN, Bench, Owner, plugin
from tests.wallet.conftest import OWNER

CHANNEL = "0x" + "11" * 32
KINDS: dict[str, dict[str, Any]] = {
    "deposit": {"function": "open(address)", "args": [OWNER], "value": "0x1"},
    "send": {"function": "answer", "args": [f"0x{0:064x}"]},
    "plan": {"steps": [{"function": "open(address)", "args": [OWNER], "value": "0x1"}] * 2},
}


def say(line: str) -> None:
    """Write a line at once and whole, as long as it is short: nobody may read half of one."""
    os.write(1, f"{line}\n".encode())


async def run(folder: Path, node: str, gateway: str, count: int) -> None:
    """Begin `count` operations, one after another, and go on with all there are until they are over."""
    l1 = L1([node])
    await l1.start()
    with tempfile.TemporaryDirectory() as keys:
        keyring = new_keyring(Path(keys))
    bench = Bench(folder / "chain.db", l1, keyring, Owner())
    bench.plugin = plugin(gateways=(replace(plugin().gateways[0], address=gateway),))
    await bench.operations.start()
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        operation = await bench.submit(kind, **KINDS[kind])
        say(f"+ {kind} {operation}")
    while any(not one.over for one in bench.operations.records_of(PLUGIN)):  # noqa: ASYNC110 - every change is on disk
        await asyncio.sleep(0.01)
    rows = [(one.id, one.kind, one.status, one.error) for one in bench.operations.records_of(PLUGIN)]
    say(f"= {json.dumps(rows)}")
    await bench.operations.close()
    bench.database.close()
    await l1.close()


def main() -> None:
    """Fork for each line; say `dead` once the child has ended."""
    folder, node, gateway = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    with tempfile.TemporaryDirectory() as keys:  # whatever is imported late is imported once
        sign_transaction = new_keyring(Path(keys)).sign_transaction
        fields = {"type": 2, "chainId": 1, "nonce": 0, "to": gateway, "value": 0, "gas": 21_000}
        sign_transaction(OWNER, fields | {"maxFeePerGas": 1, "maxPriorityFeePerGas": 1})
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            say(str(os.getpid()))
            asyncio.run(run(folder, node, gateway, int(line)))
            os._exit(0)
        os.waitpid(child, 0)
        say("dead")


if __name__ == "__main__":
    main()
