"""Plugins' own keys as signers of L1 transactions: what the host's `send` is signed with, and nothing else.

Stands between `transactions` (which knows addresses) and the keyring (which knows paths). Works while the main accounts are
locked as long as the plugin's subtree was opened before (security.md 19). It must never sign for an address that was not
asked for by its path, nor with a main account; that only calls of the plugin's gateway come here is the host's to see to
(security.md 18).
"""

from __future__ import annotations

from typing import Any, Protocol

from middleware.errors import Unauthorized

Path = tuple[int, ...]


class PluginKey(Protocol):
    """A plugin's own account."""

    @property
    def address(self) -> str:
        """Checksummed."""


class PluginKeyring(Protocol):
    """The keyring, as far as plugins' own keys go."""

    def plugin_account(self, path: Path) -> PluginKey:
        """Return the account at an absolute path; raise `Unauthorized` while locked and not opened before."""

    def sign_plugin_transaction(self, path: Path, transaction: dict[str, Any]) -> bytes:
        """Return the signed bytes; raise likewise."""


class OwnKeys:
    """Signs with plugins' own keys by address."""

    def __init__(self, keyring: PluginKeyring) -> None:
        self._keyring = keyring
        self._paths: dict[str, Path] = {}

    def address(self, path: Path) -> str:
        """Return the checksummed address at an absolute path. Raise `Unauthorized` while its keys are not at hand."""
        address = self._keyring.plugin_account(path).address
        self._paths[address] = path
        return address

    def sign_transaction(self, address: str, transaction: dict[str, Any]) -> bytes:
        """Return the signed bytes. Raise `Unauthorized` while the key is not at hand."""
        path = self._paths.get(address)
        if path is None:
            raise Unauthorized(f"{address} is no plugin's own key that was asked for")
        return self._keyring.sign_plugin_transaction(path, transaction)
