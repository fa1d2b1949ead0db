"""The first day of a dapp developer: ethers 6, viem 2, web3.js 4 and web3.py do their ordinary jobs through a real daemon."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import HexStr
from web3 import AsyncWeb3, Web3, WebSocketProvider
from web3.exceptions import ContractLogicError, TransactionNotFound
from web3.middleware import SignAndSendRawMiddlewareBuilder
from web3.providers.persistent import AsyncIPCProvider

from proxy.demo.party import Party, command
from tests.conftest import TEST_PHRASE, Anvil, start_anvil
from tests.journeys.conftest import Daemon, run_daemon

pytestmark = pytest.mark.timeout(240)

HERE = Path(__file__).parent
PROBE = HERE.parent / "upstream" / "embedded" / "Probe.json"
Account.enable_unaudited_hdwallet_features()
KEYS: list[LocalAccount] = [
    Account.from_mnemonic(TEST_PHRASE, account_path=f"m/44'/60'/0'/0/{number}") for number in range(10)
]

ETHERS = {
    "number": "11",
    "balance": "8",
    "status": 1,
    "reason": "not today",
    "custom": "Custom",
    "missing": None,
    "logs": ["ethers"],
    "heard": "ethers",
    "block": True,
    "latest": True,
    "unserved": 4200,
}
VIEM = {
    "number": "12",
    "balance": "1",
    "status": "success",
    "reason": "not today",
    "custom": "Custom",
    "changes": ["viem"],
    "again": 0,
    "made": True,
    "all": 1,
    "gone": [True, False],
    "heard": "viem",
    "block": True,
    "missing": "TransactionNotFoundError",
    "unserved": 4200,
}
WEB3 = {
    "balance": "0x7",
    "number": "13",
    "status": "1",
    "reason": "execution reverted: not today",
    "logs": ["web3"],
    "unserved": 4200,
}


@contextlib.asynccontextmanager
async def daemon_on(upstream: str, folder: Path, anvil_binary: Path) -> AsyncIterator[Daemon]:
    """Run a developer's daemon on a fresh anvil over `upstream`, or on the embedded L1 ("dev")."""
    async with contextlib.AsyncExitStack() as stack:
        l1 = (
            "dev"
            if upstream == "dev"
            else getattr(await stack.enter_async_context(start_anvil(anvil_binary)), upstream)
        )
        yield await stack.enter_async_context(run_daemon(folder / "data", "--dev", "--l1", l1))


@pytest.mark.parametrize("upstream", ["http", "ipc"])
async def test_javascript_libraries(upstream: str, anvil_binary: Path, node_modules: Path, short_tmp: Path) -> None:
    async with daemon_on(upstream, short_tmp, anvil_binary) as daemon:
        seen = await _in_node(daemon, 31337)
    for way in ("http", "ws", "ipc"):
        assert seen[f"ethers-{way}"] == ETHERS | {"network": "31337"}
    for way in ("http", "ws"):
        assert seen[f"viem-{way}"] == VIEM | {"network": "31337"}
    for way, pushed in (("http", {}), ("ws", {"heard": 3, "block": True}), ("ipc", {})):
        assert seen[f"web3-{way}"] == WEB3 | {"network": "0x7a69"} | pushed


async def _in_node(daemon: Daemon, chain_id: int) -> Any:
    ready = daemon.ready
    process = await asyncio.create_subprocess_exec(
        *("node", HERE / "clients" / "first_day.mjs", ready["dapp"], ready["ws"], ready["ipc"], PROBE, str(chain_id)),
        *("0x" + bytes(key.key).hex() for key in KEYS),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(150):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, errors.decode()
    return json.loads(output)


def _on(w3: Any, account: LocalAccount) -> Any:
    """Let `w3` sign with `account`, and return Probe's contract factory."""
    w3.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build(account), layer=0)
    w3.eth.default_account = account.address
    return w3.eth.contract(**{name: json.loads(PROBE.read_text())[name] for name in ("abi", "bytecode")})


def _first_day(w3: Web3, account: LocalAccount) -> dict[str, Any]:
    factory = _on(w3, account)
    address = w3.eth.wait_for_transaction_receipt(factory.constructor().transact({"value": 4}))["contractAddress"]
    assert address is not None
    contract = factory(address)
    blocks: Any = w3.eth.filter("latest")
    stored = contract.events.Stored.create_filter(from_block=0)
    sent = w3.eth.wait_for_transaction_receipt(contract.functions.store(14, "py").transact({"value": 6}))
    with pytest.raises(ContractLogicError, match="not today"):
        contract.functions.failReason().call()
    with pytest.raises(TransactionNotFound):
        w3.eth.get_transaction(HexStr("0x" + "00" * 32))
    with w3.batch_requests() as batch:
        batch.add(w3.eth.get_balance(address))
        batch.add(contract.functions.number())
        balance, number = batch.execute()
    return {
        "made": sent["blockHash"] in blocks.get_new_entries(),
        "notes": [event["args"]["note"] for event in stored.get_new_entries()],
        "again": stored.get_new_entries(),
        "all": len(stored.get_all_entries()),
        "balance": balance,
        "number": number,
        "chain": w3.eth.chain_id,
    }


async def _pushed(w3: AsyncWeb3[Any], account: LocalAccount) -> set[str]:
    """Subscribe to all there is, make a block, and return which subscriptions spoke."""
    factory = _on(w3, account)
    names = {await w3.eth.subscribe(kind): kind for kind in ("newHeads", "logs", "newPendingTransactions")}
    receipt = await w3.eth.wait_for_transaction_receipt(await factory.constructor().transact({"from": account.address}))
    await factory(receipt["contractAddress"]).functions.store(1, "ws").transact({"from": account.address})
    await asyncio.gather(*(w3.eth.get_balance(account.address) for _ in range(20)))  # between the pushes
    heard: set[str] = set()
    async for message in w3.socket.process_subscriptions():
        heard.add(names[message["subscription"]])
        if len(heard) == len(names):
            break
    for subscription in names:
        assert await w3.eth.unsubscribe(subscription)
    return heard


async def test_web3_py(anvil_binary: Path, short_tmp: Path) -> None:
    async with daemon_on("ws", short_tmp, anvil_binary) as daemon, asyncio.timeout(150):
        ready = daemon.ready
        http, ipc = Web3(Web3.HTTPProvider(ready["dapp"])), Web3(Web3.IPCProvider(ready["ipc"]))
        for seen in await asyncio.gather(
            *(asyncio.to_thread(_first_day, w3, key) for w3, key in ((http, KEYS[0]), (ipc, KEYS[1])))
        ):
            assert seen == {
                "made": True,
                "notes": ["py"],
                "again": [],
                "all": 1,
                "balance": 10,
                "number": 14,
                "chain": 31337,
            }
        for provider, key in ((WebSocketProvider(ready["ws"]), KEYS[2]), (AsyncIPCProvider(ready["ipc"]), KEYS[3])):
            async with AsyncWeb3(provider) as w3:
                assert await _pushed(w3, key) == {"newHeads", "logs", "newPendingTransactions"}


@pytest.mark.usefixtures("node_modules")
async def test_a_library_that_asks_again_while_the_owner_thinks_pays_once(anvil: Anvil, alice: Party) -> None:
    alice.on(anvil.http, dev=True)
    await alice.start()
    try:
        token = await command("token", "new", "shop", "--accounts", "1", "--data", alice.data)
        process = await asyncio.create_subprocess_exec(
            *("node", HERE / "clients" / "impatient.mjs", token["url"], alice.address), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        async with asyncio.timeout(150):
            for _ in range(2):
                assert await process.stdout.readline() == b"asked\n"
            (question,) = await command("approval", "list", "--data", alice.data)
            assert (question["kind"], question["origin"]) == ("transaction", "token:shop")
            await command("approval", "approve", question["id"], "--data", alice.data)
            said = (await process.stdout.read()).split()
            await process.wait()
        async with AsyncWeb3(WebSocketProvider(alice.ws)) as w3:
            receipt = await w3.eth.wait_for_transaction_receipt(HexStr(said[-1].decode()))
            assert receipt["status"] == 1
            assert await w3.eth.get_transaction_count(Web3.to_checksum_address(alice.address)) == 1
        assert await command("approval", "list", "--data", alice.data) == []
    finally:
        assert await alice.stop() == 0
