"""The L1 chain as the rest of the proxy sees it: all nodes of the config as one.

Last step of every passed-through request (`forward`) and the way the proxy's own parts ask the chain (`call`). The first node that works
and does not lag is asked, in the order of the config, over a connection that stands: no task and no timer of its own for a request, for this is
the hot path. All else goes through `failover`. No answer is 4900 in one sentence; the node's own errors pass untouched. Chain id and genesis
are pinned (`identity`): a node of another chain is never asked anything else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from middleware.errors import Disconnected
from middleware.passing import Sent, Then
from middleware.waist import LargeReply, NodeReply, Request
from proxy.upstream.addresses import parse
from proxy.upstream.arrival import Keeping
from proxy.upstream.block_tracker import BlockTracker
from proxy.upstream.failover import Failover, Nobody, refuses, unknown
from proxy.upstream.failures import Late, NodeFailure, Overloaded, Stuck, Unreachable, WrongChain
from proxy.upstream.following import POLL_DEV, POLL_FAR, POLL_NEAR, Following
from proxy.upstream.heights import best_height
from proxy.upstream.identity import ChainIdentity, announces_bodies, read_pin, write_pin
from proxy.upstream.line import Line
from proxy.upstream.node import Node
from proxy.upstream.passage import Passage
from proxy.upstream.probing import identity_of
from proxy.upstream.room import Room
from proxy.upstream.subscriptions import Deliver, Unsubscribe
from proxy.upstream.traits import traits
from proxy.vigil import Vigil

log = logging.getLogger("l2proxy.upstream")

_PROBE: Final = Request("eth_chainId", b"[]", b"1")
# Seconds a node may take to tell a block where another could, before it is passed over.
_LOOK_SECONDS: float = 5
_WAITING: Final = 4  # answers as large as one may be that may wait on disk together
# Looks at the newest block between two questions which chain this is: a connection that stands may begin to serve another.
_CONFIRM_EVERY: float = 10


class L1:
    """The L1 chain. `urls`: http(s)://, ws(s)://, socket paths (not "dev"); `pin`: chain.json, None for one that pins nothing.

    `call_seconds` and `response_limit` (bytes) are [limits] upstream_call and response; large answers wait in unlinked files under
    `folder` (None: where the system keeps such); `notice` tells the owner in one line.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        pin: Path | None = None,
        call_seconds: float = 30,
        response_limit: int = 256 * 1024 * 1024,
        folder: Path | None = None,
        notice: Callable[[str], None] = log.warning,
    ) -> None:
        self._call_seconds = call_seconds
        self._pin = pin
        self._notice = notice
        self._identity: ChainIdentity | None = None
        self._lost: type[NodeFailure] | None = None  # what the owner was told last
        self.vigil = Vigil()
        self._first: Node | None = None  # the one to be asked, while nothing need be found out first
        self._look_at = self._confirm_at = 0.0
        self.keeping = Keeping(response_limit, folder, Room(_WAITING * response_limit))
        self.nodes: list[Node] = []
        self.nodes += [Node(parse(url), self.keeping, call_seconds, self._admit, self._choose) for url in urls]
        self.several = len(self.nodes) > 1
        self._choose()
        self._following = Following(
            self._line, self.call, self._look, self._confirm, self._revive, self._poll_seconds, self._pushes_bodies
        )
        self.blocks: BlockTracker = self._following.blocks

    @staticmethod
    async def probe(urls: Sequence[str], *, seconds: float = 10) -> ChainIdentity:
        """Return which chain the first node that answers serves, pinning nothing. Raise `Disconnected`."""
        return await identity_of(L1(urls, call_seconds=seconds), _PROBE)

    async def start(self) -> None:
        """Read the pin and the chain's identity, write the pin of a first start.

        Raise `Disconnected` when no node answers and nothing is pinned. With a pin it starts all the same: callers get 4900 until a
        node of the pinned chain answers, and `trouble` says why.
        """
        self._identity = read_pin(self._pin) if self._pin is not None else None
        try:
            await self.forward(_PROBE)
        except Disconnected:
            if self._identity is None:
                raise
        await self._following.start()

    async def close(self) -> None:
        """Stop following the chain and end every connection."""
        await self._following.stop()
        await asyncio.gather(*(node.close() for node in self.nodes))

    @property
    def identity(self) -> ChainIdentity:
        """The chain this proxy serves. Raise `Disconnected` before any node has answered."""
        if self._identity is None:
            raise Disconnected("no L1 node has answered yet")
        return self._identity

    @property
    def chain_id(self) -> int:
        """The pinned chain id."""
        return self.identity.chain_id

    @property
    def genesis(self) -> str:
        """The pinned genesis hash, 0x + 64 hex."""
        return self.identity.genesis

    @property
    def client_version(self) -> str:
        """What the node last asked calls itself."""
        return self._present().client_version

    @property
    def is_dev(self) -> bool:
        """Tell whether every node that has answered is a dev node (hardening.md 7)."""
        seen = [node.identity for node in self.nodes if node.identity is not None]
        return all(identity.is_dev for identity in seen) if seen else self.identity.is_dev

    @property
    def trouble(self) -> str | None:
        """Why no node can be asked at this moment; None while one can."""
        troubles = [node.trouble for node in self.nodes]
        return None if any(trouble is None for trouble in troubles) else "; ".join(filter(None, troubles))

    async def forward(self, request: Request) -> NodeReply | LargeReply:
        """Return the node's answer to `request`, byte for byte, with the caller's id. Raise `Disconnected` (4900)."""
        node = self._first
        exchange = node.post(request) if node is not None else None
        if node is None or exchange is None:
            return self.done(
                request, await self._seek(request, Failover(request, self._in_order()), self._call_seconds)
            )
        figures = node.figures
        figures.requests += 1
        figures.in_flight += 1
        self.vigil.expect(figures.in_flight)
        started = time.monotonic()
        node.deadlines.add(exchange)
        failure: NodeFailure | None = None
        body: bytes | LargeReply = b""
        try:
            body = await exchange.answer()
        except NodeFailure as met:
            failure = met
        except asyncio.CancelledError:  # it stays under its deadline: what it left at the node ends with it
            raise
        except BaseException:
            node.deadlines.remove(exchange)
            raise
        finally:
            figures.in_flight -= 1
        node.deadlines.remove(exchange)
        if failure is None:
            self.vigil.came()
            node.answered(time.monotonic() - started)
            if not (self.several and refuses(body)):
                return self.done(request, body)
            failure = Overloaded("it refuses requests for being too many", body)
        else:
            node.failed(failure)
        return await self.elsewhere(request, node, failure, started)

    def send(self, request: Request, then: Then) -> Sent | None:
        """Send `request` at once and let `then` hear of its answer, as `forward` would return it; None where it has to wait."""
        node = self._first
        exchange = node.post(request) if node is not None else None
        if node is None or exchange is None:
            return None
        node.deadlines.add(exchange)
        return Passage(self, request, node, exchange, then)

    async def call(self, method: str, *params: Any) -> Any:
        """Return the decoded result of `method`. Raise the node's error as `RpcError`, or `Disconnected`."""
        return (await self.forward(Request(method, msgspec.json.encode(params), b"1"))).result()

    async def _look(self, method: str, *params: Any) -> Any:
        """As `call`, for what follows the chain: a node that hangs does not hold everybody up while another could tell."""
        request = Request(method, msgspec.json.encode(params), b"1")
        seconds = min(self._call_seconds, _LOOK_SECONDS) if self.several else self._call_seconds
        failover = Failover(request, self._in_order())
        try:
            answer = await self._seek(request, failover, seconds, late=Stuck)
        except Disconnected:
            self._leave_those_that_hang()
            raise
        return self.done(request, answer).result()

    async def subscribe(self, params: list[Any], deliver: Deliver) -> Unsubscribe:
        """Hand every result of `eth_subscribe` with `params` to `deliver`, as raw JSON; return how to stop.

        Lives on over reconnects. Raise the node's error where it refuses, `Disconnected` where none answers.
        """
        try:
            async with asyncio.timeout(self._call_seconds):
                return await self._following.subscriptions.subscribe(params, deliver)
        except TimeoutError as error:
            raise Disconnected(f"the L1 node did not answer eth_subscribe within {self._call_seconds:g} s") from error

    def done(self, request: Request, body: bytes | LargeReply) -> NodeReply | LargeReply:
        """Return what the asker gets, and learn what the answer tells of the node and the chain."""
        if self._lost is not None:
            self._found()
        if not traits(request.method).repeatable:
            self.blocks.poke()  # it may have made a block
        return NodeReply(body) if isinstance(body, bytes) else body

    async def elsewhere(
        self, request: Request, node: Node, failure: NodeFailure, started: float
    ) -> NodeReply | LargeReply:
        """Take a request on where it failed first; `started`: monotonic seconds. Raise `Disconnected`."""
        if isinstance(failure, Late):
            raise self._late(request, self._call_seconds) from failure
        seconds = self._call_seconds - (time.monotonic() - started)
        failover = Failover(request, [other for other in self._in_order() if other is not node])
        failover.met(node, failure)
        return self.done(request, await self._seek(request, failover, seconds, of=self._call_seconds))

    async def _seek(
        self,
        request: Request,
        failover: Failover,
        seconds: float,
        *,
        of: float | None = None,
        late: type[Late] = Late,
    ) -> bytes | LargeReply:
        """Return the first answer within `seconds`, what is left `of` those the request had; `late` tells what it says of a node to exceed them."""
        try:
            async with asyncio.timeout(seconds):
                return await failover.answer()
        except TimeoutError as error:
            if isinstance(failover.last, Node):
                failover.last.failed(late("it did not answer in time"))
            raise self._late(request, of or seconds) from error
        except Nobody as nobody:
            raise self._nobody(nobody) from nobody

    def _late(self, request: Request, seconds: float) -> Disconnected:
        return Disconnected(
            f"the L1 node did not answer {request.method} within {seconds:g} s{unknown(request.method)}"
        )

    async def _line(self) -> Line | None:
        """Return the shared socket of the first node that can be asked; None when that speaks HTTP. Raise `Disconnected`."""
        failover = Failover(_PROBE, ())
        for node in self._in_order():
            try:
                return await node.line()
            except (Unreachable, WrongChain) as failure:
                failover.met(node, failure)
        try:
            await failover.answer()
        except Nobody as nobody:
            raise self._nobody(nobody) from nobody
        return None

    async def _confirm(self) -> None:
        """Make sure that a chain which changed deeply is ours still. Raise `Disconnected` when it is not."""
        for node in self.nodes:
            if not node.resting:
                await node.confirm()
        await self.forward(_PROBE)

    async def _revive(self) -> None:
        """Try nodes that failed; now and then ask the others how far they are, where there are several, and which chain they serve."""
        await asyncio.gather(*(node.try_again() for node in self.nodes))
        now = asyncio.get_running_loop().time()
        if self.several and now >= self._look_at:
            self._look_at = now + self._poll_seconds()
            good = [node for node in self.nodes if node.trouble is None]
            await asyncio.gather(*(node.look(_LOOK_SECONDS) for node in good))
            self._leave_those_that_hang()
            told = [node for node in good if node.trouble is None and node.figures.head is not None]
            best = await best_height(told, _LOOK_SECONDS)
            for node in self.nodes:
                node.compared(best)
        if now >= self._confirm_at:
            self._confirm_at = now + _CONFIRM_EVERY * self._poll_seconds()
            await asyncio.gather(*(node.confirm() for node in self.nodes if node.trouble is None))

    def _leave_those_that_hang(self) -> None:
        """Ask what is due from nodes that do not even tell their newest block of others, as far as it can be asked twice."""
        if any(node.trouble is None for node in self.nodes):
            for node in self.nodes:
                if node.hangs:
                    node.pass_on()

    def _poll_seconds(self) -> float:
        if self._identity is not None and self.is_dev:
            return POLL_DEV
        return POLL_NEAR if all(node.address.local for node in self.nodes) else POLL_FAR

    def _pushes_bodies(self) -> bool:
        return self._identity is not None and announces_bodies(self._present().client_version)

    def _in_order(self) -> list[Node]:
        """Return the nodes as they should be asked: good ones first, each group in the order of the config."""
        return sorted(self.nodes, key=lambda node: node.rank)

    def _choose(self) -> None:
        """Find the node that requests go to without looking further, whenever one has changed."""
        best = self._in_order()[0] if self.nodes else None
        self._first = best if best is not None and best.open_to_all else None

    def _nobody(self, nobody: Nobody) -> Disconnected:
        if not nobody.any:
            return Disconnected("no L1 node is configured; name one with --l1 or under [l1] urls")
        wrong = nobody.wrong_chain
        message = wrong or f"no L1 node can be asked: {nobody}"
        if self._identity is not None and (self._lost is None or (wrong and self._lost is not WrongChain)):
            self._lost = WrongChain if wrong else Unreachable
            self._notice(f"l2proxy: {message}")
        return Disconnected(message)

    def _admit(self, found: ChainIdentity) -> None:
        """Take a node whose chain is ours; the first one ever seen decides which that is. Raise `WrongChain`."""
        if self._identity is None:
            self._identity = found
            if self._pin is not None:
                write_pin(self._pin, found)
        elif not self._identity.same_chain(found):
            refusal = (
                f"the L1 node serves {found}, but this data directory is pinned to {self._identity}; "
                "connect it to the pinned chain, or use another data directory"
            )
            raise WrongChain(refusal)

    def _present(self) -> ChainIdentity:
        working = [node.identity for node in self._in_order() if node.identity is not None]
        return working[0] if working else self.identity

    def _found(self) -> None:
        self._lost = None
        self._notice("l2proxy: the L1 node answers again")
