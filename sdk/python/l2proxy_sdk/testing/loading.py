"""Find a plugin as the proxy does: `plugin.toml`, then `module:Class` from the plugin's own folder."""

from __future__ import annotations

import importlib
import sys
import tomllib
from pathlib import Path
from typing import Any

from l2proxy_sdk import Plugin


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a plugin folder."""
    return tomllib.loads((folder / "plugin.toml").read_text())


def load_plugin(folder: Path) -> type[Plugin]:
    """Import the plugin class of a folder. Raises LookupError where the entry names none."""
    module_name, _, class_name = str(read_manifest(folder)["entry"]).partition(":")
    place = str(folder.resolve())
    if place not in sys.path:
        sys.path.insert(0, place)
    module = importlib.import_module(module_name)
    if not str(module.__file__).startswith(place):
        raise LookupError(f"a module {module_name} from {module.__file__} was imported before the one in {place}")
    found = getattr(module, class_name, None)
    if not isinstance(found, type) or not issubclass(found, Plugin):
        raise LookupError(f"{module_name} has no Plugin class {class_name}")  # noqa: TRY004 - the entry is wrong
    return found
