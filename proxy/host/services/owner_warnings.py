"""What the owner is warned of when a plugin asks for the main account's signature (security.md 12, hardening.md 17).

The wallet knows what is dangerous to sign at all; here stands what only the host knows: which contracts are this
plugin's. Each warning is "code: sentence" and rejects by default. Only what is hashed is looked at.
"""

from __future__ import annotations

from middleware.waist import Origin
from proxy.host.installed import InstalledPlugin
from proxy.host.ports import Crypto, TypedData


def message_warnings(plugin: InstalledPlugin, crypto: Crypto, chain_id: int, data: bytes) -> tuple[str, ...]:
    """Return the warnings for a message, as bytes before the EIP-191 prefix."""
    return crypto.message_warnings(data, Origin.plugin(plugin.id), plugin.owner, chain_id)


def typed_warnings(plugin: InstalledPlugin, crypto: Crypto, chain_id: int, typed: TypedData) -> tuple[str, ...]:
    """Return the warnings for typed data."""
    found = crypto.typed_warnings(typed, chain_id)
    if typed.verifying_contract in {gateway.address for gateway in plugin.gateways}:
        return found
    contract = typed.verifying_contract or "no contract"
    return (*found, f"not_gateway: the typed data is for {contract}, not for a gateway you approved for {plugin.id}")
