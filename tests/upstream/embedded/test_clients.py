"""ethers 6, viem 2, web3.js 4 and web3.py do their ordinary jobs straight on the embedded L1."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from web3 import AsyncWeb3, Web3
from web3.exceptions import ContractCustomError, ContractLogicError, TransactionNotFound, Web3RPCError
from web3.logs import DISCARD
from web3.middleware import SignAndSendRawMiddlewareBuilder
from web3.providers.persistent import AsyncIPCProvider
from web3.types import Wei

from proxy.upstream.embedded.http_door import open_http
from proxy.upstream.embedded.node import Node
from proxy.upstream.embedded.server import Server
from proxy.upstream.embedded.unix_socket import bind_private
from tests.upstream.embedded.conftest import ETHER, FUND, OWNER, Probe

HERE = Path(__file__).parent


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """The server of a fresh node, without a door."""
    running = Server(Node(FUND))
    yield running
    await running.close()


@pytest.fixture
async def url(server: Server) -> AsyncIterator[str]:
    """The HTTP door of the fresh node."""
    runner, port = await open_http(server.ask, 0)
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()


@pytest.mark.node
async def test_javascript_libraries(url: str, node_modules: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *("node", HERE / "clients.mjs", url, node_modules, HERE / "Probe.json", "0x" + bytes(OWNER.key).hex()),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    seen = json.loads(output)
    assert seen["ethers"] == {
        "network": "1337",
        "number": "11",
        "status": 1,
        "logs": ["ethers"],
        "reason": "not today",
        "custom": "Custom5,custom",
        "poor": "INSUFFICIENT_FUNDS",
        "legacy": 0,
        "prefetched": True,
        "fees": "1000000000",
        "seen": True,
        "code": True,
        "storage": f"0x{11:064x}",
        "missing": None,
    }
    assert seen["viem"] == {
        "network": "1337",
        "number": "12",
        "balance": "1",
        "status": "success",
        "logs": ["viem"],
        "reason": "Error:not today",
        "custom": "Custom:5,custom",
        "low": "NonceTooLowError",
        "poor": "InsufficientFundsError",
        "type": "eip1559",
        "rewards": [2, 2],
        "override": "9",
        "slots": [1],
        "missing": "TransactionNotFoundError",
    }
    assert seen["web3"] == {
        "network": "1337",
        "number": "13",
        "status": "1",
        "logs": ["web3"],
        "reason": "execution reverted: not today",
        "paid": "7",
        "fees": True,
        "accounts": [],
    }


def with_web3_py(url: str, probe: Probe) -> dict[str, Any]:
    """Do the jobs with web3.py's blocking HTTP provider."""
    w3 = Web3(Web3.HTTPProvider(url))
    w3.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build(OWNER), layer=0)
    w3.eth.default_account = OWNER.address
    deployed = w3.eth.wait_for_transaction_receipt(
        w3.eth.contract(abi=probe.abi, bytecode=probe.bytecode).constructor().transact({"value": Wei(4)})
    )
    assert deployed["contractAddress"] is not None
    contract = w3.eth.contract(deployed["contractAddress"], abi=probe.abi)
    receipt = w3.eth.wait_for_transaction_receipt(contract.functions.store(14, "web3.py").transact({"value": Wei(6)}))
    (event,) = contract.events.Stored().process_receipt(receipt, errors=DISCARD)
    with pytest.raises(ContractLogicError, match="not today"):
        contract.functions.failReason().call()
    with pytest.raises(ContractCustomError):
        contract.functions.failCustom().call()
    with pytest.raises(TransactionNotFound):
        w3.eth.get_transaction(b"\0" * 32)  # type: ignore[arg-type]
    with pytest.raises(Web3RPCError, match="nonce too low"):
        w3.eth.send_transaction({"to": OWNER.address, "nonce": 0, "gas": 21_000})  # type: ignore[typeddict-item]
    block = w3.eth.get_block("latest", full_transactions=True)
    return {
        "number": contract.functions.number().call(),
        "balance": w3.eth.get_balance(contract.address),
        "note": event["args"]["note"],
        "logs": len(contract.events.Stored().get_logs(from_block=0)),
        "receipts": len(w3.eth.get_block_receipts("latest")),
        "transaction": dict(block["transactions"][0])["hash"] == receipt["transactionHash"],  # type: ignore[arg-type]
        "history": len(w3.eth.fee_history(2, "latest", [50])["reward"]),
        "version": w3.client_version.startswith("eth-tester/"),
        "before": w3.eth.get_balance(OWNER.address, 0),
        "proof": len(w3.eth.get_proof(contract.address, [0])["storageProof"]),  # type: ignore[call-arg, arg-type]
    }


async def test_web3_py_over_http(url: str, probe: Probe) -> None:
    assert await asyncio.to_thread(with_web3_py, url, probe) == {
        "number": 14,
        "balance": 10,
        "note": "web3.py",
        "logs": 1,
        "receipts": 1,
        "transaction": True,
        "history": 2,
        "version": True,
        "before": 10_000 * ETHER,
        "proof": 1,
    }


async def test_web3_py_over_ipc(server: Server, short_tmp: Path) -> None:
    await server.open_socket(bind_private(short_tmp / "l1.ipc"))
    async with AsyncWeb3(AsyncIPCProvider(short_tmp / "l1.ipc")) as w3:
        assert await w3.eth.chain_id == 1337
        numbers = await asyncio.gather(*(w3.eth.get_balance(OWNER.address) for _ in range(20)))
        assert set(numbers) == {10_000 * ETHER}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json"}, 200),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/json", "Origin": "https://evil.example"}, 403),
        ({"Content-Type": "application/json", "Host": "evil.example"}, 403),
    ],
)
async def test_pages_may_not_ask(url: str, headers: dict[str, str], status: int) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as response:
        assert response.status == status
        assert (b"0x539" in await response.read()) == (status == 200)
