"""Finds what a `[[middleware]]` entry names by dotted path, `module:name`. Runs at start, never on a call.

What it finds becomes a link in `web3_adapter.configured_links`. Every failure is one sentence that names the entry.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import Any


class BadEntry(Exception):
    """A `[[middleware]]` entry that cannot be used: one sentence for the owner."""

    def __init__(self, use: str, why: str) -> None:
        super().__init__(f'[[middleware]] use = "{use}": {why}')


def load(use: str) -> Any:
    """Return the object `use` names. Raise `BadEntry`."""
    module_name, colon, name = use.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module_name.split("."), *name.split("."))):
        raise BadEntry(use, 'not of the form "module:name", for instance "web3.middleware:ExtraDataToPOAMiddleware"')
    try:
        found: Any = _imported(module_name)
    except ModuleNotFoundError as error:
        where = "install it beside l2proxy, name its directory in PYTHONPATH, or start l2proxy there"
        raise BadEntry(use, f"there is no module {error.name}; {where}") from error
    except Exception as error:
        raise BadEntry(use, f"importing {module_name} fails: {type(error).__name__}: {error}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise BadEntry(use, f"{module_name} has no {name}")
        found = getattr(found, part)
    return found


def _imported(module: str) -> ModuleType:
    """Import `module`; what is installed nowhere is looked for in the present directory, and nothing else ever is."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
    here = os.getcwd()
    sys.path.append(here)
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(here)
