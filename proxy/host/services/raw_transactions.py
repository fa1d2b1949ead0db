"""`eth_sendRawTransaction` for a plugin: what it signed with keys of its own, and nothing anybody else signed (plugin.md).

Stands before `layer1.request` sends it on. The sender is recovered from the very bytes; the owner's accounts and the
addresses of other plugins are refused, so that a plugin broadcasts nothing it was merely handed (hardening.md 2, security.md
18). Each one is in the audit log before it leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from middleware.errors import InvalidParams, Unauthorized
from proxy.host.installed import InstalledPlugin
from proxy.host.ports import Audit, Crypto, Signer

METHOD = "eth_sendRawTransaction"
MAX_RAW = 128 * 1024  # what nodes take in one transaction


class RawTransactions:
    """Judges the raw transactions of one plugin. `is_anothers` tells whether an address is another plugin's."""

    def __init__(
        self,
        plugin: InstalledPlugin,
        signer: Signer,
        crypto: Crypto,
        audit: Audit,
        chain_id: int,
        is_anothers: Callable[[str], bool],
    ) -> None:
        self._plugin = plugin
        self._signer = signer
        self._crypto = crypto
        self._audit = audit
        self._chain_id = chain_id
        self._is_anothers = is_anothers

    def admit(self, params: Any) -> str:
        """Return the one param of a transaction that may be sent. Raise `InvalidParams`, `Unauthorized`; audit it first."""
        if METHOD not in self._plugin.grants:
            raise Unauthorized(f"{self._plugin.id} was not granted {METHOD}; it must be named: --grant {METHOD}")
        if self._signer.locked:
            raise Unauthorized("the accounts are locked; of money only `send` of disputes goes on", "l2proxy unlock")
        raw = _bytes_of(params)
        found = self._crypto.read_raw(raw, "params[0]")
        sender = found.sender
        if found.chain_id not in (None, self._chain_id):
            raise InvalidParams("params[0]", f"a transaction for chain {self._chain_id}", f"chain {found.chain_id}")
        if sender in self._signer.addresses():
            raise Unauthorized("a plugin sends no transaction of the owner's accounts; `transfer` asks the owner")
        if self._is_anothers(sender):
            raise Unauthorized("the transaction is signed by an address of another plugin")
        fields = {"from": sender, "to": found.to, "value": hex(found.value), "hash": found.hash, "source": "policy"}
        self._audit.append(
            {"event": METHOD, "origin": f"plugin:{self._plugin.id}", "plugin": self._plugin.id, **fields}
        )
        return "0x" + raw.hex()


def _bytes_of(params: Any) -> bytes:
    if isinstance(params, dict):
        params = list(params.values())
    if not isinstance(params, list) or len(params) != 1 or not isinstance(params[0], str):
        raise InvalidParams("params", "one signed transaction as 0x data", params)
    text = params[0]
    if not text.startswith("0x") or len(text) % 2 or len(text) > 2 + 2 * MAX_RAW:
        raise InvalidParams("params[0]", f"0x data of at most {MAX_RAW} bytes", text[:32])
    try:
        return bytes.fromhex(text[2:])
    except ValueError:
        raise InvalidParams("params[0]", "0x data", text[:32]) from None
