"""What goes upstream and what comes back: the envelope the proxy writes, and the caller's id put into the node's answer.

Stands between `L1` and the transports. Nothing a caller wrote reaches the node but the raw id, the raw params and a method name from
the table (hardening.md 1); nothing of a node's answer is re-encoded: the id alone is replaced, byte for byte (rpc.md, "Passed through").
Pure functions on bytes; no I/O here.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from middleware.nesting import deeper_than
from middleware.waist import Request
from proxy.upstream.incoming import Incoming
from proxy.upstream.traits import traits

_INTEGER: Final = re.compile(rb"-?[1-9][0-9]{0,18}|0")
# Printable ASCII without quote and backslash, and without the characters that some encoders echo as \uXXXX (Go: < > &; Gson: = ').
_PLAIN_STRING: Final = re.compile(rb'"[ !#-%(-;?-\[\]-~]*+"')
# Ids that every node echoes with their value; of others (floats, numbers beyond 64 bits, escapes) it may make what it likes.
_FAITHFUL: Final = re.compile(rb'-?[0-9]{1,18}|"[^"\\\x80-\xff]*"')

_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_BRACKET: Final = re.compile(rb"[{}\[\]]|" + _STRING, re.DOTALL)
_TOKEN: Final = re.compile(rb"[{}\[\],:]|" + _STRING, re.DOTALL)
_BLANK: Final = re.compile(rb"[ \t\r\n]*+")
_FIRST: Final = re.compile(
    rb'[ \t\r\n]*+\{[ \t\r\n]*+(?:"jsonrpc"[ \t\r\n]*+:[ \t\r\n]*+"2\.0"[ \t\r\n]*+,[ \t\r\n]*+)?"id"[ \t\r\n]*+:[ \t\r\n]*+'
)
_LAST: Final = re.compile(rb',[ \t\r\n]*+"id"[ \t\r\n]*+:[ \t\r\n]*+(-?[0-9]+)[ \t\r\n]*+\}[ \t\r\n]*+\Z')
_HEAD: Final = b'{"jsonrpc":"2.0","id":'
# From so many bytes on a copy costs more than a view, and a decoder more than a look at the ends of a string.
_SHORT: Final = 4096
_TEXT: Final = re.compile(rb'\{"jsonrpc":"2\.0","id":([0-9]+),"result":"')

# serde_json refuses a request nested deeper than 128 levels as a whole, and answers with id null.
_SAFE_DEPTH: Final = 64
# What Go's encoder and decoder nest at most.
_MOST_DEPTH: Final = 10_000
# How deep one slice of a deep frame is: well below what any Python's decoder recurses.
_FOLD: Final = 256


_decoder: Final = msgspec.json.Decoder(Incoming)
_UNREADABLE: Final = msgspec.Raw(b"0")
_anything: Final = msgspec.json.Decoder(msgspec.Raw)


def read(frame: bytes, *, strictly: bool = False) -> Incoming:
    """Check that `frame` is one JSON object (`strictly`: with a member "jsonrpc") and return what routes it.

    Raise `msgspec.DecodeError` otherwise.
    """
    if len(frame) > _SHORT and (number := _number_of_text(frame)) is not None:
        return Incoming("2.0", msgspec.Raw(number))
    try:
        incoming = _decoder.decode(frame)
    except RecursionError:
        incoming = _read_deep(frame)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from error
    if strictly and incoming.jsonrpc is msgspec.UNSET:
        raise msgspec.DecodeError("no JSON-RPC answer")
    return incoming


def _number_of_text(frame: bytes) -> bytes | None:
    """Return the number of an answer whose result is one string without escapes: code, what a call returned; else None.

    Such an answer is whole where its first quote is its last; a decoder takes eight times as long to say so. Control characters in
    it, which JSON would escape, are the node's and pass: its bytes are not changed.
    """
    match = _TEXT.match(frame)
    if match is None or frame.find(b'"', match.end()) != len(frame) - 2 or frame[-1:] != b"}":
        return None
    return match[1] if frame.find(b"\\") < 0 else None


def _read_deep(frame: bytes) -> Incoming:
    """Read an answer that nests deeper than the decoder recurses, as a trace of calls does (1,024 of them, two brackets each).

    The params of a push that deep are not given: they would not be what the node wrote, and nobody could read them.
    """
    if deeper_than(_MOST_DEPTH, frame):
        raise msgspec.DecodeError(f"nested more than {_MOST_DEPTH} levels deep")
    try:
        incoming = _decoder.decode(_folded(frame))
    except (RecursionError, UnicodeDecodeError) as error:
        raise msgspec.DecodeError(str(error)) from error
    if incoming.params is not msgspec.UNSET:
        incoming.params = _UNREADABLE
    return incoming


def _folded(frame: bytes) -> bytes:
    """Return `frame` with every value that begins `_FOLD` levels down (or twice, thrice…) checked on its own and written as 0.

    How deep C code recurses is fixed from Python 3.12 on, so the text is checked in slices that are never deeper.
    """
    levels: list[list[bytes]] = [[]]
    depth = copied = 0
    for match in _BRACKET.finditer(frame):
        if match[0] in (b"{", b"["):
            depth += 1
            if depth % _FOLD == 0:
                levels[-1].append(frame[copied : match.start()])
                levels.append([])
                copied = match.start()
        elif match[0] in (b"}", b"]"):
            if depth % _FOLD == 0 and len(levels) > 1:
                _anything.decode(b"".join(levels.pop()) + frame[copied : match.end()])
                levels[-1].append(b"0")
                copied = match.end()
            depth -= 1
    return b"".join(levels[0]) + frame[copied:] if len(levels) == 1 else frame


def write(request: Request, raw_id: bytes) -> bytes:
    """Return the envelope for `request` under `raw_id`; absent params stay absent."""
    member = traits(request.method).member
    if request.params:
        return b'{"jsonrpc":"2.0","id":%b%b,"params":%b}' % (raw_id, member, request.params)
    return b'{"jsonrpc":"2.0","id":%b%b}' % (raw_id, member)


def travels_alone(request: Request) -> bool:
    """Tell whether `request` needs a connection of its own instead of a number on a shared socket.

    That is so for an id a node might echo in another spelling, and for params a node may refuse to parse at all: such an answer
    carries id null and could not be told from another's.
    """
    raw_id, params = request.id, request.params
    # A lone surrogate or broken UTF-8 spoils the whole envelope for a node.
    if not params.isascii() or (b"\\" in params and b"\\u" in params):
        return True
    if len(params) > 2 * _SAFE_DEPTH and deeper_than(_SAFE_DEPTH, params):
        return True
    if raw_id is not None and raw_id.isdigit() and len(raw_id) < 19 and (raw_id[0] != 0x30 or len(raw_id) == 1):
        return False  # the usual one, told without a pattern
    return not _replaceable(raw_id)


def put_back(frame: bytes, raw_id: bytes) -> bytes:
    """Return the node's answer with its top-level id replaced by `raw_id`; every other byte stays."""
    if frame.startswith(_HEAD):
        start = len(_HEAD)
        end = frame.find(b",", start)
        if not (end > 0 and frame[start:end].isdigit()):
            start, end = _id_span(frame)
    else:
        start, end = _id_span(frame)
    if len(frame) < _SHORT:
        return frame[:start] + raw_id + frame[end:]
    return b"".join((frame[:start], raw_id, memoryview(frame)[end:]))


def is_of_another(found: bytes, raw_id: bytes) -> bool:
    """Tell whether an answer with id `found` is none to `raw_id`; null is what a node says that could not read the request."""
    if found == b"null" or not _FAITHFUL.fullmatch(raw_id):
        return False
    return found[:1] in (b"{", b"[") or bool(msgspec.json.decode(found) != msgspec.json.decode(raw_id))


def number_at_head(head: bytes) -> bytes | None:
    """Return the number an answer of ours begins with, from its first bytes alone; None where they do not tell."""
    match = re.match(rb"(\d+)\s*[,}]", head[m.end() :]) if (m := _FIRST.match(head)) else None
    return match[1] if match else None


def number_at_end(tail: bytes) -> tuple[int, int] | None:
    """Return where an answer's number stands in its last bytes, if it ends with its id; None where they do not tell."""
    match = _LAST.search(tail)
    return match.span(1) if match else None


def _replaceable(raw_id: bytes | None) -> bool:
    if raw_id is None or raw_id == b"null":
        return True
    if _INTEGER.fullmatch(raw_id):
        return -(2**63) <= int(raw_id) < 2**63
    return _PLAIN_STRING.fullmatch(raw_id) is not None


def _id_span(frame: bytes) -> tuple[int, int]:
    """Return where the value of the top-level "id" (a number of ours) begins and ends."""
    if match := _FIRST.match(frame):
        return match.end(), match.end() + _number_length(frame, match.end())
    # A frame is one whole object, so what its last brace closes is the top level.
    if match := _LAST.search(frame, max(0, len(frame) - 200)):
        return match.span(1)
    return _scan_for_id(frame)


def _scan_for_id(frame: bytes) -> tuple[int, int]:
    depth = 0
    key_expected = False
    for match in _TOKEN.finditer(frame):
        token = match[0]
        if token in (b"{", b"["):
            depth += 1
            key_expected = depth == 1
        elif token in (b"}", b"]"):
            depth -= 1
        elif token == b",":
            key_expected = depth == 1
        elif depth == 1 and key_expected and token[0] == 0x22:
            key_expected = False
            if token == b'"id"':
                start = _after_colon(frame, match.end())
                return start, start + _number_length(frame, start)
    raise ValueError("the answer has no id")


def _after_colon(frame: bytes, position: int) -> int:
    colon = _BLANK.match(frame, position)
    assert colon is not None  # noqa: S101  (the pattern matches the empty string)
    value = _BLANK.match(frame, colon.end() + 1)
    assert value is not None  # noqa: S101
    return value.end()


def _number_length(frame: bytes, start: int) -> int:
    end = start
    while end < len(frame) and frame[end] in b"-0123456789":
        end += 1
    return end - start
