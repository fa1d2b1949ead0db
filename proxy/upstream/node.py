"""One L1 node: how it is spoken to, whether it may be asked now, and which chain it was last seen to serve.

Stands between `L1`, which knows all nodes, and a transport. A node that could not be asked rests for a while (`breaker`) and is refused
until then without being touched. Every new connection is verified before use; `admit` decides whether the chain is ours.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from middleware.errors import RpcError
from middleware.waist import LargeReply, NodeReply, Request
from proxy.upstream import ipc, ws
from proxy.upstream.addresses import Address, Kind
from proxy.upstream.arrival import Keeping
from proxy.upstream.breaker import Breaker
from proxy.upstream.endpoint import endpoint
from proxy.upstream.exchange import Deadlines, Exchange
from proxy.upstream.failures import Broken, Late, NodeFailure, Overloaded, Silent, Stuck, Unreachable, WrongChain
from proxy.upstream.figures import NodeFigures
from proxy.upstream.heights import LAG
from proxy.upstream.http import Http
from proxy.upstream.identity import ChainIdentity, read_identity
from proxy.upstream.line import Line
from proxy.upstream.multiplexed import Multiplexed
from proxy.upstream.node_socket import Ask, in_memory
from proxy.upstream.traits import traits

log = logging.getLogger("l2proxy.upstream")

_VERIFY_SECONDS: Final = 10
_PROBE: Final = Request("eth_chainId", b"[]", b"1")
_LOOK: Final = Request("eth_blockNumber", b"[]", b"1")
_HANGS: Final = "it hangs"
_QUANTITY: Final = re.compile(r"0x[0-9a-fA-F]{1,16}")


class Transport(Protocol):
    """A way to one node."""

    def post(self, request: Request) -> Exchange | None:
        """Send `request` at once, if that can be done, and return what awaits its answer."""

    async def exchange(self, request: Request, *, alone: bool = False) -> bytes | LargeReply:
        """Return the node's answer with the caller's id."""

    async def ask(self, method: str, params: list[Any]) -> bytes:
        """Return the raw answer to a question of the proxy's own, asked of what listens there now."""

    async def close(self) -> None:
        """End every connection."""


class Node:
    """One node of the config. `admit(identity)` raises `WrongChain`; `changed` hears when it may be asked or no longer.

    What `post` sends has to be put under `deadlines`, which ends it after `call_seconds`.
    """

    def __init__(
        self,
        address: Address,
        keeping: Keeping,
        call_seconds: float,
        admit: Callable[[ChainIdentity], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.address = address
        self.identity: ChainIdentity | None = None
        self.figures = NodeFigures()
        self.deadlines = Deadlines(call_seconds)
        self._patience: set[asyncio.Timeout] = set()  # of those who await what another node could answer as well
        self.lagging = False
        self.hangs = False  # since its last answer it has not said in time what it could say at once
        self._doubted = False
        self._admit = admit
        self._changed = changed
        self._trouble: str | None = None
        self._breaker = Breaker(0.05, 1.0) if address.local else Breaker(0.5, 15.0)
        self._failure: NodeFailure = Unreachable("it did not answer")  # of which it rests
        self._probing: asyncio.Task[None] | None = None
        self._transport = self._make_transport(keeping)
        self.post = self._transport.post

    @property
    def trouble(self) -> str | None:
        """What is wrong with it, its name first; None while nothing is known to be."""
        return self._trouble

    @trouble.setter
    def trouble(self, trouble: str | None) -> None:
        self._trouble = trouble
        self._changed()

    @property
    def resting(self) -> bool:
        """Tell whether the node failed lately and is not asked now."""
        return self._breaker.resting

    @property
    def open_to_all(self) -> bool:
        """Tell whether a request may go to it without a probe."""
        return not self._breaker.is_open

    @property
    def rank(self) -> int:
        """How gladly it is asked: 0 for a good one, then one that lags, one in trouble, one that must not be asked."""
        if self._trouble is None:
            return int(self.lagging)
        return 3 if self._breaker.refuses else 2

    async def exchange(self, request: Request, *, alone: bool = False) -> bytes | LargeReply:
        """Return the node's answer to `request`. Raise a `NodeFailure`; its cause is kept in `trouble`."""
        await self._let_in()
        figures = self.figures
        figures.requests += 1
        figures.in_flight += 1
        started = time.monotonic()
        patience = asyncio.timeout(None)
        try:
            async with patience:
                if traits(request.method).elsewhere:
                    self._patience.add(patience)
                body = await self._transport.exchange(request, alone=alone)
        except NodeFailure as failure:
            self.failed(failure)
            raise
        except TimeoutError as error:
            if not patience.expired():
                raise
            raise Broken(_HANGS, repeatable=False) from error
        finally:
            self._patience.discard(patience)
            figures.in_flight -= 1
        self.answered(time.monotonic() - started)
        return body

    def pass_on(self) -> None:
        """End at once what is due from it and may be asked of another node as well: nobody need wait until the end for one that hangs."""
        now, ending = asyncio.get_running_loop().time(), self._patience
        self._patience = set()
        for patience in ending:
            patience.reschedule(now)
        self.deadlines.pass_on(_HANGS)

    def answered(self, seconds: float) -> None:
        """Learn that a caller's request was answered after `seconds`."""
        self.figures.answered(seconds)
        if self._trouble is not None or self._breaker.is_open:
            self._breaker.answered()
            self._works()

    def failed(self, failure: NodeFailure) -> None:
        """Learn that a request failed: others are preferred until it answers again."""
        self.figures.failed(str(failure))
        self.hangs = self.hangs or isinstance(failure, Stuck | Silent)
        if self._breaker.refuses and isinstance(failure, Broken | Unreachable):
            return  # it was on its way when the node was shut out, and says nothing of why
        if isinstance(failure, Unreachable | WrongChain):
            self._breaker.trip(hard=True)
        else:
            self._breaker.strike(self.figures.error_rate, late=isinstance(failure, Late))
        self._blame(failure)

    async def line(self) -> Line | None:
        """Return the shared socket, for a subscription; None over HTTP. Raise `Unreachable` or `WrongChain`."""
        if not isinstance(self._transport, Multiplexed):
            return None
        await self._let_in()
        try:
            return await self._transport.line()
        except (Unreachable, WrongChain) as failure:
            self.failed(failure)
            raise

    async def try_again(self) -> None:
        """Ask a node that failed for what costs nothing, unless it rests; it works again, or rests longer."""
        if self._trouble is None or self.resting:
            return
        try:
            await self._probe()
        except NodeFailure as failure:
            log.debug("%s does not work yet: %s", self.address.shown, failure)

    async def look(self, seconds: float) -> None:
        """Learn its newest block, for comparison with others; one that does not tell in `seconds` is in trouble."""
        try:
            async with asyncio.timeout(seconds):
                body = await self._transport.exchange(_LOOK)
            self.figures.head = _height(body)
        except NodeFailure as failure:
            self.failed(failure)
        except TimeoutError:
            self.failed(Stuck(f"it did not tell its newest block within {seconds:g} s"))
        except (RpcError, TypeError, ValueError) as error:
            self.failed(Broken(f"it does not tell its newest block: {type(error).__name__}", repeatable=False))

    async def show(self, method: str, which: str) -> Any:
        """Return a block it shows, decoded. Raise `NodeFailure` or `RpcError`."""
        ask = Request(method, msgspec.json.encode([which, False]), b"1")
        return NodeReply(in_memory(await self._transport.exchange(ask))).result()

    def doubt(self) -> None:
        """Learn that it does not show the block it claims to be at: how far it is nobody knows."""
        claim = f"it says it is at block {self.figures.head}, and shows no such block"
        if not self._doubted:
            log.warning("%s is passed over while another node is good: %s", self.address.shown, claim)
        self._doubted, self.figures.head, self.figures.last_error = True, None, claim

    def compared(self, best: int) -> None:
        """Learn the newest block of the best node."""
        head = self.figures.head
        self._doubted = self._doubted and head is None
        self.figures.head_lag = None if head is None else max(0, best - head)
        lagging = self._doubted or (self.figures.head_lag or 0) > LAG
        if lagging is not self.lagging:
            self.lagging = lagging
            self._changed()

    async def confirm(self) -> None:
        """Verify a node whose chain has changed deeply; a foreign chain ends every connection to it."""
        foreign = False
        try:
            await self._verify(self._transport.ask)
        except WrongChain as failure:
            self.failed(failure)
            foreign = True
        except NodeFailure as failure:
            log.info(
                "%s could not be verified now, and will be on its next connection: %s", self.address.shown, failure
            )
        if foreign:
            await self._transport.close()

    async def close(self) -> None:
        """End every connection to the node."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        self.deadlines.close()
        await self._transport.close()

    def _make_transport(self, keeping: Keeping) -> Transport:
        match self.address.kind:
            case Kind.HTTP:
                return Http(endpoint(self.address.target), keeping, self._verify, self.figures)
            case Kind.IPC:
                return Multiplexed(ipc.opener(self.address.target, keeping), self._verify, self.figures)
            case Kind.WS:
                return Multiplexed(ws.opener(endpoint(self.address.target), keeping), self._verify, self.figures)

    async def _verify(self, ask: Ask) -> None:
        try:
            async with asyncio.timeout(_VERIFY_SECONDS):
                identity = await read_identity(ask, self.address)
        except TimeoutError as error:
            raise Silent(f"it did not say within {_VERIFY_SECONDS} s which chain it serves") from error
        except (Broken, Overloaded) as error:
            raise Unreachable(f"it did not say which chain it serves: {error}") from error
        self._admit(identity)
        self.identity = identity

    async def _let_in(self) -> None:
        """Return when the node may be asked. Raise why it rests; where the pause is over, one probe decides for all who wait."""
        if self._breaker.refuses:
            raise type(self._failure)(str(self._failure))
        if self._breaker.is_open:
            await self._probe()

    async def _probe(self) -> None:
        if self._probing is None:
            self._probing = asyncio.create_task(self._ask_for_life())
            self._probing.add_done_callback(self._probed)
        await asyncio.shield(self._probing)

    def _probed(self, task: asyncio.Task[None]) -> None:
        self._probing = None
        if not task.cancelled():
            task.exception()  # whoever waited has heard it

    async def _ask_for_life(self) -> None:
        self.figures.breaker = "half-open"
        try:
            async with asyncio.timeout(_VERIFY_SECONDS):
                in_memory(await self._transport.exchange(_PROBE))
        except TimeoutError as error:
            failure = Silent(f"it did not answer within {_VERIFY_SECONDS} s")
            self.failed(failure)
            raise failure from error
        except NodeFailure as failure:
            self.failed(failure)
            if isinstance(failure, Unreachable | WrongChain):
                raise
            raise Unreachable(str(failure)) from failure
        except RpcError as error:  # a limit of ours
            refused = Unreachable(f"it answers a short question with megabytes: {error.message}")
            self.failed(refused)
            raise refused from error
        self._breaker.probed()
        self._works()

    def _blame(self, failure: NodeFailure) -> None:
        self.figures.breaker = "open" if self._breaker.is_open else "closed"
        self._failure = failure if isinstance(failure, Unreachable | WrongChain) else Unreachable(str(failure))
        self.trouble = f"{self.address.shown}: {failure}"

    def _works(self) -> None:
        self.figures.breaker = "closed"
        self.hangs = False
        self.trouble = None


def _height(body: bytes | LargeReply) -> int:
    """Return the block number in an answer. No number is megabytes long, so such an answer is not even read."""
    if isinstance(body, LargeReply):
        body.close()
        raise TypeError("megabytes instead of a block number")
    number = NodeReply(body).result()
    if not _QUANTITY.fullmatch(number):
        raise ValueError("a block number that is none, or above 64 bits")
    return int(number, 16)
