"""Where a request goes when a node did not answer it: to the same one once more, to the next, or nowhere.

Used by `L1` off the hot path. A read is repeated once at the same node if its kept connection died before anything was received, and
then asked of the next; so is one whose answer was unusable, or refused for being one too many (HTTP 429 and 5xx, error -32005). What may have
taken effect is asked of nobody else. The one exception is `eth_sendRawTransaction`: the same signed bytes can take effect only once, so
they go to the next node; if that refuses them, because they are there already, it is asked for the transaction by its hash,
and a node that knows it has accepted it: the hash is the answer. No node's wording of "already known" needs to be known. A transaction no
node knows keeps the second node's error as it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol, TypeGuard

import msgspec
from eth_utils.crypto import keccak

from middleware.errors import Disconnected, RpcError
from middleware.log_refusals import names_too_much
from middleware.waist import LargeReply, NodeReply, Request
from proxy.upstream.failures import Broken, Late, NodeFailure, Overloaded, WrongChain
from proxy.upstream.repeatable import may_repeat
from proxy.upstream.traits import traits

_LIMITED = b"-32005"
_SHORT = 4096


class _Named(Protocol):
    @property
    def shown(self) -> str: ...


class Asked(Protocol):
    """A node as it is seen here."""

    @property
    def address(self) -> _Named:
        """What it may be called."""

    async def exchange(self, request: Request, *, alone: bool = False) -> bytes | LargeReply:
        """Return the node's answer. Raise a `NodeFailure`."""


class Nobody(Exception):
    """No node answered; `reasons`: each node's trouble, its name first."""

    def __init__(self, reasons: list[str], *, wrong_chain: str | None) -> None:
        super().__init__("; ".join(dict.fromkeys(reasons)))
        self.wrong_chain = wrong_chain
        self.any = bool(reasons)


class Failover:
    """One request on its way through the nodes, the best first. `last`: the node asked last."""

    def __init__(self, request: Request, nodes: Iterable[Asked]) -> None:
        self._request = request
        self._traits = traits(request.method)
        self._candidates = deque(nodes)
        self._reasons: list[str] = []
        self._wrong_chain: str | None = None
        self._refusal: bytes | None = None
        self._uncertain: NodeFailure | None = None  # of a transaction that may have been taken
        self._repeated = self._alone = False
        self.last: Asked | None = None

    async def answer(self) -> bytes | LargeReply:
        """Return the first usable answer. Raise `Disconnected` where whether it took effect is unknown, or `Nobody`."""
        while self._candidates and not self._final_refusal():
            node = self.last = self._candidates.popleft()
            alone, self._alone = self._alone, False
            try:
                body = await node.exchange(self._request, alone=alone)
            except NodeFailure as failure:
                self.met(node, failure)
            else:
                if self._uncertain is not None:
                    return await _as_taken(node, self._request, body)
                if not (self._traits.elsewhere and refuses(body)):
                    return body
                self.met(node, Overloaded("it refuses requests for being too many", body))
        if self._refusal is not None:
            return self._refusal
        if self._uncertain is not None:
            raise Disconnected(f"{self._uncertain}{unknown(self._request.method)}")
        raise Nobody(self._reasons, wrong_chain=self._wrong_chain)

    def met(self, node: Asked, failure: NodeFailure) -> None:
        """Take a failure of `node`. Raise `Disconnected` when nobody else may be asked."""
        self._reasons.append(f"{node.address.shown}: {failure}")
        if isinstance(failure, WrongChain):
            self._wrong_chain = self._wrong_chain or f"{node.address.shown}: {failure}"
        elif isinstance(failure, Overloaded):
            self._refusal = self._refusal or failure.body
            if self._request.method == "eth_getLogs" and names_too_much(failure.body):
                # It is asked again in parts. A node that is behind would answer at once, without the newest logs.
                self._candidates.clear()
        elif isinstance(failure, Broken | Late):
            self._after_sending(node, failure)

    def _after_sending(self, node: Asked, failure: Broken | Late) -> None:
        if self._traits.same_bytes:
            self._uncertain = failure
        elif not self._traits.repeatable:
            raise Disconnected(f"{failure}{unknown(self._request.method)}") from failure
        elif isinstance(failure, Broken) and failure.repeatable and not self._repeated:
            self._repeated, self._alone = True, failure.alone
            self._candidates.appendleft(node)

    def _final_refusal(self) -> bool:
        return self._refusal is not None and not self._traits.elsewhere


def refuses(body: bytes | LargeReply) -> TypeGuard[bytes]:
    """Tell whether a node answered that this is one request too many (EIP-1474: -32005), and another may be asked."""
    return isinstance(body, bytes) and len(body) <= _SHORT and _LIMITED in body and _error_code(body) == int(_LIMITED)


def unknown(method: str) -> str:
    """Return what an asker must know when a request was sent and not answered."""
    return (
        "" if may_repeat(method) else "; it was sent, so whether it took effect is unknown: look before sending again"
    )


async def _as_taken(node: Asked, request: Request, body: bytes | LargeReply) -> bytes | LargeReply:
    """Return the answer of the second node to a transaction the first may have taken: its hash, if that node knows it."""
    if isinstance(body, LargeReply) or _error_code(body) is None:
        return body
    try:
        (raw,) = msgspec.json.decode(request.params, type=tuple[str])
        transaction = "0x" + keccak(bytes.fromhex(raw.removeprefix("0x"))).hex()
        ask = Request("eth_getTransactionByHash", msgspec.json.encode([transaction]), b"1")
        found = await node.exchange(ask)
        known = NodeReply(found).result() if isinstance(found, bytes) else found.result()
    except (msgspec.DecodeError, ValueError, RpcError, NodeFailure):
        return body  # it is no transaction, or the node cannot tell: its own words stand
    if known is None:
        return body
    raw_id = b"null" if request.id is None else request.id
    return b'{"jsonrpc":"2.0","id":%b,"result":"%b"}' % (raw_id, transaction.encode())


def _error_code(body: bytes) -> Any:
    """Return the code of a node's error; None for a result."""
    try:
        NodeReply(body).result()
    except RpcError as error:
        return error.code
    return None
