"""What a plugin may import of the standard library, loaded or read before the lock: afterwards there is no file to read.

Extension modules and what the SDK needs are imported; the rest of the list is kept as bytes and imported from memory when a
plugin asks for it. OpenSSL stays outside: nothing of a plugin speaks TLS, and it would be the largest piece of native code in
reach (hashlib then uses CPython's own digests). Must be called before anything imports ssl.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator

from proxy.host.sandbox.nameless import LIBRARY

WITHHELD = ("ssl", "_ssl", "_hashlib")

_EXTENSIONS = """
    _bisect _blake2 _contextvars _csv _ctypes _datetime _decimal _elementtree _heapq _json _md5 _opcode _pickle
    _queue _random _sha1 _sha2 _sha256 _sha3 _sha512 _socket _statistics _struct _zoneinfo array binascii cmath fcntl math
    pyexpat select unicodedata zlib
"""
EXTENSIONS = tuple(_EXTENSIONS.split())

_NEEDED = """
    asyncio base64 contextlib ctypes dataclasses datetime decimal enum functools hashlib hmac inspect itertools json linecache
    logging random re secrets struct traceback typing
"""
NEEDED = tuple(_NEEDED.split())

_KEPT = """
    __future__ _compat_pickle _compression _strptime _weakrefset abc argparse ast bisect calendar cmd codecs collections colorsys
    concurrent configparser contextvars copy copyreg csv dis difflib email encodings fnmatch fractions getopt gettext glob
    graphlib gzip heapq html http importlib ipaddress keyword locale mimetypes numbers opcode operator optparse pathlib pickle
    pkgutil platform pprint queue quopri reprlib sched shlex shutil signal socket selectors statistics string stringprep
    subprocess tempfile textwrap threading timeit token tokenize tomllib types unittest urllib uuid warnings weakref xml zipfile
"""
KEPT = tuple(_KEPT.split())

_SOURCE_ALONE = 16  # bytes of a .pyc before its code: magic, flags, time and size of the source
_UNWANTED = ("__pycache__", "test", "tests")


class Kept:
    """One module of the standard library as it was read: its file as tracebacks name it, whether it is a package, and source or marshalled code."""

    __slots__ = ("compiled", "data", "is_package", "path")

    def __init__(self, path: str, is_package: bool, data: bytes, compiled: bool) -> None:
        self.path = path
        self.is_package = is_package
        self.data = data
        self.compiled = compiled


def withhold() -> None:
    """Make the modules of `WITHHELD` unimportable; libraries that can do without them then do."""
    for name in WITHHELD:
        sys.modules[name] = None  # type: ignore[assignment]


def load() -> None:
    """Import what must not be looked for later."""
    for name in (*NEEDED, *EXTENSIONS):  # in this order: _asyncio before asyncio would leave two kinds of tasks
        with contextlib.suppress(ImportError):  # versions of Python differ in how they cut their extensions
            importlib.import_module(name)


def keep() -> dict[str, Kept]:
    """Read the modules of `KEPT` that are not imported yet, with everything below them; return them by name."""
    home = os.path.dirname(os.__file__)
    found: dict[str, Kept] = {}
    for name in KEPT:
        folder = os.path.join(home, name)
        if os.path.isdir(folder):
            found.update(_package(name, folder))
        elif os.path.isfile(folder + ".py") and name not in sys.modules:
            found[name] = _read(folder + ".py", is_package=False)
    return found


def _package(name: str, folder: str) -> Iterator[tuple[str, Kept]]:
    for row in os.scandir(folder):
        if row.name == "__init__.py":
            if name not in sys.modules:
                yield name, _read(row.path, is_package=True)
        elif row.name.endswith(".py") and not row.name.startswith(("cp", "mac_", "iso", "koi", "big5", "euc", "gb")):
            full = f"{name}.{row.name[:-3]}"
            if full not in sys.modules:
                yield full, _read(row.path, is_package=False)
        elif row.name not in _UNWANTED and row.is_dir():
            yield from _package(f"{name}.{row.name}", row.path)


def _read(path: str, *, is_package: bool) -> Kept:
    """Return a module, as compiled code where the interpreter has it at hand and it fits the source."""
    shown = os.path.join(LIBRARY, os.path.relpath(path, os.path.dirname(os.__file__)))
    try:
        with open(importlib.util.cache_from_source(path), "rb") as file:
            data = file.read()
        written = os.stat(path)
        expected = importlib.util.MAGIC_NUMBER + bytes(4)
        expected += (int(written.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little")
        expected += (written.st_size & 0xFFFFFFFF).to_bytes(4, "little")
        if data[:_SOURCE_ALONE] == expected:
            return Kept(shown, is_package, data[_SOURCE_ALONE:], True)
    except OSError:
        pass  # no compiled form: the source does as well
    with open(path, "rb") as file:
        return Kept(shown, is_package, file.read(), False)
