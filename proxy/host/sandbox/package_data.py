"""What libraries want beside modules: a package's data files, and which distributions are there in which version.

Answers `importlib.resources`, `importlib.metadata`, `pkgutil.iter_modules` and an `open` beside `__file__` from the plugin's files in memory;
many a pure wheel reads its own version or a table when it is imported. The wall is elsewhere: nothing here is asked whether it may.
importlib's own parts are imported at the first question, so that a plugin that asks nothing does not wait for them.
Source: PEP 451, PEP 376, importlib.resources.abc, importlib.metadata.DistributionFinder.
"""

from __future__ import annotations

import functools
import io
import os
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_DIST_INFO = ".dist-info/METADATA"
_DIVIDERS = re.compile(r"[-_.]+")


class Place:
    """A file or folder of the plugin as importlib.resources walks it (`Traversable`). `path` is with `/`, "" the plugin itself."""

    def __init__(self, files: Mapping[str, bytes], path: str) -> None:
        self._files = files
        self._path = path

    @property
    def name(self) -> str:
        """Return its last part."""
        return self._path.rpartition("/")[2]

    def __repr__(self) -> str:
        return f"Place({self._path!r})"

    def is_file(self) -> bool:
        """Tell whether it is a file."""
        return self._path in self._files

    def is_dir(self) -> bool:
        """Tell whether something lies below it."""
        return any(self._below())

    def iterdir(self) -> Iterator[Place]:
        """Yield what lies directly below it."""
        names = sorted({below.partition("/")[0] for below in self._below()})
        return (self.joinpath(name) for name in names)

    def joinpath(self, *parts: str) -> Place:
        """Return a place below it."""
        path = "/".join(filter(None, (self._path, *(str(part).strip("/") for part in parts))))
        return Place(self._files, path)

    def __truediv__(self, part: str) -> Place:
        return self.joinpath(part)

    def read_bytes(self) -> bytes:
        """Return the file. Raises FileNotFoundError."""
        try:
            return self._files[self._path]
        except KeyError:
            raise FileNotFoundError(f"the plugin has no file {self._path!r}") from None

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """Return the file as text. Raises FileNotFoundError."""
        with self.open("r", encoding=encoding, errors=errors) as opened:
            return str(opened.read())

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        """Open it to read, "r" or "rb". Raises FileNotFoundError."""
        data = io.BytesIO(self.read_bytes())
        return data if "b" in mode else io.TextIOWrapper(data, encoding or "utf-8", errors, newline)

    def _below(self) -> Iterator[str]:
        start = f"{self._path}/" if self._path else ""
        return (name[len(start) :] for name in self._files if name.startswith(start))


def opener(files: Mapping[str, bytes], shown: str) -> Callable[..., Any]:
    """Return an `open` that finds the plugin's own files, to read, where their `__file__` says: below `shown`, seen from `/`."""
    of_the_system = io.open

    @functools.wraps(of_the_system)
    def open(file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:  # noqa: A001 - it takes its place
        if not isinstance(file, int | bytes) and not set(mode) & set("wax+"):
            top, _, inside = posixpath.normpath(os.fspath(file)).lstrip("/").partition("/")
            if top == shown:
                return Place(files, inside).open(mode, *rest, **more)
        return of_the_system(file, mode, *rest, **more)

    return open


def reader(files: Mapping[str, bytes], folder: str) -> Any:
    """Return importlib.resources' reader of the package in `folder`."""
    from importlib.resources.abc import TraversableResources

    class Reader(TraversableResources):
        def files(self) -> Any:
            return Place(files, folder)

    return Reader()


def distributions(files: Mapping[str, bytes], name: str | None) -> Iterator[Any]:
    """Yield what importlib.metadata knows of the wheels among the files: all, or the one of `name`."""
    for file in files:
        if file.endswith(_DIST_INFO) and file.count("/") == 1:
            folder = file.removesuffix("/METADATA")
            if name is None or _normal(folder.partition("-")[0]) == _normal(name):
                yield _distribution()(Place(files, folder))


@functools.cache
def _distribution() -> Any:
    from importlib.metadata import Distribution

    class Wheel(Distribution):
        def __init__(self, folder: Place) -> None:
            self._folder = folder

        def read_text(self, filename: str) -> str | None:
            place = self._folder.joinpath(filename)
            return place.read_text() if place.is_file() else None

        def locate_file(self, path: Any) -> Any:
            return Place(self._folder._files, "").joinpath(str(path))  # noqa: SLF001 - of this module

    return Wheel


def _normal(name: str) -> str:
    return _DIVIDERS.sub("-", name).lower()


def modules(files: Mapping[str, bytes], folder: str, prefix: str) -> Iterator[tuple[str, bool]]:
    """Yield the modules directly in `folder` as pkgutil lists them: name, whether it is a package."""
    for place in Place(files, folder).iterdir():
        if place.joinpath("__init__.py").is_file():
            yield prefix + place.name, True
        elif place.name.endswith(".py") and place.name != "__init__.py":
            yield prefix + place.name.removesuffix(".py"), False
