"""A small world for the channel: a chain, the real hub process, users whose plugins run under FakeHost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
from eth_abi.abi import encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from l2proxy_sdk.testing import FakeHost, HubPort, load_plugin, read_manifest

from plugins.paychan.hub.contract import deploy
from plugins.paychan.hub.digests import Key
from plugins.paychan.hub.layer1 import Node, connect

FOLDER = Path("plugins/paychan")
ETH = 10**18


class EthCrypto:
    """Real secp256k1 keys, one per path, below a seed."""

    def __init__(self, seed: str) -> None:
        self._seed = seed

    def key(self, path: str) -> LocalAccount:
        secret = sha256(f"{self._seed}/{path}".encode()).digest()
        key: LocalAccount = Account.from_key(secret)
        return key

    def account(self, path: str) -> tuple[str, str]:
        return self.key(path).address, "0x"

    def sign(self, path: str, content: Mapping[str, Any]) -> str:
        signed = Account.sign_typed_data(self.key(path).key, full_message=dict(content["typedData"]))
        return "0x" + bytes(signed.signature).hex()

    def recover(self, content: Mapping[str, Any], signature: str) -> str | None:
        try:
            message = encode_typed_data(full_message=dict(content["typedData"]))
            return str(Account.recover_message(message, signature=bytes.fromhex(signature[2:])))
        except Exception:  # noqa: BLE001 - whatever eth-account says about nonsense: nobody signed it
            return None

    def hash(self, params: Mapping[str, Any]) -> str:
        return "0x" + bytes(keccak(hexstr=params["data"])).hex()


class Host(FakeHost):
    """FakeHost with a minute for what an outside process has a part in."""

    async def until(self, condition: Callable[[], bool], timeout: float = 60) -> None:
        await super().until(condition, timeout)


class WsHub:
    """A WebSocket to a hub, made again when it breaks."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.lose: str | None = None  # "request" or "answer": of the next payment, on its way
        self.lost = asyncio.Event()
        self._lost_id: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def connect(self, deliver: Any) -> None:
        self._task = asyncio.create_task(self._run(deliver))

    async def send(self, message: str) -> None:
        if self._socket is None or self._socket.closed:
            raise ConnectionError("the hub is away")
        content = json.loads(message)
        if self.lose is not None and content["method"] == "pay":
            if self.lose == "answer":
                self._lost_id = content["id"]
            else:
                self.lost.set()
                return
        await self._socket.send_str(message)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, deliver: Any) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.ws_connect(self.url) as self._socket:
                        deliver({"event": "open"})
                        async for message in self._socket:
                            if self._lost_id is not None and json.loads(message.data).get("id") == self._lost_id:
                                self.lost.set()
                                continue
                            deliver({"event": "message", "text": message.data})
                    deliver({"event": "close", "code": 1006, "reason": "gone"})
                await asyncio.sleep(0.05)  # an outside process comes back when it does


@dataclass
class HubProcess:
    """The hub as an operator runs it."""

    l1: str
    gateway: str
    data: Path
    key_file: Path
    port: int = 0
    url: str = ""
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        options = ["--l1", self.l1, "--gateway", self.gateway, "--data", str(self.data)]
        self.process = await run_hub(*options, "--key-file", str(self.key_file), "--port", str(self.port), "--json")
        ready = await read_line(self.process)
        self.url = ready["url"]
        self.port = int(self.url.rsplit(":", 1)[1].split("/")[0])

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.communicate()  # to the end of its pipe, so that nothing of it outlives the loop


async def run_hub(*options: str) -> asyncio.subprocess.Process:
    """Start `python -m plugins.paychan.hub`."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "plugins.paychan.hub", *options, stdout=asyncio.subprocess.PIPE, env=dict(os.environ)
    )


async def read_line(process: asyncio.subprocess.Process) -> Any:
    """Return the JSON line a process prints when it is ready."""
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 100)
    assert line, "the hub ended before it was ready"
    return json.loads(line)


@dataclass
class User:
    """One owner: keys, a store that outlives the plugin, and the host it runs under at present."""

    name: str
    world: World
    crypto: EthCrypto
    store: dict[bytes, bytes] = field(default_factory=dict)
    hub: HubPort | None = None
    host: FakeHost | None = None

    @property
    def owner(self) -> LocalAccount:
        return self.crypto.key("owner")

    @property
    def address(self) -> str:
        return str(self.owner.address)

    @property
    def state(self) -> dict[str, Any]:
        assert self.host is not None
        return self.host.state or {}

    @property
    def balance(self) -> int:
        return int(self.state.get("balance", "0x0"), 16)

    def make(self) -> FakeHost:
        """Make the next host on the same store, not started."""
        self.hub = WsHub(self.world.hub.url)
        self.host = Host(
            load_plugin(FOLDER),
            chain_id=self.world.chain_id,
            owner=self.address,
            gateways={"main": self.world.hub.gateway},
            store=self.store,
            crypto=self.crypto,
            hub=self.hub,
            layer1=lambda method, params: self.world.node.request(method, *params),
            execute=self.execute,
            manifest=read_manifest(FOLDER),
        )
        return self.host

    async def start(self, restored: Any = False) -> FakeHost:
        host = self.make()
        await host.start(restored)
        await host.until(lambda: self.state.get("hub") == "connected" and host.is_ready)
        return host

    async def execute(self, kind: str, params: dict[str, Any]) -> dict[str, Any]:
        """Carry out an approved operation from the main account."""
        return await self.world.transact(
            self.owner, params["function"], params["args"], int(params.get("value", "0x0"), 16)
        )

    async def deposit(self, value: int) -> None:
        """Deposit and wait until it can be spent."""
        assert self.host is not None
        before = self.balance
        await self.host.invoke("deposit", value=value)
        await self.done()
        await self.host.until(lambda: self.state.get("status") == "open" and self.balance >= before + value)

    async def done(self) -> None:
        """Wait until every operation has succeeded, then let the watch see its logs."""
        host = self.host
        assert host is not None
        await host.until(lambda: all(row["status"] in ("done", "failed") for row in host.operations.values()))
        assert all(row["status"] == "done" for row in host.operations.values()), host.operations
        await host.poll_layer1(await self.world.head())

    async def l1_balance(self) -> int:
        return int(await self.world.node.request("eth_getBalance", self.address, "latest"), 16)


@dataclass
class World:
    """A chain with the contract and a hub."""

    chain_id: int
    node: Node
    hub: HubProcess
    users: list[User] = field(default_factory=list)

    async def user(self, name: str) -> User:
        """Make a user with 100 ETH on L1 (not started)."""
        user = User(name, self, EthCrypto(name))
        await self.node.request("anvil_setBalance", user.address, hex(100 * ETH))
        self.users.append(user)
        return user

    async def head(self) -> int:
        return int(await self.node.request("eth_blockNumber"), 16)

    async def transact(self, key: LocalAccount, function: str, args: list[Any], value: int = 0) -> dict[str, Any]:
        """Send a transaction to the contract and wait for it; a revert raises."""
        types = function[function.index("(") + 1 : -1].split(",")
        data = bytes(keccak(function.encode()))[:4] + encode(
            types, [_python(t, a) for t, a in zip(types, args, strict=True)]
        )
        call = {"from": key.address, "to": self.hub.gateway, "data": "0x" + data.hex(), "value": hex(value)}
        gas = int(await self.node.request("eth_estimateGas", call), 16)
        nonce = int(await self.node.request("eth_getTransactionCount", key.address, "pending"), 16)
        tx: Any = {
            "to": bytes.fromhex(self.hub.gateway[2:]),
            "data": data,
            "value": value,
            "gas": gas * 5 // 4,
            "nonce": nonce,
        }
        tx |= {"chainId": self.chain_id, "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**9, "type": 2}
        raw = bytes(key.sign_transaction(tx).raw_transaction)
        sent = await self.node.request("eth_sendRawTransaction", "0x" + raw.hex())
        async with asyncio.timeout(60):
            while (receipt := await self.node.request("eth_getTransactionReceipt", sent)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # an outside process mines when it does
        assert receipt["status"] == "0x1", f"{function} was reverted"
        return {"hashes": [sent], "blockNumber": receipt["blockNumber"], "fee": _fee(receipt)}

    async def close(self) -> None:
        for user in self.users:
            if user.host is not None:
                await user.host.kill()
        await self.hub.kill()
        await self.node.close()


async def make_world(l1: str, chain_id: int, folder: Path, window: int = 3600) -> World:
    """Deploy the contract and start the hub."""
    node = connect(l1)
    hub_key = EthCrypto("hub").key("hub")
    await node.request("anvil_setBalance", hub_key.address, hex(1000 * ETH))
    key_file = folder / "hub.key"
    key_file.write_text(bytes(hub_key.key).hex())
    gateway = await deploy(node, Key(bytes(hub_key.key)), window)
    hub = HubProcess(l1, gateway, folder / "hub", key_file)
    await hub.start()
    return World(chain_id, node, hub)


def _python(type_: str, value: Any) -> Any:
    if type_.startswith("uint"):
        return int(value, 16)
    if type_.startswith("bytes"):
        return bytes.fromhex(value[2:])
    return value


def _fee(receipt: dict[str, Any]) -> int:
    return int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
