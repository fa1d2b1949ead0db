"""Takes out of the interpreter where it and we lie: a path may hold the owner's name, and no plugin needs one.

Runs between the lock and the first import of the plugin. Modules, the code of functions (tracebacks show it) and `sys` name places
below `python/` and `l2proxy/` instead. What the process keeps outside of Python's objects, as its arguments, stays: a plugin
that reads its own memory through ctypes finds it.
"""

from __future__ import annotations

import _imp
import gc
import os
import sys
from collections.abc import Mapping
from importlib.machinery import ExtensionFileLoader, ModuleSpec, SourceFileLoader
from types import CodeType, FunctionType
from typing import Any

LIBRARY = "python"  # stands for the folder of the standard library
OURS = "l2proxy"  # and for ours
_NAMING = frozenset({ModuleSpec, SourceFileLoader, ExtensionFileLoader})
_PREFIXES = ("prefix", "exec_prefix", "base_prefix", "base_exec_prefix", "_stdlib_dir")
_CONFIGURATION = ("_PREFIX", "_BASE_PREFIX", "_EXEC_PREFIX", "_BASE_EXEC_PREFIX", "_PROJECT_BASE")


def forget(*ours: str) -> None:
    """Rename every place; `ours` are folders of our own code."""
    home = os.path.dirname(os.__file__)
    names = {home: LIBRARY, os.path.join(home, "lib-dynload"): LIBRARY, **dict.fromkeys(ours, OURS)}
    places = _Places(names)
    for module in list(sys.modules.values()):
        if module is not None:
            places.rename_values(vars(module))
            places.rename_values(getattr(module, "__path__", None))
    for found in gc.get_objects():
        kind = type(found)
        if kind is FunctionType:
            places.rename_code(found.__code__)
        elif kind in _NAMING:
            places.rename_values(vars(found))
        elif kind is dict and "__file__" in found:  # the interpreter's copy of an extension module's names
            places.rename_values(found)
    _forget_start()


def rename_code(code: CodeType, path: str) -> None:
    """Say of code and all code inside that it is from another file, as importlib does for one that was moved."""
    _imp._fix_co_filename(code, path)  # type: ignore[attr-defined]  # noqa: SLF001


class _Places:
    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = sorted(names.items(), key=lambda row: -len(row[0]))  # the deepest first
        self._heads = tuple(names)
        self._known: dict[str, str] = {}

    def rename_values(self, table: Any) -> None:
        """Rename the paths among the values of a dict or list."""
        rows = table.items() if isinstance(table, dict) else enumerate(table) if isinstance(table, list) else ()
        for key, value in list(rows):
            if type(value) is str and value.startswith(self._heads):
                table[key] = self._renamed(value)

    def rename_code(self, code: CodeType) -> None:
        """Rename the file that code is from."""
        path = code.co_filename
        if (name := self._known.get(path)) is None:
            name = self._known[path] = self._renamed(path)
        if name != path:
            rename_code(code, name)

    def _renamed(self, path: str) -> str:
        for head, name in self._names:
            if path.startswith(head):
                return name + path[len(head) :]
        return path


def _forget_start() -> None:
    sys.argv[:], sys.orig_argv[:] = [""], [LIBRARY]
    vars(sys).update(dict.fromkeys(_PREFIXES, LIBRARY), executable="", _base_executable="")
    for name, module in list(sys.modules.items()):
        if name.startswith("_sysconfigdata"):
            module.build_time_vars.clear()
    if (configuration := sys.modules.get("sysconfig")) is not None:  # of zoneinfo
        vars(configuration).update(
            dict.fromkeys(_CONFIGURATION, LIBRARY), _CONFIG_VARS={}, _CONFIG_VARS_INITIALIZED=True
        )
