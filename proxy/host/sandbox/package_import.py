"""Imports from memory: the plugin's own files and the kept part of the standard library. No path is ever looked at.

Takes the place of Python's own path finder once the lock has fallen. Source stays at hand, so a traceback in the plugin's log
shows the author's lines. Nothing here runs before a plugin's first import; source: PEP 302, PEP 451.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import importlib.util
import io
import marshal
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType, ModuleType
from typing import Any

from proxy.host.sandbox import package_data
from proxy.host.sandbox.nameless import rename_code
from proxy.host.sandbox.preload import Kept

SHOWN = "plugin"  # what stands before the names of a plugin's files in tracebacks


def read_files(folder: str) -> dict[str, bytes]:
    """Return every file below `folder` by its name with `/`. Links were refused when the package was stored."""
    files: dict[str, bytes] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            with open(path, "rb") as file:
                files[os.path.relpath(path, folder).replace(os.sep, "/")] = file.read()
    return files


class PluginFiles:
    """Finder and loader of the plugin's own modules."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self._folders = {name[:cut] for name in files for cut in _slashes(name)}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return where a module is, as importlib asks it."""
        inside = name.replace(".", "/")
        for file, is_package in ((f"{inside}/__init__.py", True), (f"{inside}.py", False)):
            if file in self._files:
                spec = importlib.machinery.ModuleSpec(
                    name,
                    self,  # type: ignore[arg-type]  # a loader by its methods
                    origin=f"{SHOWN}/{file}",
                    is_package=is_package,
                )
                spec.has_location = True
                if is_package:
                    spec.submodule_search_locations = [f"{SHOWN}/{inside}"]
                return spec
        if inside in self._folders:
            spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [f"{SHOWN}/{inside}"]
            return spec
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Leave the making of the module to importlib."""

    def exec_module(self, module: ModuleType) -> None:
        """Compile and run a module."""
        exec(self.get_code(module.__name__), module.__dict__)  # noqa: S102 - that is what importing is

    def get_code(self, name: str) -> CodeType:
        """Return a module's code; tracebacks name its file as the author does."""
        file = self._file_of(name)
        return compile(self._files[file], f"{SHOWN}/{file}", "exec", dont_inherit=True)

    def get_source(self, name: str) -> str:
        """Return a module's source, for tracebacks and inspect."""
        return importlib.util.decode_source(self._files[self._file_of(name)])

    def is_package(self, name: str) -> bool:
        """Tell whether a module has modules below it."""
        return self._file_of(name).endswith("/__init__.py")

    def get_data(self, path: str) -> bytes:
        """Return a file of the plugin by `__file__`-like path, for `pkgutil.get_data`. Raises FileNotFoundError."""
        try:
            return self._files[path.removeprefix(f"{SHOWN}/")]
        except KeyError:
            raise FileNotFoundError(f"the plugin has no file {path!r}") from None

    def get_resource_reader(self, name: str) -> Any:
        """Return importlib.resources' reader of a package, None for a module."""
        return package_data.reader(self._files, name.replace(".", "/")) if self.is_package(name) else None

    def find_distributions(self, context: Any) -> Iterator[Any]:
        """Yield the wheels that importlib.metadata asks for."""
        return package_data.distributions(self._files, context.name)

    def in_folder(self, path: str) -> PluginFolder:
        """Return what pkgutil lists a package's modules with. Raises ImportError for a path that is not of the plugin."""
        if path.partition("/")[0] != SHOWN:
            raise ImportError("no path of the plugin", path=path)
        return PluginFolder(self._files, path.removeprefix(SHOWN).lstrip("/"))

    def _file_of(self, name: str) -> str:
        inside = name.replace(".", "/")
        for file in (f"{inside}/__init__.py", f"{inside}.py"):
            if file in self._files:
                return file
        raise ImportError(f"the plugin has no module {name!r}", name=name)


class PluginFolder:
    """One folder of the plugin, for `pkgutil.iter_modules`."""

    def __init__(self, files: Mapping[str, bytes], folder: str) -> None:
        self._files = files
        self._folder = folder

    def iter_modules(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """Yield name and whether it is a package of each module."""
        return package_data.modules(self._files, self._folder, prefix)


class KeptModules:
    """Finder and loader of what was kept of the standard library; says what is not there."""

    def __init__(self, kept: Mapping[str, Kept]) -> None:
        self._kept = kept

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return where a module is. Raises ModuleNotFoundError for one of the standard library that plugins do not get."""
        kept = self._kept.get(name)
        if kept is not None:
            loader = self  # a loader by its methods
            spec = importlib.machinery.ModuleSpec(name, loader, origin=kept.path, is_package=kept.is_package)  # type: ignore[arg-type]
            spec.has_location = True
            return spec
        if name.partition(".")[0] in sys.stdlib_module_names:
            raise ModuleNotFoundError(
                f"No module named {name!r}: this part of the standard library needs what a plugin has not"
                ' (docs/plugin-authors.md, "The sandbox")',
                name=name,
            )
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Leave the making of the module to importlib."""

    def exec_module(self, module: ModuleType) -> None:
        """Run a module from its kept code."""
        kept = self._kept[module.__name__]
        if kept.compiled:
            code = marshal.loads(kept.data)  # noqa: S302
            rename_code(code, kept.path)
        else:
            code = compile(kept.data, kept.path, "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 - that is what importing is


def take_over(files: Mapping[str, bytes], kept: Mapping[str, Kept]) -> None:
    """Leave these two and what is built in as the only places of modules."""
    own = PluginFiles(files)
    sys.path.clear()
    sys.path_hooks[:] = [own.in_folder]  # type: ignore[list-item]  # for pkgutil alone, which lists modules
    sys.path_importer_cache.clear()
    sys.meta_path[:] = [
        importlib.machinery.BuiltinImporter,
        importlib.machinery.FrozenImporter,
        own,
        KeptModules(kept),
    ]
    builtins.open = io.open = package_data.opener(files, SHOWN)


def _slashes(name: str) -> list[int]:
    return [position for position, letter in enumerate(name) if letter == "/"]
