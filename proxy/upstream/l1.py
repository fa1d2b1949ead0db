"""The L1 chain as the rest of the proxy sees it: all nodes of the config as one.

Last step of every passed-through request (`forward`) and the way the proxy's own parts ask the chain (`call`). The first node that works
is asked, in the order of the config; a request that has left is repeated once at most at the same node, or asked of the next one, and
only if it is a read (`repeatable`). No answer is 4900 in one sentence; the node's own errors pass untouched. Chain id and genesis are pinned (`identity`): a node of another
chain is never asked anything else.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from middleware.errors import Disconnected
from middleware.waist import NodeReply, Request
from proxy.upstream.addresses import parse
from proxy.upstream.block_tracker import BlockTracker
from proxy.upstream.failures import Broken, NodeFailure, Unreachable, WrongChain
from proxy.upstream.following import POLL_DEV, POLL_FAR, POLL_NEAR, Following
from proxy.upstream.identity import ChainIdentity, read_pin, write_pin
from proxy.upstream.line import Line
from proxy.upstream.node import Node
from proxy.upstream.repeatable import may_repeat
from proxy.upstream.subscriptions import Deliver, Unsubscribe

log = logging.getLogger("l2proxy.upstream")

_PROBE = Request("eth_chainId", b"[]", b"1")


class L1:
    """The L1 chain. `urls`: http(s)://, ws(s)://, socket paths (not "dev"); `pin`: chain.json, None for one that pins nothing.

    `call_seconds` and `response_limit` (bytes) are [limits] upstream_call and response; `notice` tells the owner in one line.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        pin: Path | None = None,
        call_seconds: float = 30,
        response_limit: int = 256 * 1024 * 1024,
        notice: Callable[[str], None] = log.warning,
    ) -> None:
        self._call_seconds = call_seconds
        self._pin = pin
        self._notice = notice
        self._identity: ChainIdentity | None = None
        self._lost: type[NodeFailure] | None = None  # what the owner was told last
        self.nodes = [Node(parse(url), response_limit, self._admit) for url in urls]
        self._following = Following(self._line, self.call, self._confirm, self._revive, self._poll_seconds)
        self.blocks: BlockTracker = self._following.blocks

    @staticmethod
    async def probe(urls: Sequence[str], *, seconds: float = 10) -> ChainIdentity:
        """Return which chain the first node that answers serves, pinning nothing. Raise `Disconnected`."""
        l1 = L1(urls, call_seconds=seconds)
        try:
            await l1.forward(_PROBE)
            return l1.identity
        finally:
            await l1.close()

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

    async def forward(self, request: Request) -> NodeReply:
        """Return the node's answer to `request`, byte for byte, with the caller's id. Raise `Disconnected` (4900)."""
        asked: list[Node] = []
        try:
            async with asyncio.timeout(self._call_seconds):
                body = await self._exchange(request, asked)
        except TimeoutError as error:
            asked[-1].hangs()
            raise Disconnected(
                f"the L1 node did not answer {request.method} within {self._call_seconds:g} s{_unknown(request.method)}"
            ) from error
        self._found()
        if not may_repeat(request.method):
            self.blocks.poke()  # it may have made a block
        return NodeReply(body)

    async def call(self, method: str, *params: Any) -> Any:
        """Return the decoded result of `method`. Raise the node's error as `RpcError`, or `Disconnected`."""
        return (await self.forward(Request(method, msgspec.json.encode(params), b"1"))).result()

    async def subscribe(self, params: list[Any], deliver: Deliver) -> Unsubscribe:
        """Hand every result of `eth_subscribe` with `params` to `deliver`, as raw JSON; return how to stop.

        Lives on over reconnects. Raise the node's error where it refuses, `Disconnected` where none answers.
        """
        try:
            async with asyncio.timeout(self._call_seconds):
                return await self._following.subscriptions.subscribe(params, deliver)
        except TimeoutError as error:
            raise Disconnected(f"the L1 node did not answer eth_subscribe within {self._call_seconds:g} s") from error

    async def _exchange(self, request: Request, asked: list[Node]) -> bytes:
        """Return the first usable answer; `asked` grows by each node that is tried."""
        reasons: list[NodeFailure] = []
        candidates = deque(self._in_order())
        repeated, alone = False, False
        while candidates:
            node = candidates.popleft()
            asked.append(node)
            try:
                return await node.exchange(request, alone=alone)
            except (Unreachable, WrongChain) as reason:
                reasons.append(reason)
            except Broken as broken:
                if not may_repeat(request.method):
                    raise Disconnected(f"{broken}{_unknown(request.method)}") from broken
                reasons.append(broken)
                if broken.repeatable and not repeated:
                    repeated, alone = True, broken.alone
                    candidates.appendleft(node)
        raise self._nobody(reasons)

    async def _line(self) -> Line | None:
        """Return the shared socket of the first node that can be asked; None when that speaks HTTP. Raise `Disconnected`."""
        reasons: list[NodeFailure] = []
        for node in self._in_order():
            try:
                return await node.line()
            except (Unreachable, WrongChain) as reason:
                reasons.append(reason)
        raise self._nobody(reasons)

    async def _confirm(self) -> None:
        """Make sure that a chain which changed deeply is ours still. Raise `Disconnected` when it is not."""
        for node in self.nodes:
            if not node.resting:
                await node.confirm()
        await self.forward(_PROBE)

    async def _revive(self) -> None:
        for node in self.nodes:
            if node.trouble is not None and not node.resting:
                await node.try_again()

    def _poll_seconds(self) -> float:
        if self._identity is not None and self.is_dev:
            return POLL_DEV
        return POLL_NEAR if all(node.address.local for node in self.nodes) else POLL_FAR

    def _in_order(self) -> list[Node]:
        """Return the nodes as they should be asked: those that work first, each group in the order of the config."""
        return sorted(self.nodes, key=lambda node: node.resting or node.trouble is not None)

    def _nobody(self, reasons: list[NodeFailure]) -> Disconnected:
        if not reasons:
            return Disconnected("no L1 node is configured; name one with --l1 or under [l1] urls")
        wrong = [reason for reason in reasons if isinstance(reason, WrongChain)]
        message = str(wrong[0]) if wrong else f"no L1 node can be asked: {'; '.join(dict.fromkeys(map(str, reasons)))}"
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
        if self._lost is not None:
            self._lost = None
            self._notice("l2proxy: the L1 node answers again")


def _unknown(method: str) -> str:
    """Return what an asker must know when a request was sent and not answered."""
    return (
        "" if may_repeat(method) else "; it was sent, so whether it took effect is unknown: look before sending again"
    )
