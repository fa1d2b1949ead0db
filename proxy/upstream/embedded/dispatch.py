"""From the bytes of one JSON-RPC value to the bytes of its answer.

Runs on the worker thread, one value at a time, so answers keep the order of questions. Ids travel as the raw bytes they came in.
Must never let a traceback out: an unforeseen failure is logged under an opaque id and answered -32603.
Source: JSON-RPC 2.0.
"""

from __future__ import annotations

import logging
import secrets

import msgspec

from proxy.upstream.embedded.errors import INTERNAL, INVALID_REQUEST, PARSE, NodeError, not_served
from proxy.upstream.embedded.methods import METHODS
from proxy.upstream.embedded.node import Node
from proxy.upstream.embedded.params import bind

MAX_BATCH = 1000
"""Most requests in a batch."""

_log = logging.getLogger(__name__)
_NULL = b"null"


class _Envelope(msgspec.Struct):
    """A request before anything of it is believed."""

    jsonrpc: object = None
    method: object = None
    params: object = None
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_batch = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def answer(node: Node, raw: bytes) -> bytes | None:
    """Answer a request or a batch; None where only notifications came."""
    if not raw.lstrip().startswith(b"["):
        return _answer_one(node, raw)
    try:
        requests = _decode_batch(raw)
    except (msgspec.DecodeError, RecursionError):
        return failed(_NULL, NodeError(PARSE, "parse error: the batch is not valid JSON"))
    if not 0 < len(requests) <= MAX_BATCH:
        return failed(
            _NULL, NodeError(INVALID_REQUEST, f"a batch holds 1 to {MAX_BATCH} requests, got {len(requests)}")
        )
    answers = [one for one in (_answer_one(node, bytes(request)) for request in requests) if one is not None]
    return b"[" + b",".join(answers) + b"]" if answers else None


def failed(request_id: bytes, error: NodeError) -> bytes:
    """Write an error response."""
    member: dict[str, object] = {"code": error.code, "message": error.message}
    if error.data is not None:
        member["data"] = error.data
    return b'{"jsonrpc":"2.0","id":' + request_id + b',"error":' + msgspec.json.encode(member) + b"}"


def _answer_one(node: Node, raw: bytes) -> bytes | None:
    try:
        envelope = _decode_envelope(raw)
    except msgspec.ValidationError:
        return failed(_NULL, NodeError(INVALID_REQUEST, "invalid request: expected an object"))
    except (msgspec.DecodeError, RecursionError):
        return failed(_NULL, NodeError(PARSE, "parse error: the request is not valid JSON"))
    if envelope.jsonrpc != "2.0" or not isinstance(envelope.method, str) or not _is_id(envelope.id):
        return failed(
            _NULL, NodeError(INVALID_REQUEST, 'invalid request: expected jsonrpc "2.0", a method and a plain id')
        )
    try:
        result = msgspec.json.encode(_run(node, envelope.method, envelope.params))
    except NodeError as error:
        response = error
    else:
        if isinstance(envelope.id, msgspec.UnsetType):
            return None
        return b'{"jsonrpc":"2.0","id":' + bytes(envelope.id) + b',"result":' + result + b"}"
    return None if isinstance(envelope.id, msgspec.UnsetType) else failed(bytes(envelope.id), response)


def _is_id(value: msgspec.Raw | msgspec.UnsetType) -> bool:
    return isinstance(value, msgspec.UnsetType) or bytes(value)[:1] in b'"-0123456789n'


def _run(node: Node, name: str, params: object) -> object:
    method = METHODS.get(name)
    if method is None:
        raise not_served(name)
    values = bind(method.params, params)
    try:
        return method.run(node, *values)
    except NodeError:
        raise
    except Exception:  # noqa: BLE001 -- the last line: logged with its traceback, told to the caller by its mark
        mark = secrets.token_hex(6)
        _log.exception("internal error %s in %s", mark, name)
        raise NodeError(INTERNAL, f"internal error {mark}; the log of the embedded L1 says more") from None
