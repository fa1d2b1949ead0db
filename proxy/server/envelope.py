"""The JSON-RPC 2.0 envelope: bytes in, calls out; answers in, bytes out. No I/O, nothing of who asks.

Between a door (HTTP, WebSocket, unix socket) and the chain. Params and ids are kept raw and never re-encoded. A body with
a member twice is refused, other members are dropped here and now: what the node reads may never differ from what was
judged (hardening.md 1). Specification: jsonrpc.org/specification; "Equal" of rpc.md.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import UNSET, Raw

from middleware.errors import InvalidRequest, LimitExceeded, ParseError, RpcError
from middleware.nesting import deeper_than
from middleware.waist import Answer, NodeReply, Request, Result
from proxy.server.bodies import Body
from proxy.server.members import Members, UsualMembers

VERSION: Final = b'"2.0"'
MOST_DEPTH: Final = 128  # of brackets; what serde, and with it most nodes, reads
MOST_MEMBERS: Final = 1000  # of one call: four have a meaning, and each is looked at
NULL: Final = b"null"


class Invalid:
    """A call that cannot be made: the error it is answered with and the raw id to answer to (`null` if unreadable).

    `first`: of a whole batch, the raw id of its first call; None for all else.
    """

    __slots__ = ("error", "first", "id")

    def __init__(self, error: RpcError, raw_id: bytes = NULL, first: bytes | None = None) -> None:
        self.error = error
        self.id = raw_id
        self.first = first


class Batch:
    """The calls of a JSON array, in its order."""

    __slots__ = ("calls",)

    def __init__(self, calls: list[Request | Invalid]) -> None:
        self.calls = calls


_bytes: Final = b"".join  # of a Raw: in a third of the time that bytes() takes
_usual: Final = msgspec.json.Decoder(UsualMembers)
_envelope: Final = msgspec.json.Decoder(Members)
_members: Final = msgspec.json.Decoder(dict[str, Raw])
_items: Final = msgspec.json.Decoder(list[Raw])
_text: Final = msgspec.json.Decoder(str)
_SPACE: Final = b" \t\r\n"
_FRAME: Final = len(b'{"jsonrpc":"2.0","id":,"method":"","params":}')
_BEGINS_ID: Final = b'"-0123456789n'
_KEY: Final = re.compile(rb'[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*")[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_NEXT: Final = re.compile(rb"[ \t\r\n]*([,}])")


def parse(body: bytes, most_items: int) -> Request | Invalid | Batch:
    """Return the call or calls of one body; whatever is wrong comes back as `Invalid`, nothing is raised."""
    try:
        if len(body) > MOST_DEPTH and deeper_than(MOST_DEPTH, body):
            return Invalid(InvalidRequest(f"the request is nested more than {MOST_DEPTH} levels deep"))
        if not body.isascii():
            body.decode()  # the JSON decoder does not look into what it skips
        if body.startswith(b"{"):
            return _call(body)
        if body.lstrip(_SPACE).startswith(b"["):
            return _batch(_items.decode(body), most_items)
        return _call(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Invalid(ParseError())


def _batch(items: list[Raw], most_items: int) -> Batch | Invalid:
    if not items:
        return Invalid(InvalidRequest("an empty batch"))
    if len(items) > most_items:
        message = f"a batch of {len(items)} calls; at most {most_items} are answered ([limits] batch)"
        return Invalid(LimitExceeded("batch", message), first=_first_id(items[:most_items]))
    return Batch([_call(bytes(item)) for item in items])


def _first_id(items: list[Raw]) -> bytes | None:
    """Return the raw id of the first call that wants an answer."""
    for item in items:
        call = _call(bytes(item))
        if type(call) is Request and call.id is not None:
            return call.id
    return None


def _call(body: bytes) -> Request | Invalid:
    try:
        usual = _usual.decode(body)
    except msgspec.ValidationError:
        return _unusual(body)
    version, raw_id, method, params = usual.jsonrpc, _bytes((usual.id,)), usual.method, _bytes((usual.params,))
    if (
        len(raw_id) + len(method) + len(params) + _FRAME == len(body)
        and version == "2.0"
        and raw_id[0] in _BEGINS_ID
        and params[0] in b"[{"
    ):
        return Request(method, params, raw_id)
    return _unusual(body)


def _unusual(body: bytes) -> Request | Invalid:
    try:
        read = _envelope.decode(body)
    except msgspec.ValidationError:
        return Invalid(InvalidRequest("a call is a JSON object"))
    raw_id = None if read.id is UNSET else bytes(read.id)
    if not _is_compact(body, read) and (flaw := _flaw_of_members(body)) is not None:
        return Invalid(InvalidRequest(flaw))
    if raw_id is not None and raw_id[:1] in b"{[":  # true and false go on raw: some nodes echo them, some refuse
        return Invalid(InvalidRequest("an id is a string, a number or null"))
    problem, method = _method(read)
    if problem is not None:
        return Invalid(InvalidRequest(problem), NULL if raw_id is None else raw_id)
    return Request(method, b"" if read.params is UNSET else bytes(read.params), raw_id)


def _method(read: Members) -> tuple[str | None, str]:
    """Return what is wrong with the envelope, or None and the method's name."""
    if read.jsonrpc is UNSET or (bytes(read.jsonrpc) != VERSION and not _is_version(read.jsonrpc)):
        return 'jsonrpc must be "2.0"', ""
    if read.method is UNSET or bytes(read.method)[:1] != b'"':
        return "method must be a string", ""
    # null is what geth takes for absent; it goes on raw, and the node decides.
    if read.params is not UNSET and bytes(read.params)[:1] not in b"[{n":
        return "params must be an array or an object", ""
    return None, _text.decode(read.method)


def _is_version(raw: Raw) -> bool:
    return bytes(raw)[:1] == b'"' and _text.decode(raw) == "2.0"


def _is_compact(body: bytes, read: Members) -> bool:
    """Tell whether `body` is exactly the members read, without spaces: then there is no room for another one."""
    length = 1  # braces and commas: one more than there are members
    for name_length, raw in ((7, read.jsonrpc), (2, read.id), (6, read.method), (6, read.params)):
        if raw is not UNSET:
            length += name_length + 4 + len(memoryview(raw))  # quotes, colon, comma
    return length == len(body)


def _flaw_of_members(body: bytes) -> str | None:
    """Return what is wrong with the top-level members of an object (valid JSON): one stands twice, or there are too many.

    The decoder gives every member's last value; a member whose value in place is another one stands there twice. So no
    value has to be scanned through, however large.
    """
    raws = _members.decode(body)
    if len(raws) > MOST_MEMBERS:
        return f"a call of {len(raws)} members; at most {MOST_MEMBERS} are read"
    return "a member stands twice" if _repeats_a_member(body, raws) else None


def _repeats_a_member(body: bytes, raws: dict[str, Raw]) -> bool:
    values = {name: bytes(raw) for name, raw in raws.items()}
    seen: set[str] = set()
    at = body.index(b"{") + 1
    while key := _KEY.match(body, at):
        name = _text.decode(key[1])
        value = values[name]
        if name in seen or not body.startswith(value, key.end()):
            return True
        seen.add(name)
        after = _NEXT.match(body, key.end() + len(value))
        if after is None:  # the value in place only begins like the last one: a longer number
            return True
        at = after.end()
    return False


def success(raw_id: bytes, result: bytes) -> bytes:
    """Return the body of a result; both are raw JSON."""
    return b'{"jsonrpc":"2.0","id":' + raw_id + b',"result":' + result + b"}"


def failure(raw_id: bytes, error: RpcError) -> bytes:
    """Return the body of an error."""
    return b'{"jsonrpc":"2.0","id":' + raw_id + b',"error":' + _encode(error) + b"}"


def _encode(error: RpcError) -> bytes:
    return msgspec.json.encode(error.to_json())


def body_of(answer: Answer, raw_id: bytes) -> Body:
    """Return an answer's body; the node's own bytes stay as they are, and where they are."""
    if isinstance(answer, NodeReply):
        return answer.body
    return success(raw_id, answer.json) if isinstance(answer, Result) else answer


def notification(method: str, params: object) -> bytes:
    """Return the frame of a notification the proxy pushes."""
    return msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params})
