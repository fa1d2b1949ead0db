"""Loads the key libraries once, at a moment when nobody waits, and undoes what one of them does to the process.

Importing eth_account takes a second (py_ecc does) and raises Python's recursion limit to 100,000: a deeply nested
document would then overflow the C stack and end the daemon instead of raising an error.
"""

from __future__ import annotations

import importlib
import sys

RECURSION_LIMIT = 1000  # Python's own default
LIBRARIES = ("eth_account.messages", "hdwallet.hds", "hdwallet.mnemonics")


def load() -> None:
    """Import what signing and deriving need; call it in a thread at start."""
    for library in LIBRARIES:
        importlib.import_module(library)
    sys.setrecursionlimit(RECURSION_LIMIT)
