"""What an account holds after a block - balance, nonce, code, storage, proofs - and the door for signed transactions.

The node has no accounts of its own: it signs nothing. Source: execution-apis state methods, EIP-1186 for proofs.
"""

from __future__ import annotations

from typing import Any

import rlp  # type: ignore[import-untyped]
from eth.rlp.accounts import Account
from eth_typing import Address
from eth_utils.crypto import keccak
from trie.hexary import HexaryTrie

from proxy.upstream.embedded.errors import invalid_params, unknown_block
from proxy.upstream.embedded.node import Node
from proxy.upstream.embedded.params import BlockRef, shown, storage_slot
from proxy.upstream.embedded.wire import Wire, data, quantity, word


def balance(node: Node, account: bytes, ref: BlockRef) -> str:
    """Return a balance in wei."""
    return quantity(node.state(ref).get_balance(Address(account)))


def code(node: Node, account: bytes, ref: BlockRef) -> str:
    """Return deployed code."""
    return data(node.state(ref).get_code(Address(account)))


def nonce(node: Node, account: bytes, ref: BlockRef) -> str:
    """Return how many transactions an account has sent; "pending" counts those that wait without a gap."""
    mined = node.state("latest" if ref == "pending" else ref).get_nonce(Address(account))
    return quantity(node.pool.next_nonce(account, mined) if ref == "pending" else mined)


def storage(node: Node, account: bytes, slot: int, ref: BlockRef) -> str:
    """Return one storage word."""
    return word(node.state(ref).get_storage(Address(account), slot))


def slots(value: Any) -> list[int]:
    """Read the storage positions of eth_getProof."""
    if not isinstance(value, list):
        raise invalid_params(f"expected an array of storage positions, got {shown(value)}")
    return [storage_slot(entry) for entry in value]


def proof(node: Node, account: bytes, wanted: list[int], ref: BlockRef) -> Wire:
    """Return an account with Merkle proofs of it and of storage words (EIP-1186)."""
    sealed = node.chain.find(ref)
    if sealed is None:
        raise unknown_block()
    database = node.chain.evm.chaindb.db
    accounts = HexaryTrie(database, sealed.state_root)
    encoded = accounts.get(keccak(account))
    found: Account = rlp.decode(encoded, sedes=Account) if encoded else Account()
    words = HexaryTrie(database, found.storage_root)
    return {
        "address": data(account),
        "balance": quantity(found.balance),
        "nonce": quantity(found.nonce),
        "codeHash": data(found.code_hash),
        "storageHash": data(found.storage_root),
        "accountProof": _proof(accounts, account),
        "storageProof": [_storage_proof(words, slot) for slot in wanted],
    }


def _storage_proof(words: HexaryTrie, slot: int) -> Wire:
    key = slot.to_bytes(32, "big")
    encoded = words.get(keccak(key))
    value = rlp.decode(encoded, sedes=rlp.sedes.big_endian_int) if encoded else 0
    return {"key": word(slot), "value": quantity(value), "proof": _proof(words, key)}


def _proof(tree: HexaryTrie, key: bytes) -> list[str]:
    return [data(rlp.encode(node)) for node in tree.get_proof(keccak(key)) if node]  # type: ignore[no-untyped-call]


def send_raw(node: Node, raw: bytes) -> str:
    """Take a signed transaction and return its hash."""
    return data(node.submit(raw))
