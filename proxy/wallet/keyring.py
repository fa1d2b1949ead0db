"""The unlocked signer: main accounts and plugin subtrees, in memory only.

`keystore` is the file; this is what an owner's password makes of it. `lock` drops the main keys at once; the subtrees of
plugins that were opened stay, for their watch duty goes on (security.md 19). It signs what it is given: whether it may be
signed was decided before (approvals, security.md 10). Keys leave only through `plugin_private_key` and the export of the
keystore, and never into a log or an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from middleware.errors import Unauthorized
from proxy.wallet.addresses import address_of, private_key, public_key_of
from proxy.wallet.derivation import Node, main_parent
from proxy.wallet.key_libraries import eth_account
from proxy.wallet.keystore import Keystore, Secrets
from proxy.wallet.paths import FORBIDDEN, Path, PathError, text_of
from proxy.wallet.recovery import hash_message
from proxy.wallet.typed_data import TypedData, hash_typed_data


def locked_error() -> Unauthorized:
    """Return the error of everything that needs the main accounts while they are locked."""
    return Unauthorized("the accounts are locked", "l2proxy unlock")


@dataclass(frozen=True, slots=True)
class PluginKey:
    """A plugin's own account: checksummed address, public key (0x04…, 65 bytes), path in text."""

    address: str
    public_key: str
    path: str


class Keyring:
    """Main accounts and plugin keys of one keystore."""

    def __init__(self, keystore: Keystore) -> None:
        self.keystore = keystore
        self._master: Node | None = None
        self._main: dict[str, bytes] = {}
        self._plugins: dict[Path, Node] = {}
        self._locks = 0
        self._on_lock: list[Callable[[], None]] = []
        self._on_unlock: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"Keyring({'locked' if self.locked else 'unlocked'})"

    @property
    def locked(self) -> bool:
        """Tell whether the main accounts cannot sign."""
        return self._master is None

    @property
    def locks(self) -> int:
        """How often it was locked: whoever opens the keystore meanwhile admits its secrets only if this is unchanged."""
        return self._locks

    def addresses(self) -> list[str]:
        """Return the checksummed main accounts, derived ones first, known while locked too."""
        return [account.address for account in self.keystore.accounts()]

    def unlock(self, password: str) -> None:
        """Open the keystore. Raise `WrongPassword` or `KeystoreError`; takes about a second (see `admit`)."""
        self.admit(self.keystore.open(password))

    def admit(self, secrets: Secrets) -> None:
        """Take opened secrets and tell those who wait for it; for callers that open the keystore in a thread."""
        parent = main_parent(secrets.master)
        main = dict(secrets.imported)
        for account in secrets.accounts:
            if account.index is not None:
                main[account.address] = parent.child(account.index).private_key
        was_locked, self._master, self._main = self.locked, secrets.master, main
        if was_locked:
            for callback in tuple(self._on_unlock):
                callback()

    def lock(self) -> None:
        """Drop the main accounts' keys now; opened plugin subtrees stay."""
        self._locks += 1
        was_locked, self._master, self._main = self.locked, None, {}
        if not was_locked:
            for callback in tuple(self._on_lock):
                callback()

    def on_lock(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each lock."""
        self._on_lock.append(callback)

    def on_unlock(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each unlock."""
        self._on_unlock.append(callback)

    def sign_transaction(self, address: str, transaction: dict[str, Any]) -> bytes:
        """Return the signed, encoded transaction (fields as eth_account takes them, integers and bytes).

        Raise `Unauthorized` while locked and for an address that is no main account.
        """
        return _sign_transaction(self._main_key(address), transaction)

    def sign_message(self, address: str, data: bytes) -> str:
        """Return the EIP-191 signature of `data` as 65 bytes of 0x data. Raise as `sign_transaction`."""
        return _sign_digest(self._main_key(address), hash_message(data))

    def sign_typed_data(self, address: str, typed: Any) -> str:
        """Return the EIP-712 signature as 65 bytes of 0x data. Raise as `sign_transaction`, and `InvalidParams`."""
        return _sign_digest(self._main_key(address), hash_typed_data(typed))

    def sign_digest(self, address: str, digest: bytes) -> str:
        """Return the signature of a digest that a question to the owner was bound to. Raise as `sign_transaction`."""
        return _sign_digest(self._main_key(address), digest)

    def open_plugin(self, path: Path) -> None:
        """Keep the subtree at `path` at hand, so that it works while locked. Raise `Unauthorized` when it cannot now."""
        self._plugins[path] = self._plugin_node(path)

    def close_plugin(self, path: Path) -> None:
        """Forget the subtree at `path` and all below it."""
        self._plugins = {known: node for known, node in self._plugins.items() if known[: len(path)] != path}

    def plugin_account(self, path: Path) -> PluginKey:
        """Return the account at an absolute plugin path. Raise `Unauthorized` while locked if no parent was opened."""
        raw = self._plugin_node(path).private_key
        return PluginKey(address_of(raw), public_key_of(raw), text_of(path))

    def plugin_private_key(self, path: Path) -> str:
        """Return the 32-byte private key as 0x data; only for a plugin that was granted `keys.export`."""
        return "0x" + self._plugin_node(path).private_key.hex()

    def plugin_store_secret(self, path: Path) -> bytes:
        """Return the 32 bytes a plugin's store is sealed under: of its path, and of no use for anything else."""
        key = self._plugin_node(path).private_key
        return hashlib.blake2b(b"store", key=key, digest_size=32, person=b"l2proxy plugin").digest()

    def sign_plugin_message(self, path: Path, data: bytes) -> str:
        """Return the EIP-191 signature of a plugin's own key."""
        return _sign_digest(self._plugin_node(path).private_key, hash_message(data))

    def sign_plugin_typed_data(self, path: Path, typed: TypedData) -> str:
        """Return the EIP-712 signature of a plugin's own key over typed data that was checked."""
        return _sign_digest(self._plugin_node(path).private_key, typed.digest)

    def sign_plugin_transaction(self, path: Path, transaction: dict[str, Any]) -> bytes:
        """Return a transaction signed by a plugin's own key; only the host's `send`, to its gateway, may ask for it."""
        return _sign_transaction(self._plugin_node(path).private_key, transaction)

    def _main_key(self, address: str) -> bytes:
        if self.locked:
            raise locked_error()
        key = self._main.get(address)
        if key is None:
            raise Unauthorized(f"{address} is no account of this wallet", "l2proxy account list")
        return key

    def _plugin_node(self, path: Path) -> Node:
        if len(path) < 3 or path[0] in FORBIDDEN or min(path[:3]) < 0:
            raise PathError(
                "a plugin's keys lie at least three hardened components deep, below no other wallet's purpose"
            )
        node = self._plugins.get(path)
        if node is None:
            node = self._derive(path)
            self._remember(path, node)
        return node

    def _derive(self, path: Path) -> Node:
        for depth in range(len(path) - 1, 2, -1):
            parent = self._plugins.get(path[:depth])
            if parent is not None:
                return parent.below(path[depth:])
        if self._master is None:
            raise locked_error()
        parent = self._master.below(path[:-1])
        if len(path) > 3:
            self._remember(path[:-1], parent)
        return parent.below(path[-1:])

    def _remember(self, path: Path, node: Node) -> None:
        # Derivation costs 2 ms a step and a plugin signs with few keys often; a bound, for indexes are the plugin's.
        if len(self._plugins) < 4096:
            self._plugins[path] = node


def _sign_transaction(raw: bytes, transaction: dict[str, Any]) -> bytes:
    return bytes(eth_account().Account.sign_transaction(transaction, raw).raw_transaction)


def _sign_digest(raw: bytes, digest: bytes) -> str:
    signature = private_key(raw).sign_msg_hash(digest)
    return f"0x{signature.r:064x}{signature.s:064x}{signature.v + 27:02x}"
