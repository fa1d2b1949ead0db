"""What speaks against signing typed data: another chain, and permits and orders that move tokens.

Every warning rejects unless the owner insists (security.md 12, hardening.md 17). Sources: EIP-2612, EIP-3009, Permit2,
and the order types of the exchanges in use.
"""

from __future__ import annotations

import re

from proxy.wallet.typed_data import TypedData

_PERMITS = frozenset(
    {
        *("Permit", "PermitSingle", "PermitBatch", "PermitTransferFrom", "PermitBatchTransferFrom"),
        *("PermitWitnessTransferFrom", "PermitBatchWitnessTransferFrom"),
        *("TransferWithAuthorization", "ReceiveWithAuthorization"),
    }
)
_ORDERS = re.compile(r"Order|(?<![A-Za-z])order")


def warnings_of(typed: TypedData, chain_id: int) -> tuple[str, ...]:
    """Return the warnings for typed data to be signed on the chain `chain_id`."""
    found = []
    if typed.chain_id is not None and typed.chain_id != chain_id:
        found.append(f"typed_data_chain: the domain names chain {typed.chain_id}, this proxy serves {chain_id}")
    for name in sorted({typed.primary, *typed.types}):
        if name in _PERMITS:
            found.append(
                f"typed_data_permit: {name} lets somebody move tokens or act for the account without asking again"
            )
        elif _ORDERS.search(name):
            found.append(
                f"typed_data_order: {name} looks like an order that gives tokens away against a price it names"
            )
    return tuple(found)
