"""Loads the key libraries once, at a moment when nobody waits, and undoes what they do to the process.

eth_account imports eth_keyfile, and that imports py_ecc's pairings for the keystores of validators (EIP-2335), which nobody
here has: most of a second of every start, for two names. They are lent to it while it is imported; should anybody ask for
one of the pairings after all, the real library is loaded then. py_ecc also raises Python's recursion limit to 100,000: a
deeply nested document would overflow the C stack and end the daemon instead of raising an error.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

RECURSION_LIMIT = 1000  # Python's own default
LIBRARIES = ("hdwallet.hds", "hdwallet.mnemonics")
PAIRINGS, CURVE = "py_ecc.bls", "py_ecc.bls12_381"
CURVE_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001  # of BLS12-381: r of its specification


class _Deferred:
    """Stands for the ciphersuite of validators' keys until somebody uses it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(PAIRINGS).G2ProofOfPossession, name)


def load() -> None:
    """Import what signing and deriving need; call it in a thread at start."""
    eth_account()
    for library in LIBRARIES:
        importlib.import_module(library)
    sys.setrecursionlimit(RECURSION_LIMIT)


def eth_account() -> ModuleType:
    """Return eth_account with its messages. Nothing else here imports it, so that the recursion limit stays where it was."""
    if (found := sys.modules.get("eth_account")) is not None and "eth_account.messages" in sys.modules:
        return found
    before = sys.getrecursionlimit()
    _load_key_files()
    importlib.import_module("eth_account.messages")
    sys.setrecursionlimit(before)
    return sys.modules["eth_account"]


def _load_key_files() -> None:
    """Import eth_keyfile without the pairings, unless somebody has them or it already."""
    if "eth_keyfile" in sys.modules or not sys.modules.keys().isdisjoint({PAIRINGS, CURVE}):
        return
    lent = {
        PAIRINGS: _module(PAIRINGS, G2ProofOfPossession=_Deferred()),
        CURVE: _module(CURVE, curve_order=CURVE_ORDER),
    }
    sys.modules.update(lent)
    try:
        importlib.import_module("eth_keyfile")
    finally:
        for name in lent:
            del sys.modules[name]  # the next who imports it gets the real one


def _module(name: str, **members: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(members)
    return made
