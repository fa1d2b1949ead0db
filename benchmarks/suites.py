"""What is measured: each suite starts who takes part, goes round them in turn, and returns its figures."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from benchmarks import field, heads, load
from benchmarks.children import resident_bytes
from benchmarks.field import Target
from proxy.demo.party import command

Say = Callable[[str], None]
CACHED = "[cache]\nenabled = true\n"
LARGE = "0x00000000000000000000000000000000000c0de5"
LARGE_BYTES = 512 * 1024  # of code; twice that in hex digits: an answer of 1 MiB


@dataclass(frozen=True)
class Plan:
    """How long to measure."""

    rounds: int
    seconds: float
    clients: int
    blocks: int
    memory_calls: int
    warm_up: int  # seconds at most, for each target of each suite

    @property
    def words(self) -> str:
        """Say it in a sentence."""
        return (
            f"{self.rounds} interleaved rounds of {self.seconds:g} s, medians; {self.clients:,} WebSocket clients over "
            f"{self.blocks} blocks; memory over {self.memory_calls:,} calls"
        )


FULL = Plan(5, 3, 1000, 20, 1_000_000, 10)
USUAL = Plan(5, 2, 1000, 20, 200_000, 10)
QUICK = Plan(1, 1, 200, 5, 20_000, 1)
SMOKE = Plan(1, 1, 10, 2, 0, 0)
WARM = 5_000  # calls after which Node has compiled what it will compile


@dataclass(frozen=True)
class Figures:
    """One target in one suite: the rounds it ran."""

    name: str
    rounds: tuple[load.Round, ...]

    @property
    def rate(self) -> float:
        """Median of answers a second."""
        return statistics.median(one.rate for one in self.rounds)

    @property
    def spread(self) -> tuple[float, float]:
        """Lowest and highest answers a second."""
        rates = [one.rate for one in self.rounds]
        return min(rates), max(rates)

    @property
    def p50(self) -> float:
        """Median of the rounds' median latencies, µs."""
        return statistics.median(one.p50 for one in self.rounds)

    @property
    def p99(self) -> float:
        """Median of the rounds' 99th percentiles, µs."""
        return statistics.median(one.p99 for one in self.rounds)

    @property
    def cpu(self) -> float:
        """Median of the CPU time a call costs the target's process, µs."""
        return statistics.median(one.cpu for one in self.rounds)


Table = dict[str, Figures]


@dataclass(frozen=True)
class Memory:
    """Resident memory of a daemon, bytes, and after how many calls."""

    calls: tuple[int, int]
    resident: tuple[int, int]


async def rounds(targets: Sequence[Target], bodies: Path, plan: Plan, connections: int, say: Say) -> Table:
    """Go round `targets` so that what the machine does meanwhile falls on all alike."""
    for target in targets:
        await _warm_up(target, bodies, plan, connections)
    ran: dict[str, list[load.Round]] = {target.name: [] for target in targets}
    for number in range(plan.rounds):
        for target in targets:
            one = await load.run(target.url, bodies, connections=connections, seconds=plan.seconds, pids=target.pids)
            ran[target.name].append(one)
            say(
                f"  round {number + 1}  {target.name:<28}{one.rate:>10,.0f}/s  p50 {one.p50:>7,} µs  CPU {one.cpu:>7.1f} µs a call"
            )
    return {name: Figures(name, tuple(of)) for name, of in ran.items()}


async def _warm_up(target: Target, bodies: Path, plan: Plan, connections: int) -> None:
    """Let a target compile and connect before its figures count: just-in-time compilers need thousands of calls."""
    calls = 0
    for _ in range(plan.warm_up):
        if calls >= WARM:
            return
        calls += (await load.run(target.url, bodies, connections=connections, seconds=1)).requests


async def throughput(folder: Path, plan: Plan, say: Say, have: frozenset[str]) -> Table:
    """32 connections, calls that no cache answers, a real node."""
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(field.anvil(folder))
        targets = [field.direct("direct", node), *await _peers(stack, node.http, folder, have)]
        targets += await _daemons(stack, node, folder, ("ipc", "ws", "http"))
        token = await command("token", "new", "bench", "--data", folder / "l2proxy-ipc" / "data")
        of = targets[-3]
        targets.append(Target("l2proxy ipc, token", of.url + token["token"], of.pids))
        return await rounds(targets, field.bodies(folder, "balances", field.balances(1000)), plan, 32, say)


async def headroom(folder: Path, plan: Plan, say: Say, have: frozenset[str]) -> Table:
    """The same before a node that costs next to nothing."""
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(field.mock(folder))
        targets = [field.direct("direct", node), *await _peers(stack, node.http, folder, have)]
        targets += await _daemons(stack, node, folder, ("ipc", "http"))
        return await rounds(targets, field.bodies(folder, "balances", field.balances(1000)), plan, 32, say)


async def cache(folder: Path, plan: Plan, say: Say, have: frozenset[str]) -> Table:
    """32 connections, calls the cache answers."""
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(field.anvil(folder))
        cached = await stack.enter_async_context(field.daemon("l2proxy cached", node.ipc, folder, CACHED))
        bodies = field.bodies(folder, "few", field.balances(100))
        return await rounds([field.direct("direct", node), cached], bodies, plan, 32, say)


async def latency(folder: Path, plan: Plan, say: Say, have: frozenset[str]) -> Table:
    """One connection."""
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(field.anvil(folder))
        targets = [field.direct("direct", node), *await _peers(stack, node.http, folder, have)]
        targets += await _daemons(stack, node, folder, ("ipc", "ws", "http"))
        return await rounds(targets, field.bodies(folder, "balances", field.balances(1000)), plan, 1, say)


async def large(folder: Path, plan: Plan, say: Say, have: frozenset[str]) -> Table:
    """Answers of 1 MiB: the code of a contract, four connections."""
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(field.anvil(folder))
        await _set_code(node)
        targets = [field.direct("direct", node)]
        if "nginx" in have:
            targets.append(await stack.enter_async_context(field.nginx("nginx", node.http, folder)))
        targets += await _daemons(stack, node, folder, ("ipc", "ws", "http"))
        bodies = field.bodies(folder, "large", [("eth_getCode", [LARGE, "latest"])])
        return await rounds(targets, bodies, plan, 4, say)


async def new_heads(folder: Path, plan: Plan, say: Say, have: frozenset[str]) -> heads.Heads:
    """Many WebSocket clients on newHeads."""
    found = await heads.measure(folder, plan.clients, plan.blocks)
    say(f"  {found.clients:,} clients: last one after {found.last_client:.0f} ms, {found.subscriptions} at the node")
    return found


async def memory(folder: Path, plan: Plan, say: Say, have: frozenset[str]) -> Memory:
    """Resident memory after ten thousand calls and after many."""
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(field.anvil(folder))
        daemon = await stack.enter_async_context(field.daemon("l2proxy", node.ipc, folder))
        bodies = field.bodies(folder, "many", field.balances(20_000))
        calls, seen = 0, []
        for enough in (10_000, plan.memory_calls):
            while calls < enough:
                calls += (await load.run(daemon.url, bodies, connections=32, seconds=1)).requests
            seen.append((calls, resident_bytes(daemon.pids[0])))
            say(f"  {calls:,} calls: {seen[-1][1] / 2**20:.1f} MiB")
        (first, before), (last, after) = seen
        return Memory((first, last), (before, after))


async def peers_answer(folder: Path, have: frozenset[str]) -> dict[str, object]:
    """Ask the node and each peer one call; return their answers as objects (some write them anew)."""
    call = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}'
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(field.anvil(folder))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        answers: dict[str, object] = {}
        for target in [field.direct("direct", node), *await _peers(stack, node.http, folder, have)]:
            async with session.post(target.url, data=call, headers={"Content-Type": "application/json"}) as answer:
                answers[target.name] = await answer.json()
        return answers


async def _peers(stack: AsyncExitStack, upstream: str, folder: Path, have: frozenset[str]) -> list[Target]:
    peers = []
    if "nginx" in have:
        peers.append(await stack.enter_async_context(field.nginx("nginx", upstream, folder)))
    if "metamask" in have:
        peers.append(await stack.enter_async_context(field.metamask("metamask", upstream, folder)))
    peers.append(await stack.enter_async_context(field.aiohttp_proxy("aiohttp", upstream, folder)))
    return peers


async def _daemons(stack: AsyncExitStack, node: field.Node, folder: Path, ways: Sequence[str]) -> list[Target]:
    return [await stack.enter_async_context(field.daemon(f"l2proxy {way}", getattr(node, way), folder)) for way in ways]


async def _set_code(node: field.Node) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "anvil_setCode", "params": [LARGE, "0x" + "fe" * LARGE_BYTES]}
    async with aiohttp.ClientSession() as session, session.post(node.http, json=call) as answer:
        said = await answer.json()
    if "error" in said:
        raise load.LoadFailed(f"the node did not take the large contract: {said['error']}")
