"""Hierarchical keys (BIP-32, BIP-44): a node and its children, addressed by integers only.

A `Node` is immutable; hdwallet does the arithmetic and is imported where it is used. The text of a path never gets here
(hardening.md 27).
"""

from __future__ import annotations

import copy
from typing import Any

from proxy.wallet.paths import HARDENED, Path, indexes


class DerivationFailed(ValueError):
    """This index has no key (probability 2^-127) or is no index."""


class Node:
    """One place in the tree: a private key with its chain code."""

    __slots__ = ("_hd",)

    def __init__(self, hd: Any) -> None:
        self._hd = hd

    def __repr__(self) -> str:
        return "Node(…)"

    @classmethod
    def master(cls, seed: bytes) -> Node:
        """Return the root of the tree of a 64-byte seed."""
        from hdwallet.eccs import SLIP10Secp256k1ECC
        from hdwallet.hds import BIP32HD

        return cls(BIP32HD(ecc=SLIP10Secp256k1ECC).from_seed(seed))

    @property
    def private_key(self) -> bytes:
        """The 32-byte key of this place."""
        return bytes.fromhex(self._hd.private_key())

    def child(self, index: int) -> Node:
        """Return the child `index`; 2^31 and above are hardened."""
        if type(index) is not int or not 0 <= index < 2 * HARDENED:
            raise DerivationFailed("a child's index is an integer from 0 to 4294967295")
        hd = copy.copy(self._hd)
        if hd.drive(index) is None:
            raise DerivationFailed(f"index {index} has no key here; take the next one")
        return Node(hd)

    def below(self, path: Path) -> Node:
        """Return the node at `path` below this one (the form of `paths`; `()` is this one)."""
        node = self
        for index in indexes(path):
            node = node.child(index)
        return node


def main_parent(master: Node) -> Node:
    """Return m/44'/60'/0'/0: the parent of the owner's main accounts (BIP-44, SLIP-44 coin 60)."""
    return master.below((44, 60, 0, ~0))
