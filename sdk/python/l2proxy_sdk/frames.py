"""One line of the channel: bytes to a JSON-RPC message and back.

The first gate of everything that comes from the proxy, and the last of what goes to it. It must never let a line through
that two parsers could read differently: NaN, lone surrogates, duplicate keys and lines over 1 MiB are refused
(plugin.md, "Plugins").
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from .errors import ChannelClosed

MAX_LINE = 1 << 20  # bytes, the newline included
MAX_NESTING = 64  # of what we say: a line nested deeper ends the process, so it is refused here
MAX_DEPTH = 512  # json recurses in C; where a library raised Python's limit, depth ends the process instead of raising

_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)


class BadFrame(ChannelClosed):
    """A line that is not a frame; the message says why."""


def parse(line: bytes) -> dict[str, Any]:
    """Return the JSON object on `line` (with or without its newline). Raises BadFrame."""
    if len(line) > MAX_LINE:
        raise BadFrame(f"a line of {len(line)} bytes; the limit is {MAX_LINE}")
    if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _depth(line) > MAX_DEPTH:
        raise BadFrame(f"a line nested deeper than {MAX_DEPTH}")
    try:
        message = _decoder.decode(line.decode("utf-8"))
        if b"\\u" in line:
            json.dumps(message, ensure_ascii=False).encode("utf-8")  # a lone surrogate cannot be encoded
    except BadFrame:
        raise
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"a line that is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise BadFrame(f"a line holds one JSON object, not {type(message).__name__}")
    if message.get("jsonrpc") != "2.0":
        raise BadFrame('a message without "jsonrpc": "2.0"')
    return message


def encode(message: dict[str, Any]) -> bytes:
    """Return `message` as one line with its newline. Raises ValueError for what JSON or the line limit cannot carry."""
    try:
        line = _encoder.encode(message).encode("utf-8") + b"\n"
        _refuse_doubled(message)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"not a JSON value: {error}") from None
    if len(line) > MAX_LINE:
        raise ValueError(f"a message of {len(line)} bytes; the limit of the channel is {MAX_LINE}")
    if line.count(b"[") + line.count(b"{") > MAX_NESTING and _depth(line) > MAX_NESTING:
        raise ValueError(f"a value nested deeper than {MAX_NESTING}")
    return line


def named(pairs: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a mapping by the names its keys have in JSON. Raises ValueError where two keys have one name, as 1 and "1" do."""
    members = {key if isinstance(key, str) else _NAMES(key): value for key, value in pairs.items()}
    if len(members) != len(pairs):
        raise ValueError("two keys of an object have one name in JSON, where every name is a text")
    return members


def _refuse_doubled(message: dict[str, Any]) -> None:
    """Raise ValueError for an object that would name a member twice: the proxy ends a process that says so."""
    waiting: list[Any] = [message]  # encoded before: it holds no circle
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if not {*map(type, value)} <= _TEXT:
                named(value)
            waiting += [item for item in value.values() if type(item) not in _PLAIN]
        elif isinstance(value, list | tuple):
            waiting += [item for item in value if type(item) not in _PLAIN]


def _depth(line: bytes) -> int:
    """Return how deep the brackets outside strings nest."""
    depth = deepest = 0
    for byte in _STRING.sub(b"", line).translate(None, _NO_BRACKETS):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise BadFrame("an object names one member twice")
    return members


def _no_constant(name: str) -> Any:
    raise BadFrame(f"{name} is not JSON")


# Made once: the functions of `json` would make one for each line.
_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_NAMES = json.JSONEncoder().encode  # of the keys that are no texts: numbers, true, false, null
_TEXT = frozenset({str})
_PLAIN = frozenset({str, int, float, bool, type(None)})
