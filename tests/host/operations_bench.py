"""A bench for operations: real transactions, ledger and records over a real database, a chain and an owner in memory.

`rebuild` throws every object away and builds them again over the same database: what a restart does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from middleware.errors import Refused, RpcError
from middleware.questions import Decision, Question, Withdrawn
from middleware.waist import Context, Origin
from proxy.host.deposits import Deposits
from proxy.host.gateway_events import GatewayEvents
from proxy.host.gateways import Gateways
from proxy.host.installed import Gateway, InstalledPlugin
from proxy.host.manifest import EventMap, Manifest, Permissions
from proxy.host.operation_book import Book
from proxy.host.operations import Operations
from proxy.storage import Database
from proxy.wallet.keyring import Keyring
from proxy.wallet.ledger import Ledger
from proxy.wallet.own_keys import OwnKeys
from proxy.wallet.transactions import Transactions
from tests.host.neighbours import new_keyring
from tests.wallet.conftest import OWNER
from tests.wallet.fake_chain import FakeChain

if TYPE_CHECKING:
    from proxy.upstream.l1 import L1

GATEWAY = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
TOKEN = "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512"
PLUGIN = "paychan"
ETHER = 10**18

ABI: list[dict[str, Any]] = [
    {
        "type": "function",
        "name": "open",
        "inputs": [{"name": "signer", "type": "address"}],
        "outputs": [],
        "stateMutability": "payable",
    },
    {
        "type": "function",
        "name": "openToken",
        "inputs": [{"name": "amount", "type": "uint256"}],
        "outputs": [],
        "stateMutability": "nonpayable",
    },
    {
        "type": "function",
        "name": "close",
        "inputs": [{"name": "channel", "type": "bytes32"}],
        "outputs": [],
        "stateMutability": "payable",
    },
    {
        "type": "function",
        "name": "answer",
        "inputs": [{"name": "channel", "type": "bytes32"}],
        "outputs": [],
        "stateMutability": "nonpayable",
    },
    {
        "type": "event",
        "name": "Closing",
        "inputs": [
            {"name": "channel", "type": "bytes32", "indexed": True},
            {"name": "note", "type": "string", "indexed": False},
        ],
    },
    {
        "type": "event",
        "name": "Deposited",
        "inputs": [
            {"name": "user", "type": "address", "indexed": True},
            {"name": "amount", "type": "uint256", "indexed": False},
        ],
    },
    {
        "type": "event",
        "name": "Released",
        "inputs": [
            {"name": "user", "type": "address", "indexed": True},
            {"name": "amount", "type": "uint256", "indexed": False},
        ],
    },
]


def plugin(**changes: Any) -> InstalledPlugin:
    """An installed paychan with one gateway."""
    gateway = Gateway(
        name="main",
        chain=31337,
        address=GATEWAY,
        since=0,
        abi=ABI,
        deposit=("open(address)", "openToken(uint256)"),
        withdraw=("close(bytes32)",),
        dispute=("answer(bytes32)",),
        max_value=10,
        locked=EventMap(event="Deposited", owner="user", amount="amount"),
        released=EventMap(event="Released", owner="user", amount="amount"),
    )
    fields: dict[str, Any] = {
        "id": PLUGIN,
        "version": "1",
        "digest": "sha256:1",
        "source": "dir",
        "manifest": Manifest(
            id=PLUGIN,
            name="P",
            version="1",
            runtime="python",
            entry="a:B",
            permissions=Permissions(watch_while_locked=True),
        ),
        "owner": OWNER,
        "hub_url": None,
        "gateways": (gateway,),
        "grants": frozenset({"gateway", "keys"}),
        "path": (7002, 0, 0),
        "folder": Path("/nowhere"),
        "enabled": True,
    }
    return InstalledPlugin(**(fields | changes))


def token_plugin() -> InstalledPlugin:
    """The same without events: those of its gateway name no asset, and a gateway that takes tokens must (hardening.md 26)."""
    return plugin(gateways=(replace(plugin().gateways[0], locked=None, released=None),))


class Owner:
    """Answers questions as a test says: "yes", "no", or "wait" for `answer`."""

    def __init__(self, mood: str = "yes") -> None:
        self.mood = mood
        self.asked: list[Question] = []
        self.error: RpcError | None = None
        self._waiting: list[tuple[Question, asyncio.Future[Decision]]] = []
        self._arrived = asyncio.Event()

    async def ask(self, question: Question) -> Decision:
        self.asked.append(question)
        self._arrived.set()
        if self.error is not None:
            raise self.error
        if self.mood == "wait":
            future: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
            self._waiting.append((question, future))
            try:
                return await future
            finally:  # a question that was taken back cannot be answered
                self._waiting = [waiting for waiting in self._waiting if waiting[1] is not future]
        if self.mood == "no":
            raise Refused("the owner said no")
        return self._yes(question)

    async def question(self) -> Question:
        """Wait for the newest question."""
        async with asyncio.timeout(60):
            while not self.asked:
                self._arrived.clear()
                await self._arrived.wait()
        return self.asked[-1]

    def approve(self) -> None:
        """Say yes to what waits."""
        for question, future in self._waiting:
            future.set_result(self._yes(question))
        self._waiting.clear()

    def withdraw(self) -> None:
        """Take back what waits: the daemon stops."""
        for _, future in self._waiting:
            future.set_exception(Withdrawn("the daemon stops"))
        self._waiting.clear()

    @staticmethod
    def _yes(question: Question) -> Decision:
        if question.still_allowed is not None:
            question.still_allowed()
        if question.apply is not None:
            question.apply(None)
        if question.still_allowed is not None:
            question.still_allowed()
        return Decision("owner", "q1", 1.0)


class Bench:
    """Everything around operations; `plugin` is what is installed now."""

    def __init__(self, path: Path, chain: FakeChain | L1, keyring: Keyring, owner: Owner) -> None:
        self.path, self.keyring, self.owner = path, keyring, owner
        self.chain: Any = chain  # the fake one, or L1 with a real node behind it
        self.plugin: InstalledPlugin | None = plugin()
        self.now = 1_000.0
        self.confirmations = 3
        self.writes = 0  # for tests that count
        self.told: list[dict[str, Any]] = []
        self.audited: list[Mapping[str, Any]] = []
        self.wrap: Callable[[Database], None] = lambda _: None
        self.give_room: Callable[[], bool] = lambda: False
        self._news = asyncio.Event()
        self._build()

    def _build(self) -> None:
        self.database = Database(self.path)
        self.wrap(self.database)
        self.ledger = Ledger(self.database.space("nonces"))
        self.transactions = Transactions(self.chain, self.keyring, self.ledger, clock=lambda: self.now)
        own = OwnKeys(self.keyring)
        self.own_ledger = Ledger(self.database.space("own nonces"))
        self.gateways = Gateways(self.chain, self.database.space("gateways"))
        self.operations = Operations(
            self.database.space("operations"),
            self.transactions,
            self.chain,
            self.owner,
            self.keyring,
            self.gateways,
            lambda wanted: self.plugin if self.plugin is not None and self.plugin.id == wanted else None,
            confirmations=self.confirmations,
            clock=lambda: self.now,
            own=own,
            own_transactions=Transactions(self.chain, own, self.own_ledger, clock=lambda: self.now),
            audit=self,
            give_room=lambda: self.give_room(),  # noqa: PLW0108 - set later
            book=Book(self.database.space("operations book"), self.path.parent / "counters"),
        )
        self.operations.on_change(self._changed)
        events = GatewayEvents(self.chain, lambda: 1 if self.chain.is_dev else self.confirmations)
        self.deposits = Deposits(events, self.operations.records_of)

    def append(self, event: Mapping[str, Any]) -> None:
        """Be the audit log."""
        self.audited.append(event)

    def _changed(self, plugin_id: str, operation: dict[str, Any]) -> None:
        assert plugin_id == PLUGIN
        self.told.append(operation)
        self._news.set()

    async def rebuild(self, *, hold: bool = False, meanwhile: Callable[[], None] = lambda: None) -> None:
        """End as a crash would, and start again; `meanwhile` is done to the folder."""
        await self.operations.close()
        self.database.close()
        meanwhile()
        self.wrap = lambda _: None
        if isinstance(self.chain, FakeChain):
            self.chain.before = self.chain.after = lambda _: None
        self._build()
        await self.operations.start(hold=hold)

    async def submit(self, kind: str = "deposit", serving: Origin | None = None, **params: Any) -> str:
        """Ask as the plugin would; a deposit of 2 ETH unless the test says otherwise."""
        assert self.plugin is not None
        given = {"function": "open(address)", "args": [OWNER], "value": hex(2 * ETHER)} if kind == "deposit" else {}
        context = Context(Origin.plugin(PLUGIN), serving=serving)
        return await self.operations.submit(self.plugin, kind, given | params, context)

    @staticmethod
    async def settled(condition: Callable[[], bool]) -> None:
        """Let everything that can run do so until the condition holds."""
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
                await asyncio.sleep(0)

    async def until(self, status: str, operation_id: str | None = None) -> dict[str, Any]:
        """Wait until the newest operation (or that one) has the status of itself or its newest step."""
        async with asyncio.timeout(60):
            while True:
                self._news.clear()
                found = self.operations.get(PLUGIN, operation_id)
                if found and status in (found[-1]["status"], *(step["status"] for step in found[-1]["steps"])):
                    return found[-1]
                await self._news.wait()


@contextlib.asynccontextmanager
async def running_bench(folder: Path) -> AsyncIterator[Bench]:
    """A running bench on a fake chain that mines at once; the owner has 100 ETH, the gateway has code."""
    chain = FakeChain()
    chain.balances[OWNER] = 100 * ETHER
    chain.codes[GATEWAY] = "0x6001"
    keyring = new_keyring(folder)
    bench = Bench(folder / "chain.db", chain, keyring, Owner())
    await bench.operations.start()
    yield bench
    await bench.operations.close()
    bench.database.close()
