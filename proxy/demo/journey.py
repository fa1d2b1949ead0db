"""The journey: connect → deposit → 100 payments → pushed state → withdraw → close, with every wei checked.

Alice pays Bob through the hub. Each has a daemon; a shop (a program with a token) acts for Alice, a page watches. Each
step leaves everything it did on disk somewhere, so that the daemons may be killed between any two of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp

from proxy.demo.client import Client, HttpClient, WsClient
from proxy.demo.funding import fund_account, needed
from proxy.demo.party import Party, command
from proxy.demo.processes import Process
from proxy.demo.wei import Audit, Balance, WrongWei, balance, ether
from proxy.upstream.embedded.launch import EmbeddedNode, ensure
from proxy.upstream.l1 import L1
from proxy.wallet.addresses import address_of

PAYMENTS = 100
PAYMENT = 10**15  # wei: 0.001 ETH
DEPOSIT = 10**18
BOBS_MONEY = 2 * 10**17  # for his gas
HUBS_MONEY = 5 * 10**17  # for its gas and collateral
COLLATERAL = 2 * 10**17
DISPUTES_MONEY = 4 * 10**16  # to each PayChan's own key: gas to answer disputes while nobody is there
WATCHER = "https://watch.example"  # a page; the shop is a program with a token

OpenClient: TypeAlias = Callable[[str], AbstractAsyncContextManager[Client]]


@contextlib.asynccontextmanager
async def http_client(url: str) -> AsyncIterator[Client]:
    """Open the demo's own client; the tests hand in web3.py, ethers and viem instead."""
    async with aiohttp.ClientSession() as session:
        yield HttpClient(session, url)


@dataclass
class Journey:
    """The whole journey and what it has learned so far. `l1`: a node of the user's, None for the embedded one."""

    folder: Path
    phrase: Path
    l1: str | None = None
    open_client: OpenClient = http_client
    payments: int = PAYMENTS
    alice: Party = field(init=False)
    bob: Party = field(init=False)
    balances: list[Balance] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.alice = Party("Alice", self.folder / "alice")
        self.bob = Party("Bob", self.folder / "bob")
        self._node: EmbeddedNode | None = None
        self._hub: Process | None = None
        self._hub_key = self.folder / "hub.key"
        self._hub_address = ""
        self._gateway = ""
        self._chain_id = 0
        self._first_block = 0
        self._before: dict[str, int] = {}
        self._own_keys: dict[str, str] = {}  # by party: the address its PayChan answers disputes from

    @property
    def steps(self) -> tuple[tuple[str, Callable[[], Awaitable[str]]], ...]:
        """Name and function of every step, in order; each returns what happened in one line."""
        return (
            ("keys", self.make_keys),
            ("L1", self.start_l1),
            ("daemons", self.start_daemons),
            ("funds", self.hand_out_funds),
            ("contract", self.deploy_contract),
            ("hub", self.start_hub),
            ("install", self.install_plugin),
            ("connect", self.connect),
            ("deposit", self.deposit),
            ("payments", self.pay),
            ("withdraw", self.withdraw),
            ("close", self.close_channels),
            ("balances", self.check_balances),
        )

    @property
    def parties(self) -> tuple[Party, Party]:
        return self.alice, self.bob

    async def make_keys(self) -> str:
        await asyncio.gather(self.alice.init(self.phrase), self.bob.init(None))
        key = secrets.token_bytes(32)
        self._hub_key.touch(mode=0o600)
        self._hub_key.write_text(key.hex())
        self._hub_address = address_of(key)
        return f"Alice is {self.alice.address} (account 0 of the phrase), Bob {self.bob.address}"

    async def start_l1(self) -> str:
        if self.l1 is None:
            self._node = await ensure(self.folder / "l1", {self.alice.address: 1000 * 10**18})
            source, dev = str(self._node.socket), True
            what = f"embedded, pid {self._node.pid}"
        else:
            identity = await L1.probe([self.l1])
            source, dev = self.l1, identity.is_dev
            what = f"{identity.client_version or 'a node'}, chain {identity.chain_id}"
        for party in self.parties:
            party.on(source, dev)
        return what

    async def start_daemons(self) -> str:
        await asyncio.gather(*(party.start() for party in self.parties))
        async with http_client(self.alice.dapp) as client:
            self._chain_id = int(await client.request("eth_chainId", []), 16)
        return f"Alice's at {self.alice.dapp}, Bob's at {self.bob.dapp}, chain {self._chain_id}"

    async def hand_out_funds(self) -> str:
        """Give Bob and the hub money from account 0, through the proxy, with the owner's approval."""
        async with http_client(self.alice.dapp) as node:
            await fund_account(node, self.l1, self.alice.address, needed())
            for address in (self.alice.address, self.bob.address, self._hub_address):
                self._before[address] = await balance(node, address)
            self._first_block = await self._next_block()
        await self._send((self.bob.address, BOBS_MONEY), (self._hub_address, HUBS_MONEY))
        return f"account 0 sent {ether(BOBS_MONEY)} to Bob and {ether(HUBS_MONEY)} to the hub, each approved"

    async def deploy_contract(self) -> str:
        deployed = await Process.start("the deployment", [*self._hub_command, "--deploy"], self.folder / "deploy.log")
        await deployed.stop()
        self._gateway = deployed.ready["gateway"]
        return f"PayChan at {self._gateway}"

    async def start_hub(self) -> str:
        options = ["--gateway", self._gateway, "--data", str(self.folder / "hub"), "--port", "0"]
        options += ["--since", str(self._first_block), "--collateral", str(COLLATERAL)]
        self._hub = await Process.start("the hub", [*self._hub_command, *options], self.folder / "hub.log")
        return f"listens at {self._hub.ready['url']}, a process of its own"

    @property
    def _hub_command(self) -> list[str | Path]:
        # The hub speaks HTTP and IPC; to a WebSocket node it goes through Alice's proxy, as any program may.
        l1 = self._node.socket if self._node else self.l1
        if str(l1).startswith("ws"):
            l1 = self.alice.dapp
        options: list[str | Path] = ["--l1", str(l1), "--key-file", self._hub_key, "--json"]
        return [sys.executable, "-m", "plugins.paychan.hub", *options]

    async def install_plugin(self) -> str:
        source = Path(__file__).parents[2] / "plugins" / "paychan"
        hub = self._hub.ready["url"] if self._hub else ""
        for party in self.parties:
            await command(
                *("plugin", "add", source, "--data", party.data, "--owner", party.address, "--hub", hub),
                *("--gateway", f"{self._chain_id}={self._gateway}", "--grant", "all"),
            )
            info = await command("plugin", "info", "paychan", "--data", party.data)
            self._own_keys[party.name] = info["ownKey"]
        await self._send(*((address, DISPUTES_MONEY) for address in self._own_keys.values()))
        return (
            "paychan, with `l2proxy plugin add … --grant all`, for Alice and for Bob;"
            f" account 0 sent {ether(DISPUTES_MONEY)} to each one's own key, for disputes"
        )

    async def connect(self) -> str:
        """Connect two origins of Alice: the shop by token, with a budget; the page, which may only watch. And Bob's till."""
        allowance = 2 * DEPOSIT
        budget = {"asset": "ETH", "amount": hex(allowance), "period": 86400}
        actions = {"actions": ["*"], "budget": budget}
        wanted = [{"l2_invoke": {"plugins": {"paychan": actions}}, "l2_getState": {"plugins": ["paychan"]}}]
        for party in self.parties:
            token = await command("token", "new", "shop", "--accounts", "1", "--data", party.data)
            party.token_url = token["url"]
            async with party.approving("permissions"), self.open_client(party.token_url) as shop:
                await shop.request("wallet_requestPermissions", wanted)
        async with self.alice.approving("permissions"), aiohttp.ClientSession() as session:
            page = HttpClient(session, self.alice.dapp, WATCHER)
            await page.request("wallet_requestPermissions", [{"l2_getState": {"plugins": ["paychan"]}}])
        return f"token:shop may spend {ether(allowance)} a day, {WATCHER} may watch"

    async def deposit(self) -> str:
        for party, value in ((self.alice, DEPOSIT), (self.bob, 0)):
            await self._operation(party, "deposit", {"value": str(value)}, "deposit")
            await self._until(party, lambda state: state.get("status") == "open", "its channel is open")
        locked = await self._locked(self.alice)
        if locked != DEPOSIT:
            raise WrongWei(f"{ether(DEPOSIT)} were deposited, and {ether(locked)} count as locked")
        return f"Alice locked {ether(DEPOSIT)} in the contract, Bob opened a channel to receive"

    async def pay(self) -> str:
        """Pay, each payment under an idempotency key, while the page sees the state change."""
        async with aiohttp.ClientSession() as session, WsClient(session, self.alice.ws, WATCHER) as page:
            await page.request("eth_subscribe", ["l2_state", {"plugin": "paychan"}])
            async with self.open_client(self.alice.token_url) as shop:
                for number in range(self.payments):
                    params = {"toAddress": self.bob.address, "value": str(PAYMENT)}
                    key = {"idempotencyKey": f"order-{number}"}
                    await shop.request("l2_invoke", ["paychan", "makePayment", params, key])
            pushes = await self._pushed(page, lambda state: self._wei(state, "sent") == self.payments * PAYMENT)
        await self._until(
            self.bob, lambda state: self._wei(state, "received") == self.payments * PAYMENT, "all payments have arrived"
        )
        return f"{self.payments} payments of {ether(PAYMENT)}; the page saw {pushes} pushed states, Bob has them all"

    async def withdraw(self) -> str:
        """Bob takes what Alice paid him out to his main account, while his channel stays open."""
        paid = self.payments * PAYMENT
        before, first = await self._balance_of(self.bob), await self._next_block()
        params = {"fromAddress": self.alice.address, "latestMessage": ""}
        await self._operation(self.bob, "requestWithdrawPayment", params, "invoke", "withdraw")
        async with http_client(self.bob.dapp) as node:
            audit = await Audit.of_blocks(node, first, await self._next_block() - 1)
        gained = await self._balance_of(self.bob) - before + audit.flows[self.bob.address.lower()].gas
        if gained != paid:
            raise WrongWei(f"Bob was paid {paid} wei and took out {gained}")
        return f"Bob took the {ether(paid)} out that Alice had paid him"

    async def close_channels(self) -> str:
        for party in self.parties:
            await self._operation(party, "close", {}, "invoke", "withdraw")
            await self._until(party, lambda state: state.get("status") == "closed", "its channel is closed")
        return "both channels closed together with the hub, paid out on L1"

    async def check_balances(self) -> str:
        """Compare every balance on L1 with what the blocks say it must be."""
        paid = self.payments * PAYMENT
        changes = {
            self.alice.address: ("Alice", -BOBS_MONEY - HUBS_MONEY - 2 * DISPUTES_MONEY - paid),
            self.bob.address: ("Bob", BOBS_MONEY + paid),
            self._hub_address: ("Hub", HUBS_MONEY),
        }
        async with http_client(self.alice.dapp) as node:
            audit = await Audit.of_blocks(node, self._first_block, await self._next_block() - 1)
            for address, (name, change) in changes.items():
                before, gas = self._before[address], audit.flows[address.lower()].gas
                has = await balance(node, address)
                self.balances.append(Balance(name, address, before, gas, before + change - gas, has))
            self.balances.append(Balance("Contract", self._gateway, 0, 0, 0, await balance(node, self._gateway)))
            kept = [
                Balance(f"{name}'s own key", address, 0, 0, DISPUTES_MONEY, await balance(node, address))
                for name, address in self._own_keys.items()
            ]
        if audit.failed:
            raise WrongWei(f"these transactions failed on L1: {', '.join(audit.failed)}")
        for line in (*self.balances, *kept):
            line.check()
        return f"{len(self.balances) + len(kept)} balances on L1 are right to the wei"

    async def reopen(self) -> None:
        """Open both channels once more, so that there is something to try after the demo."""
        for party, value in ((self.alice, self.payments * PAYMENT), (self.bob, 0)):
            await self._operation(party, "deposit", {"value": str(value)}, "deposit")
            await self._until(party, lambda state: state.get("status") == "open", "its channel is open")

    async def restart_daemons(self) -> None:
        """Kill both daemons and start them again: what a power cut between two steps does."""
        await asyncio.gather(*(party.kill() for party in self.parties))
        await asyncio.gather(*(party.start() for party in self.parties))

    async def end(self) -> None:
        """End every process of the journey."""
        await asyncio.gather(*(party.stop() for party in self.parties))
        if self._hub is not None:
            await self._hub.stop()
        if self._node is not None:
            await self._node.stop()

    # -- what the steps share

    async def _send(self, *payments: tuple[str, int]) -> None:
        """Send money from account 0, through the proxy, by a token that holds for this alone, each with the owner's approval."""
        token = await command("token", "new", "funder", "--accounts", "1", "--data", self.alice.data)
        async with (
            http_client(self.alice.dapp) as node,
            http_client(token["url"]) as funder,
            self.alice.approving("transaction"),
        ):
            for to, value in payments:
                transaction = {"from": self.alice.address, "to": to, "value": hex(value)}
                await self._mined(node, await funder.request("eth_sendTransaction", [transaction]))
        await command("token", "revoke", "funder", "--data", self.alice.data)

    async def _operation(self, party: Party, action: str, params: dict[str, Any], *kinds: str) -> None:
        """Invoke an action that answers `{operation}`, approve what is asked, and wait until the operation is done."""
        async with (
            aiohttp.ClientSession() as session,
            WsClient(session, party.token_url.replace("http", "ws", 1)) as pushed,
            self.open_client(party.token_url) as shop,
            party.approving(*kinds),
        ):
            await pushed.request("eth_subscribe", ["l2_operations", {"plugin": "paychan"}])
            answer = await shop.request("l2_invoke", ["paychan", action, params])
            known = await shop.request("l2_getOperations", ["paychan", answer["operation"]])
            while not known or known[0]["status"] not in ("done", "failed", "rejected"):
                operation = await _soon(pushed.pushed.get(), f"{party.name}'s {action} is done", party)
                known = [operation] if operation["id"] == answer["operation"] else known
            if known[0]["status"] != "done":
                raise RuntimeError(f"{party.name}'s {action} ended as {known[0]['status']}: {known[0].get('error')}")

    async def _until(self, party: Party, holds: Callable[[dict[str, Any]], bool], what: str) -> None:
        async with (
            aiohttp.ClientSession() as session,
            WsClient(session, party.token_url.replace("http", "ws", 1)) as page,
        ):
            await page.request("eth_subscribe", ["l2_state", {"plugin": "paychan"}])
            await self._pushed(page, holds, what, party)

    async def _pushed(
        self,
        page: WsClient,
        holds: Callable[[dict[str, Any]], bool],
        what: str = "the payments",
        party: Party | None = None,
    ) -> int:
        count = 0
        state: dict[str, Any] = {}
        while not holds(state):
            state = (await _soon(page.pushed.get(), what, party or self.alice))["state"] or {}
            count += 1
        return count

    @staticmethod
    def _wei(state: dict[str, Any], name: str) -> int:
        return int(str(state.get(name, "0")), 0)

    async def _locked(self, party: Party) -> int:
        async with self.open_client(party.token_url) as shop:
            deposits = await shop.request("l2_getDeposits", ["paychan"])
        return sum(int(entry["locked"], 16) for entry in deposits if entry["source"] == "events")

    async def _next_block(self) -> int:
        async with http_client(self.alice.dapp) as node:
            return int(await node.request("eth_blockNumber", []), 16) + 1

    async def _balance_of(self, party: Party) -> int:
        async with http_client(self.alice.dapp) as node:
            return await balance(node, party.address)

    async def _mined(self, node: Client, transaction: str) -> None:
        async with asyncio.timeout(300):
            while await node.request("eth_getTransactionReceipt", [transaction]) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # the node is outside; it may take a block time


async def _soon(waiting: Awaitable[Any], what: str, party: Party) -> Any:
    try:
        async with asyncio.timeout(600 if party.daemon is None else 120):
            return await waiting
    except TimeoutError as error:
        raise RuntimeError(f"{party.name} waited two minutes until {what}; see {party.folder}/daemon.log") from error
