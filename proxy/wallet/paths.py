"""Derivation paths as tuples of integers: the one place that reads their text.

A plugin's own path is hardened throughout, so `N'` is simply N, a number below 2^31 without the hardening bit; a plain `N`,
which only a relative path may have, is the complement ~N (negative). Text is checked here once, and keys are derived from
the integers alone, never from text: hdwallet accepts ranges, spaces, `00` and numbers whose high bit makes them the main
account (hardening.md 27). Source: BIP-32, BIP-43, security.md 17.
"""

from __future__ import annotations

import re
from typing import TypeAlias

Path: TypeAlias = tuple[int, ...]

HARDENED = 1 << 31
MAX_DEPTH = 32
FORBIDDEN = frozenset({44, 45, 48, 49, 54, 84, 86, 87, 1017, 1852, 9797, 12381, 83696968})
"""Purposes of other wallets (BIP-43 and SLIP-44 users): no plugin may stand below them."""

_NUMBER = r"(?:0|[1-9][0-9]{0,9})"
_ABSOLUTE = re.compile(rf"m(?:/{_NUMBER}')+", re.ASCII)
_RELATIVE = re.compile(rf"{_NUMBER}'?(?:/{_NUMBER}'?)*", re.ASCII)


class PathError(ValueError):
    """The path cannot be used; the message says why."""


def parse_absolute(text: str) -> Path:
    """Return the integers of `m/7002'/0'`. Raise `PathError` unless it is exactly `m(/N')+` with decimal N < 2^31."""
    if len(text) > 512 or _ABSOLUTE.fullmatch(text) is None:
        raise PathError("a path reads m/7002'/0'/0': decimal numbers without leading zeros, each with '")
    return _numbers(text.split("/")[1:])


def parse_relative(text: str) -> Path:
    """Return the integers of `0'/1'` (`""`: the place itself). Raise `PathError` unless it is exactly `N'?(/N'?)*`."""
    if not text:
        return ()
    if len(text) > 512 or _RELATIVE.fullmatch(text) is None:
        raise PathError("a relative path reads 0'/1': decimal numbers without leading zeros, each with or without '")
    return _numbers(text.split("/"))


def parse_plugin_path(text: str) -> Path:
    """Return the path a plugin may be bound to: depth 3 or more, below no other wallet's purpose. Raise `PathError`."""
    path = parse_absolute(text)
    if len(path) < 3:
        raise PathError(f"{text} is too short: a plugin's path has at least three components")
    if path[0] in FORBIDDEN:
        raise PathError(
            f"{text} lies below purpose {path[0]}', which belongs to other wallets; take m/7002'/… or the like"
        )
    return path


def overlaps(first: Path, second: Path) -> bool:
    """Tell whether one path is a prefix of the other (equal ones are)."""
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]


def text_of(path: Path) -> str:
    """Return `m/7002'/0'/5` for (7002, 0, ~5)."""
    return "/".join(["m", *(f"{number}'" if number >= 0 else str(~number) for number in path)])


def indexes(path: Path) -> Path:
    """Return BIP-32's indexes of a path, 2^31 and above for hardened ones. Raise `PathError` for what is no path."""
    if len(path) > MAX_DEPTH:
        raise PathError(f"a path has at most {MAX_DEPTH} components")
    for number in path:
        if type(number) is not int or not -HARDENED <= number < HARDENED:
            raise PathError("each component of a path is an integer from 0 to 2147483647")
    return tuple(number + HARDENED if number >= 0 else ~number for number in path)


def _numbers(parts: list[str]) -> Path:
    path = tuple(int(part[:-1]) if part.endswith("'") else ~int(part) for part in parts)
    indexes(path)
    return path
