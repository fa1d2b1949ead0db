"""The kernel as the launcher calls it: prctl and raw system calls by ctypes, each with its error told.

Imported by the jailed process before the lock and by the tests; it must import nothing but the standard library, for the
bootstrap loads it without the daemon's packages. Source: prctl(2), syscall(2).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

from proxy.host.sandbox.syscalls import Architecture, architecture

PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE = 1, 3, 4
PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 24, 28, 38, 39
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long  # an address would not fit in an int


class Unsupported(OSError):
    """This system has not what a layer needs."""


def known_architecture() -> Architecture:
    """Return this machine's table. Raises Unsupported."""
    found = architecture()
    if found is None:
        raise Unsupported(0, "neither x86_64 nor aarch64")
    return found


def prctl(option: int, value: int, third: int = 0) -> int:
    """Call prctl. Raises OSError."""
    return _checked("prctl", _libc.prctl, ctypes.c_int(option), *(ctypes.c_ulong(n) for n in (value, third, 0, 0)))


def call(name: str, *arguments: int | bytes | None) -> int:
    """Make a system call of the table by its name; bytes go by address. Raises OSError."""
    number = known_architecture().numbers[name]
    return _checked(name, _libc.syscall, ctypes.c_long(number), *(_word(argument) for argument in arguments))


def libc(name: str, *arguments: int | bytes | None) -> int:
    """Call a function of the C library that answers -1 and sets errno. Raises OSError."""
    return _checked(name, getattr(_libc, name), *(_word(argument) for argument in arguments))


def _word(argument: int | bytes | None) -> ctypes.c_ulong | ctypes.c_char_p:
    return ctypes.c_ulong(argument) if isinstance(argument, int) else ctypes.c_char_p(argument)


def _checked(name: str, function: Callable[..., int], *words: object) -> int:
    answer = function(*words)
    if answer < 0:
        raise _failed(name)
    return answer


def _failed(name: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{name}: {os.strerror(number)}")
