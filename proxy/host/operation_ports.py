"""What operations need of their neighbours, as small Protocols: the wallet's transactions, the owner, the chain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from middleware.questions import Decision, Question
from proxy.host.gateways import NodeCalls
from proxy.storage import Batch


class Prepared(Protocol):
    """A transaction with upper bounds, as it is approved; amounts in wei."""

    @property
    def value(self) -> int:
        """What it carries."""

    @property
    def gas(self) -> int:
        """The gas limit."""

    @property
    def fee_bound(self) -> int:
        """The most the fee can be."""

    @property
    def valid_until(self) -> int:
        """When it must have been broadcast, unix seconds."""

    def to_json(self) -> dict[str, Any]:
        """Return everything that is approved."""


class Signed(Protocol):
    """A signed transaction that is on disk."""

    @property
    def nonce(self) -> int:
        """Its nonce."""

    @property
    def hash(self) -> str:
        """Its hash."""


class Transactions(Protocol):
    """The wallet's transactions. See `proxy.wallet.transactions`."""

    async def prepare(
        self,
        sender: str,
        to: str | None,
        value: int = 0,
        data: bytes = b"",
        *,
        gas: int | None = None,
        valid_seconds: float = 600,
        fee_growth: int = 0,
        later: bool = False,
    ) -> Prepared:
        """Return it with bounds; raise the node's error if it would revert or (unless `later`) cannot be paid."""

    async def priced(self, prepared: Any) -> Any:
        """Return it at the fee of now, within its bound; raise `Refused` above it, -32000 where it cannot be paid."""

    async def dearer(self, attempt: Any, nonce: int, *, if_too_low: bool = False) -> Any:
        """Return it with a fee that replaces it, None where what was approved allows none.

        `if_too_low`: only where no block takes the present one.
        """

    async def estimate(self, prepared: Any) -> int:
        """Return the gas it would need now; raise the node's error if it would revert."""

    def restore(self, fields: dict[str, Any]) -> Prepared:
        """Return what `to_json` wrote."""

    async def sign(
        self,
        prepared: Any,
        holder: str = "",
        also: Callable[[Batch, Any], None] | None = None,
        replaces: Any = None,
    ) -> Signed:
        """Give it its nonce, sign it, put it on disk with the writes of `also`; `replaces`: ours whose nonce it takes."""

    async def send(self, signed: Any) -> None:
        """Send; raise `Disconnected` when it is unknown whether it arrived, the node's error when it refuses."""

    def in_line(self, sender: str) -> AbstractAsyncContextManager[Any]:
        """Return what is held from a signature to the end of its first sending."""

    async def mend(self, sender: str, nonce: int) -> bool:
        """Send again what the node has forgotten of the account's transactions before this nonce, if it has any."""

    async def gap(self, sender: str, nonce: int) -> int | None:
        """Return the nonce below this one that no transaction uses, None where there is none."""

    async def held_by(self, sender: str, nonce: int, holder: str) -> Signed | None:
        """Return an operation's transaction at its nonce; None while another may be mined in its place."""

    async def is_known(self, transaction_hash: str) -> bool:
        """Tell whether the node has it, pending or mined."""

    async def count(self, sender: str, block: str) -> int:
        """Return the number of transactions of an account at a block."""

    def release(self, sender: str, nonce: int, batch: Batch) -> None:
        """Free a nonce in a batch."""

    def used(self, sender: str) -> int:
        """Return the nonce after the highest that this account's transactions were given here, 0 for none."""


class Accounts(Protocol):
    """The keyring, without its keys."""

    @property
    def locked(self) -> bool:
        """Tell whether the main accounts cannot sign."""

    def addresses(self) -> list[str]:
        """Return the main accounts."""

    def on_unlock(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each unlock."""


class OwnKeys(Protocol):
    """Plugins' own keys, without the keys."""

    def address(self, path: tuple[int, ...]) -> str:
        """Return the address at an absolute path; raise `Unauthorized` while the key is not at hand."""


class Audit(Protocol):
    """The audit log."""

    def append(self, event: Mapping[str, Any]) -> None:
        """Write, synced, or raise."""


class Approvals(Protocol):
    """The owner, or a rule in the owner's place."""

    async def ask(self, question: Question) -> Decision:
        """Return the yes; raise `Refused` for a no, `Withdrawn` when the daemon stops."""


class Blocks(Protocol):
    """The block tracker."""

    def events(self) -> AsyncIterator[Any]:
        """Yield whenever the chain's head changes."""


class L1(NodeCalls, Protocol):
    """The pinned node with its blocks."""

    @property
    def chain_id(self) -> int:
        """The chain id."""

    @property
    def is_dev(self) -> bool:
        """Tell whether it is a developer's chain."""

    @property
    def blocks(self) -> Blocks:
        """Its blocks."""
