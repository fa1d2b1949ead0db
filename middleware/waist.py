"""The waist of the proxy: what a door hands to the chain and what the chain hands back.

Four nouns tell the whole flow. A `Request` is one JSON-RPC call with its raw params; a `Context` is what is known about it
beside its text (who asks, over which connection); a link is `(Request, Context, Next) -> Awaitable[Answer]`; an `Answer` is
either a result the proxy wrote (`Result`) or the node's own bytes (`NodeReply`; a `LargeReply` holds them in a file). A link returns an answer, calls `next`
(perhaps with a changed copy of the request), or raises an `RpcError`. Nobody writes into an answer.

This module must never do I/O and never import anything of `proxy`.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol, TypeAlias

import msgspec

from middleware.errors import Disconnected, RpcError


class OriginKind(enum.Enum):
    """How the door established who asks (rpc.md, "Identity"); never taken from params."""

    WEB = "web"
    TOKEN = "token"  # noqa: S105
    SOCKET = "socket"
    PLUGIN = "plugin"
    ANONYMOUS = "anonymous"
    OWNER = "owner"  # the admin socket; never reaches the dapp chain


@dataclass(frozen=True, slots=True)
class Origin:
    """Who asks. `name` is the web origin, the token's name or the plugin's id; empty for socket and anonymous."""

    kind: OriginKind
    name: str = ""
    _text: str = field(init=False, repr=False, compare=False)  # asked for many times in every call

    def __post_init__(self) -> None:
        match self.kind:
            case OriginKind.WEB:
                text = self.name
            case OriginKind.TOKEN | OriginKind.PLUGIN:
                text = f"{self.kind.value}:{self.name}"
            case _:
                text = str(self.kind.value)
        object.__setattr__(self, "_text", text)

    def __str__(self) -> str:
        return self._text

    @classmethod
    def web(cls, origin: str) -> Origin:
        """Return the identity of a page; `origin` is an already checked `scheme://host[:port]`."""
        return cls(OriginKind.WEB, origin)

    @classmethod
    def token(cls, name: str) -> Origin:
        """Return the identity of a bearer token by its name."""
        return cls(OriginKind.TOKEN, name)

    @classmethod
    def plugin(cls, plugin_id: str) -> Origin:
        """Return the identity of a plugin."""
        return cls(OriginKind.PLUGIN, plugin_id)


SOCKET = Origin(OriginKind.SOCKET)
ANONYMOUS = Origin(OriginKind.ANONYMOUS)
OWNER = Origin(OriginKind.OWNER)


class Presence(Protocol):
    """Whether the one who asked is still there to hear the answer (a closed HTTP connection is not)."""

    @property
    def here(self) -> bool:
        """Tell whether the asker can still be answered."""

    async def gone(self) -> None:
        """Return once the asker has gone."""

    async def back(self) -> None:
        """Return once an asker is there (at once if one is)."""


class Connection(Protocol):
    """A connection that can be written to outside of an answer (WebSocket, unix socket): where subscriptions push."""

    def push(self, method: str, params: Any) -> None:
        """Queue one notification `{"jsonrpc":"2.0","method":method,"params":params}`; a reader too slow is closed."""

    def push_raw(self, frame: bytes) -> None:
        """Queue one ready frame."""

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call `callback` once when the connection ends (at once if it has ended)."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """One JSON-RPC call. `params` is the raw JSON array or object (`b""`: absent); `id` the raw id (`None`: notification)."""

    method: str
    params: bytes = b""
    id: bytes | None = None


class Result(msgspec.Struct, frozen=True):
    """A result the proxy answers itself: the raw JSON of the `result` member."""

    json: bytes


class NodeReply(msgspec.Struct, frozen=True, gc=False):
    """The L1 node's own answer, byte for byte, with the caller's id already in it; may carry an error member."""

    body: bytes

    def result(self) -> Any:
        """Return the decoded result, or raise the node's error as an `RpcError`; `Disconnected` for what is no answer."""
        try:
            reply = msgspec.json.decode(self.body, type=_Reply)
            value = None if reply.result is msgspec.UNSET else msgspec.json.decode(reply.result)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Disconnected(
                "the L1 node answered with something that is not JSON-RPC, or nested too deeply"
            ) from error
        if reply.error is not None:
            raise _error_of(reply.error)
        return value


@dataclass(frozen=True, slots=True, eq=False)
class LargeReply:
    """The L1 node's own answer with the caller's id in it, too large to be held in memory: in an unlinked file.

    Whoever takes it sends it part by part and closes it; `length` is in bytes.
    """

    file: BinaryIO
    length: int

    def parts(self, size: int = 256 * 1024) -> Iterator[bytes]:
        """Give the answer in order, at most `size` bytes at a time; may be called again."""
        for offset in range(0, self.length, size):
            yield os.pread(self.file.fileno(), min(size, self.length - offset), offset)

    def read(self) -> NodeReply:
        """Return the whole answer in memory, for a link that must look into it, and close the file."""
        body = b"".join(self.parts())
        self.close()
        return NodeReply(body)

    def result(self) -> Any:
        """Return the decoded result, or raise the node's error; closes the file."""
        return self.read().result()

    def close(self) -> None:
        """Give the disk space back."""
        self.file.close()


class _Reply(msgspec.Struct):
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: Any = None


def _error_of(error: Any) -> RpcError:
    """Return a node's error object as it was meant, also where a node keeps to no form."""
    if not isinstance(error, dict):
        return RpcError(-32603, str(error))
    code = error.get("code")
    return RpcError(code if isinstance(code, int) else -32603, str(error.get("message", "")), error.get("data"))


Answer: TypeAlias = Result | NodeReply | LargeReply


async def _no_dispatch(request: Request) -> Answer:
    raise RuntimeError(f"this context has no chain to dispatch {request.method} to")


@dataclass(frozen=True, slots=True)
class Context:
    """What is known about a request beside its text.

    `dispatch` enters another method's whole chain, permission included: the only way for a link to call another method
    (hardening.md 4). `serving` is the origin a plugin says it acts for; shown to the owner, never an authority.
    """

    origin: Origin
    transport: str = ""
    connection: Connection | None = None
    presence: Presence | None = None
    dispatch: Callable[[Request], Awaitable[Answer]] = field(default=_no_dispatch, repr=False, compare=False)
    serving: Origin | None = None


def with_presence(context: Context, presence: Presence) -> Context:
    """Return `context` with another presence; `dataclasses.replace` would take three times as long."""
    return Context(context.origin, context.transport, context.connection, presence, context.dispatch, context.serving)


Next: TypeAlias = Callable[[Request, Context], Awaitable[Answer]]
Middleware: TypeAlias = Callable[[Request, Context, Next], Awaitable[Answer]]
Handler: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
"""Answers one method of the proxy's own: decoded params (list, dict or None) and context in, a JSON value out."""


def result(value: Any) -> Result:
    """Return `value` (JSON types only) as a result."""
    return Result(msgspec.json.encode(value))


def answered(answer: Answer) -> Any:
    """Return the decoded result of any answer, or raise the node's error."""
    return msgspec.json.decode(answer.json) if isinstance(answer, Result) else answer.result()
