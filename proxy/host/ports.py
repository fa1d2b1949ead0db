"""What the plugin host needs of its neighbours, as small Protocols; `app` hands the parts over (architecture.md).

The host imports none of them: keys lie in the wallet, questions and permissions in the authority, blocks in the upstream,
money on L1 in the operations.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Protocol

from middleware.questions import Decision, Question
from middleware.waist import Answer, Context, Origin, Request
from proxy.config import LimitSettings
from proxy.host.installed import Gateway, InstalledPlugin

Path = tuple[int, ...]


class PluginKey(Protocol):
    """A plugin's own account."""

    @property
    def address(self) -> str:
        """Checksummed."""

    @property
    def public_key(self) -> str:
        """65 bytes as 0x data."""


class Signer(Protocol):
    """The wallet's keyring. Plugin methods raise Unauthorized while locked unless the subtree was opened before."""

    @property
    def locked(self) -> bool:
        """Whether the main accounts cannot sign."""

    def addresses(self) -> list[str]:
        """Return the main accounts."""

    def open_plugin(self, path: Path) -> None:
        """Keep a subtree at hand for while it is locked."""

    def close_plugin(self, path: Path) -> None:
        """Forget a subtree."""

    def plugin_account(self, path: Path) -> PluginKey:
        """Return the account at an absolute path."""

    def plugin_private_key(self, path: Path) -> str:
        """Return the private key as 0x data."""

    def plugin_store_secret(self, path: Path) -> bytes:
        """Return the 32 bytes a plugin's store is sealed under."""

    def sign_plugin_message(self, path: Path, data: bytes) -> str:
        """Return an EIP-191 signature."""

    def sign_plugin_typed_data(self, path: Path, typed: Any) -> str:
        """Return an EIP-712 signature over typed data the wallet has checked."""

    def sign_digest(self, address: str, digest: bytes) -> str:
        """Return a main account's signature of a digest a question was bound to."""

    def on_lock(self, callback: Callable[[], None]) -> None:
        """Call back after each lock."""

    def on_unlock(self, callback: Callable[[], None]) -> None:
        """Call back after each unlock."""


class TypedData(Protocol):
    """Typed data the wallet has checked."""

    @property
    def primary(self) -> str:
        """The primary type."""

    @property
    def digest(self) -> bytes:
        """What gets signed."""

    @property
    def chain_id(self) -> int | None:
        """The domain's."""

    @property
    def verifying_contract(self) -> str | None:
        """The domain's, checksummed."""

    def shown(self) -> dict[str, Any]:
        """Return what is hashed, as JSON."""


class Paths(Protocol):
    """The wallet's parser of derivation paths (hardening.md 27); both raise ValueError with a sentence."""

    def parse_plugin_path(self, text: str) -> Path:
        """Return a path a plugin may be bound to."""

    def parse_relative(self, text: str) -> Path:
        """Return a path below it."""


class RawTransaction(Protocol):
    """What a signed transaction says."""

    @property
    def sender(self) -> str:
        """Who signed it, checksummed."""

    @property
    def chain_id(self) -> int | None:
        """For which chain; None: for any."""

    @property
    def to(self) -> str | None:
        """To whom; None: it creates a contract."""

    @property
    def value(self) -> int:
        """Wei it carries."""

    @property
    def hash(self) -> str:
        """Its hash."""


class Crypto(Protocol):
    """Digests and signatures that need no key. All raise InvalidParams."""

    def read_raw(self, raw: bytes, where: str) -> RawTransaction:
        """Return what a signed transaction says."""

    def parse_typed(self, value: Any) -> TypedData:
        """Return checked typed data."""

    def hash_message(self, data: bytes) -> bytes:
        """Return the EIP-191 digest."""

    def recover(self, digest: bytes, signature: str) -> str:
        """Return the checksummed address that signed; low s and 65 bytes only."""

    def typed_warnings(self, typed: TypedData, chain_id: int) -> tuple[str, ...]:
        """Return what speaks against signing typed data, each "code: sentence"."""

    def message_warnings(self, data: bytes, origin: Origin, account: str, chain_id: int) -> tuple[str, ...]:
        """Return what speaks against signing a message for `origin`."""


class Approvals(Protocol):
    """Questions to the owner."""

    async def ask(self, question: Question) -> Decision:
        """Return the yes; raise the refusal."""


class Permissions(Protocol):
    """What origins may."""

    def may_invoke(self, origin: Origin, plugin: str, action: str) -> bool:
        """Tell whether it may now."""

    def may_read_state(self, origin: Origin, plugin: str) -> bool:
        """Tell whether it may now."""

    def plugins(self, origin: Origin) -> frozenset[str]:
        """Return the plugins it is connected to."""

    def accounts(self, origin: Origin) -> tuple[str, ...]:
        """Return the accounts it sees."""

    def drop_plugin(self, plugin: str) -> None:
        """Take from everybody what they hold for a removed plugin."""

    def on_revoked(self, callback: Callable[[Origin], None]) -> None:
        """Call back after something was taken."""


class Audit(Protocol):
    """The audit log."""

    def append(self, event: Mapping[str, Any]) -> None:
        """Write, synced, or raise."""


class Head(Protocol):
    """The newest block."""

    @property
    def number(self) -> int:
        """Its number."""

    @property
    def hash(self) -> str:
        """Its hash."""

    @property
    def timestamp(self) -> int:
        """Unix seconds."""


class Blocks(Protocol):
    """The block tracker."""

    @property
    def head(self) -> Head | None:
        """The newest block known."""

    def events(self) -> AsyncIterator[Any]:
        """Yield whenever the head changes."""


class L1(Protocol):
    """The pinned node."""

    @property
    def chain_id(self) -> int:
        """The chain."""

    @property
    def blocks(self) -> Blocks:
        """Its blocks."""

    async def call(self, method: str, *params: Any) -> Any:
        """Return the decoded result; raise the node's error, or Disconnected."""


class Operations(Protocol):
    """Deposits, withdrawals and the like."""

    @property
    def unguarded(self) -> Mapping[str, str]:
        """Why nobody could answer a dispute, by plugin (hardening.md 22)."""

    async def submit(self, plugin: InstalledPlugin, kind: str, params: dict[str, Any], context: Context) -> str:
        """Return the id of a stored operation; raise on a bad request before anything is stored."""

    def get(
        self, plugin_id: str, operation_id: str | None = None, /, origin: Origin | None = None
    ) -> list[dict[str, Any]]:
        """Return operations; with `origin`, without those another origin caused."""

    def on_change(self, callback: Callable[[str, dict[str, Any]], None]) -> None:
        """Call back with (plugin id, operation) after each step."""

    def hold(self, plugin_id: str) -> None:
        """Sign nothing of a plugin until its store was looked at."""

    def looked(self, plugin_id: str, why: str, *, killed: bool = False) -> None:
        """A plugin's store was looked at; `why` it may not be the newest, empty: nothing speaks against it.

        `killed`: only that the daemon was killed between its last commit and the counter's.
        """

    def exchanged(self, plugin_id: str) -> None:
        """Another version of a plugin runs from now on."""

    def used(self, address: str) -> int:
        """Return the nonce after the highest that was given a transaction of this account here, 0 for none."""


class Deposits(Protocol):
    """What is locked on L1."""

    async def of(self, plugin: InstalledPlugin) -> list[dict[str, Any]]:
        """Return the rows of `l2_getDeposits`."""


CheckGateway = Callable[[Gateway], Awaitable[None]]
"""Refuses a gateway that is a token or whose functions move other contracts' money (hardening.md 20)."""

Dispatch = Callable[[Request, Context], Awaitable[Answer]]
"""The whole chain, as the doors use it."""


@dataclass(frozen=True)
class Ports:
    """Everything the running host is handed. `layer1_allowed`: the method table's word on passed methods.

    `counters`: the folder of the stores' second counters (None: there is none); `phrase_imported`: the owner brought the phrase
    along; `own_ports`: where the proxy itself listens, which no hub may be.
    """

    signer: Signer
    crypto: Crypto
    paths: Paths
    approvals: Approvals
    permissions: Permissions
    audit: Audit
    l1: L1
    dispatch: Dispatch
    operations: Operations
    deposits: Deposits
    layer1_allowed: Callable[[str], bool]
    check_gateway: CheckGateway | None = None
    notice: Callable[[str], None] = field(default=lambda _: None)
    limits: LimitSettings = field(default_factory=LimitSettings)
    counters: FilePath | None = None
    phrase_imported: Callable[[], bool] = field(default=lambda: False)
    own_ports: Callable[[], Collection[int]] = field(default=tuple)
