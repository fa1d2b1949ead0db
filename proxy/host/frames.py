"""One line of the channel, strictly: bytes of an untrusted process to a message, and a message to bytes.

The first gate of everything a plugin says. A line two parsers could read differently never passes: duplicate members, NaN
and infinities, lone surrogates, numbers beyond any use, and what is not one JSON object (plugin.md, "Plugins"). The line
limit is checked before the parser sees a byte.
"""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from middleware.nesting import deeper_than

MAX_NESTING = 64  # arrays and objects inside one another in one line or file
MAX_LINE = 1 << 20  # bytes, the newline included


_VALUE = 64  # bytes of a small value


class BadFrame(ValueError):
    """A line that is not a frame; the message says why."""


def parse(line: bytes) -> dict[str, Any]:
    """Return the JSON object on `line`. Raises BadFrame."""
    if len(line) > MAX_LINE:
        raise BadFrame(f"a line over {MAX_LINE} bytes")
    if deeper_than(MAX_NESTING, line):
        raise BadFrame("a line nested too deeply")
    try:
        message = _decoder.decode(line.decode("utf-8"))
        if b"\\u" in line:
            json.dumps(message, ensure_ascii=False).encode("utf-8")  # a lone surrogate cannot be encoded
    except BadFrame:
        raise
    except UnicodeError:
        raise BadFrame("a line that is not UTF-8, or holds a lone surrogate") from None
    except ValueError:
        raise BadFrame("a line that is not JSON") from None
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise BadFrame("a line that is not a JSON-RPC 2.0 message")
    return message


def weight(line: bytes) -> int:
    """Return about how many bytes a line takes once it is parsed: a mebibyte of empty lists takes twenty times as much."""
    return len(line) + _VALUE * (line.count(b",") + line.count(b"[") + line.count(b"{"))


def encode(message: dict[str, Any]) -> bytes:
    """Return `message` as one line. Raises BadFrame for what JSON or the line limit cannot carry."""
    try:
        line = _encoded(message)
    except (TypeError, ValueError, RecursionError):
        raise BadFrame("a message that is not JSON") from None
    if len(line) > MAX_LINE:
        raise BadFrame(f"a message over {MAX_LINE} bytes")
    return line


def _encoded(message: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(message) + b"\n"
    except (OverflowError, UnicodeEncodeError):  # an integer of more than 64 bits, which JSON can carry
        return json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8") + b"\n"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise BadFrame("an object names one member twice")
    return members


def _no_constant(name: str) -> Any:
    raise BadFrame(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadFrame("a number beyond all bounds")
    return number


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
