"""The neighbours of the plugin host as tests need them: small, in memory, and they write down what they are asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from middleware.errors import RpcError
from middleware.methods import MethodClass, MethodTable
from middleware.questions import Decision, Question
from middleware.waist import Answer, Context, Origin, Request, result
from proxy.host.catalog import Catalog
from proxy.host.choices import Choices
from proxy.host.indexes import Indexes
from proxy.host.installed import InstalledPlugin
from proxy.host.installer import Installer
from proxy.host.plugins import Plugins
from proxy.host.ports import Ports
from proxy.host.registry import Registry
from proxy.host.state import States
from proxy.storage import Database
from proxy.wallet import paths, raw_transaction, recovery, typed_data
from proxy.wallet.keyring import Keyring
from proxy.wallet.keystore import Keystore
from tests.conftest import TEST_PHRASE

SITE = Origin.web("https://app.example")
OTHER = Origin.web("https://other.example")
PASSWORD = "correct horse"
ECHO = Path(__file__).parent / "plugins" / "echo"


@dataclass(frozen=True)
class Block:
    number: int
    hash: str
    parent: str
    timestamp: int
    logs: tuple[dict[str, Any], ...] = ()


class FakeL1:
    """A chain in memory that can grow and change its mind."""

    chain_id = 31337

    def __init__(self) -> None:
        self.chain: list[Block] = []
        self.listeners: list[asyncio.Queue[int]] = []
        self.blocks = self
        self.forks = 0
        self.failing: RpcError | None = None
        self.asked: list[str] = []
        self.grow()

    @property
    def head(self) -> Any:
        return self.chain[-1]

    def grow(self, *datas: str) -> None:
        """Add a block with one log for each of `datas`."""
        number = len(self.chain)
        block_hash = f"0x{self.forks:032x}{number:032x}"
        logs = tuple(
            {"blockNumber": hex(number), "blockHash": block_hash, "logIndex": hex(i), "data": data, "topics": []}
            for i, data in enumerate(datas)
        )
        parent = self.chain[-1].hash if self.chain else "0x" + "0" * 64
        self.chain.append(Block(number, block_hash, parent, 1_700_000_000 + number, logs))
        self._tell()

    def rewind(self, count: int) -> None:
        """Leave the last `count` blocks; what grows next is another branch."""
        self.forks += 1
        del self.chain[-count:]

    def _tell(self) -> None:
        for queue in self.listeners:
            queue.put_nowait(len(self.chain))

    async def events(self) -> AsyncIterator[int]:
        queue: asyncio.Queue[int] = asyncio.Queue()
        self.listeners.append(queue)
        while True:
            yield await queue.get()

    async def call(self, method: str, *params: Any) -> Any:
        self.asked.append(method)
        if self.failing is not None:
            raise self.failing
        if method == "eth_getBlockByNumber":
            number = int(params[0], 16)
            return None if number >= len(self.chain) else _wire(self.chain[number])
        if method == "eth_getLogs":
            return self._logs(params[0])
        raise RpcError(-32601, f"the fake has no {method}")

    def _logs(self, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
        if "blockHash" in wanted:
            found = [block for block in self.chain if block.hash == wanted["blockHash"]]
            if not found:
                raise RpcError(-32000, "unknown block")
        else:
            found = self.chain[int(wanted["fromBlock"], 16) : int(wanted["toBlock"], 16) + 1]
        return [log for block in found for log in block.logs]


def _wire(block: Block) -> dict[str, Any]:
    shown = {"number": hex(block.number), "hash": block.hash, "parentHash": block.parent}
    return shown | {"timestamp": hex(block.timestamp)}


class FakeApprovals:
    """The owner: `answer` None says yes at once, an RpcError refuses, a future is waited for."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self.answer: RpcError | asyncio.Future[None] | None = None
        self.arrived = asyncio.Event()

    async def ask(self, question: Question) -> Decision:
        self.asked.append(question)
        self.arrived.set()
        if isinstance(self.answer, RpcError):
            raise self.answer
        if self.answer is not None:
            await self.answer
        return Decision("owner", "q1", 0.0)


class FakePermissions:
    """Everybody may do everything, except what stands in `refused` (origin, plugin, action)."""

    def __init__(self) -> None:
        self.refused: set[tuple[str, str, str]] = set()
        self.connected: dict[str, frozenset[str]] = {}
        self.dropped: list[str] = []
        self.callbacks: list[Callable[[Origin], None]] = []

    def may_invoke(self, origin: Origin, plugin: str, action: str) -> bool:
        return (str(origin), plugin, action) not in self.refused

    def may_read_state(self, origin: Origin, plugin: str) -> bool:
        return True

    def plugins(self, origin: Origin) -> frozenset[str]:
        return self.connected.get(str(origin), frozenset())

    def accounts(self, origin: Origin) -> tuple[str, ...]:
        return ()

    def drop_plugin(self, plugin: str) -> None:
        self.dropped.append(plugin)

    def drop_actions(self, plugin: str, actions: Sequence[str]) -> None:
        self.dropped += [f"{plugin}.{action}" for action in actions]

    def on_revoked(self, callback: Callable[[Origin], None]) -> None:
        self.callbacks.append(callback)

    def revoke(self, origin: Origin, plugin: str, action: str) -> None:
        self.refused.add((str(origin), plugin, action))
        for callback in self.callbacks:
            callback(origin)


class FakeAudit:
    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []

    def append(self, event: Mapping[str, Any]) -> None:
        self.events.append(event)


class FakeOperations:
    """Takes what is submitted; the test says what becomes of it."""

    def __init__(self) -> None:
        self.submitted: list[tuple[str, str, dict[str, Any], Context]] = []
        self.unguarded: dict[str, str] = {}
        self.callbacks: list[Callable[[str, dict[str, Any]], None]] = []
        self.held: list[str] = []
        self.looks: list[tuple[str, str]] = []
        self.killed = False
        self.exchanges: list[str] = []

    def hold(self, plugin_id: str) -> None:
        self.held.append(plugin_id)

    def looked(self, plugin_id: str, why: str, *, killed: bool = False) -> None:
        self.looks.append((plugin_id, why))
        self.killed = killed

    def exchanged(self, plugin_id: str) -> None:
        self.exchanges.append(plugin_id)

    def used(self, _: str) -> int:
        return 0

    async def submit(self, plugin: InstalledPlugin, kind: str, params: dict[str, Any], context: Context) -> str:
        self.submitted.append((plugin.id, kind, params, context))
        return f"op{len(self.submitted)}"

    def get(
        self, plugin_id: str, operation_id: str | None = None, /, origin: Origin | None = None
    ) -> list[dict[str, Any]]:
        return [{"id": "op1", "plugin": plugin_id, "status": "done", "origin": str(origin)}]

    def on_change(self, callback: Callable[[str, dict[str, Any]], None]) -> None:
        self.callbacks.append(callback)

    def change(self, plugin_id: str, operation: dict[str, Any]) -> None:
        for callback in self.callbacks:
            callback(plugin_id, operation)


class FakeDeposits:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    async def of(self, plugin: InstalledPlugin) -> list[dict[str, Any]]:
        return self.rows


class WalletCrypto:
    """The wallet's digests, as `app` hands them over."""

    def parse_typed(self, value: Any) -> Any:
        return typed_data.parse(value)

    def hash_message(self, data: bytes) -> bytes:
        return recovery.hash_message(data)

    def recover(self, digest: bytes, signature: str) -> str:
        return recovery.recover(digest, signature)

    def read_raw(self, raw: bytes, where: str) -> Any:
        return raw_transaction.read_raw(raw, where)

    def typed_warnings(self, typed: Any, chain_id: int) -> tuple[str, ...]:
        return () if typed.chain_id == chain_id else ("typed_data_chain: another chain",)

    def message_warnings(self, data: bytes, origin: Origin, account: str, chain_id: int) -> tuple[str, ...]:
        return ("sign_in: a sign-in",) if b"sign in" in data else ()


@dataclass
class Home:
    """A data directory with a plugin host on it, and all its neighbours."""

    folder: Path
    keyring: Keyring
    l1: FakeL1 = field(default_factory=FakeL1)
    approvals: FakeApprovals = field(default_factory=FakeApprovals)
    permissions: FakePermissions = field(default_factory=FakePermissions)
    audit: FakeAudit = field(default_factory=FakeAudit)
    operations: FakeOperations = field(default_factory=FakeOperations)
    deposits: FakeDeposits = field(default_factory=FakeDeposits)
    notices: list[str] = field(default_factory=list)
    dispatched: list[tuple[Request, Context]] = field(default_factory=list)
    limits: dict[str, Any] = field(default_factory=dict)
    money_inside: set[str] = field(default_factory=set)
    index: str = "http://127.0.0.1:1"  # of packages; nothing answers there
    cache: Path | None = None  # of the bundler
    back_off: tuple[float, ...] = (0.01,)
    clock: Callable[[], float] | None = None
    imported: bool = False
    plugins: Plugins = field(init=False)
    _databases: list[Database] = field(default_factory=list)

    def open(self) -> Plugins:
        """Put the host together; `await plugins.start()` begins it."""
        from proxy.config import LimitSettings

        owner, chain = Database(self.folder / "owner.db"), Database(self.folder / "chain.db")
        self._databases = [owner, chain]
        registry = Registry(owner.space("plugins"), self.folder / "plugins")
        table = MethodTable()

        def allowed(method: str) -> bool:
            return table.classify(method) is MethodClass.PASS

        installer = Installer(
            registry,
            paths,
            self.audit,
            accounts=self.keyring.addresses,
            chain_id=lambda: self.l1.chain_id,
            layer1_allowed=allowed,
            check_gateway=None,
            indexes=Indexes(self.index, self.index, self.cache),
        )
        states = States(chain.space("state"))
        catalog = Catalog(
            registry,
            installer,
            states,
            self.permissions,
            self.audit,
            self.folder / "logs",
            lambda: self.l1.chain_id,
            lambda plugin_id: plugin_id in self.money_inside,
        )
        ports = Ports(
            signer=self.keyring,
            crypto=WalletCrypto(),
            paths=paths,
            approvals=self.approvals,
            permissions=self.permissions,
            audit=self.audit,
            l1=self.l1,
            dispatch=self.dispatch,
            operations=self.operations,
            deposits=self.deposits,
            layer1_allowed=allowed,
            notice=self.notices.append,
            limits=LimitSettings(**self.limits),
            counters=self.folder.parent / "counters",
            phrase_imported=lambda: self.imported,
        )
        timing: dict[str, Any] = {} if self.clock is None else {"clock": self.clock}
        self.plugins = Plugins(catalog, ports, back_off=self.back_off, **timing)
        return self.plugins

    async def dispatch(self, request: Request, context: Context) -> Answer:
        self.dispatched.append((request, context))
        return result("0x2a")

    async def close(self) -> None:
        await self.plugins.close()
        for database in self._databases:
            database.close()

    async def add(self, source: Path, *grants: str, **choices: Any) -> InstalledPlugin:
        """Install and host a plugin; without `grants` all that "all" means."""
        catalog = self.plugins.catalog
        inspected = await catalog.installer.inspect(str(source))
        await catalog.installer.install(inspected, Choices(grants=grants or ("all",), **choices))
        await self.plugins.rehost(inspected.manifest.id)
        plugin = self.plugins.get(inspected.manifest.id)
        assert plugin is not None
        return plugin

    async def running(self, plugin: str) -> None:
        """Wait until a plugin answers: for tests whose calls may not wait for its start."""
        async with asyncio.timeout(60):
            await self.plugins._hosted[plugin].life.channel()

    async def invoke(self, plugin: str, action: str, params: Any = None, origin: Origin = SITE) -> Any:
        """Invoke as the links would."""
        checked = self.plugins.check_params(plugin, action, params)
        return await self.plugins.invoke(plugin, action, checked, origin, None, Context(origin))

    async def invoke_unchecked(self, plugin: str, action: str) -> Any:
        """Invoke an action as if its params had been checked."""
        return await self.plugins.invoke(plugin, action, {}, SITE, None, Context(SITE))

    async def ask(self, method: str, params: Any = None, plugin: str = "echo") -> Any:
        """Have a plugin make a host call; return the answer, or the error object under "error"."""
        text = msgspec.json.encode({} if params is None else params).decode()
        answer = await self.invoke(plugin, "ask", [method, text])
        return msgspec.json.decode(answer["answer"])

    async def heard(self, count: int, plugin: str = "echo") -> list[Any]:
        """Return what was delivered, once there are `count` deliveries."""
        async with asyncio.timeout(60):
            while len(rows := await self.ask("heard", plugin=plugin)) < count:  # noqa: ASYNC110 - another process is polled
                await asyncio.sleep(0.02)
        return list(rows)


def new_keyring(folder: Path) -> Keyring:
    """Return an unlocked keyring of the test phrase."""
    keystore = Keystore(folder / "keystore.json", scrypt_n=16)
    keystore.create(TEST_PHRASE, PASSWORD)
    keyring = Keyring(keystore)
    keyring.unlock(PASSWORD)
    return keyring


def package(folder: Path, plugin_id: str, code: str, manifest: str = "") -> Path:
    """Write a plugin of one module `code.py` with class `Main`; `manifest` is more TOML."""
    folder = folder / plugin_id
    folder.mkdir(parents=True)
    head = f'id = "{plugin_id}"\nname = "Test"\nversion = "1"\nruntime = "python"\nentry = "code_of:Main"\n'
    (folder / "plugin.toml").write_text(head + manifest)
    (folder / "code_of.py").write_text(code)
    return folder
