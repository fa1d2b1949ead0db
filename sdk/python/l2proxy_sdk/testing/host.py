"""`FakeHost`: the proxy's side of the channel for tests, in the plugin's own process.

It answers every host call of plugin.md from memory, delivers hub messages, blocks, logs, operations and timers in order, one in
flight per kind, and can be killed at any host call, so that a test can show what a crash leaves behind.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

from l2proxy_sdk import Plugin
from l2proxy_sdk.errors import ChannelClosed
from l2proxy_sdk.peer import Failure, Peer
from l2proxy_sdk.services import merge_patch
from l2proxy_sdk.session import Session
from l2proxy_sdk.values import quantity

from . import memory, watches
from .clock import FakeClock
from .crypto import Crypto, PretendCrypto
from .hub import FakeHub, HubPort
from .layer1 import FakeLayer1

Layer1 = Callable[[str, list[Any]], Awaitable[Any]]
Execute = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
MONEY = ("deposit", "withdraw", "plan", "send", "transfer")


class Killed(BaseException):
    """Raise it in `before_call` or `after_call`: the plugin process dies there."""


class FakeHost:
    """One plugin object and the host it believes in.

    `execute(kind, params)` carries out a deposit, withdrawal, plan, send or transfer and returns a step's members (hashes,
    blockNumber); raising an exception makes the operation fail. Without it operations stay "awaiting_approval".
    `layer1` is a FakeLayer1, `layer1_at(url)` or any `(method, params)` callable; `clock` moves by `advance` and `mine` alone.
    """

    def __init__(
        self,
        plugin: type[Plugin],
        *,
        chain_id: int = 1337,
        owner: str | None = None,
        gateways: Mapping[str, str] | None = None,
        store: dict[bytes, bytes] | None = None,
        crypto: Crypto | None = None,
        hub: HubPort | None = None,
        layer1: Layer1 | None = None,
        execute: Execute | None = None,
        manifest: Mapping[str, Any] | None = None,
        clock: FakeClock | None = None,
    ) -> None:
        self.clock = clock or FakeClock()
        self.layer1 = layer1
        self.chain_id = chain_id
        self.crypto: Crypto = crypto or PretendCrypto()
        self.owner = owner or self.crypto.account("owner")[0]
        self.gateways = dict(gateways or {})
        self.store = {} if store is None else store
        self.hub: HubPort = hub or FakeHub()
        self.state: Any = None
        self.revision = 0
        self.is_ready = False
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.logs: list[dict[str, Any]] = []
        self.operations: dict[str, dict[str, Any]] = {}
        self.timers: dict[str, dict[str, Any]] = {}
        self.watches: dict[str, dict[str, Any]] = {}
        self.before_call: Callable[[str, dict[str, Any]], None] | None = None
        self.after_call: Callable[[str, dict[str, Any]], None] | None = None
        self.died = asyncio.Event()
        self._manifest = manifest
        self._execute = execute
        self._accounts = 0
        self._changed = asyncio.Condition()
        self._queues: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        to_plugin, to_host = memory.MemoryPipe(), memory.MemoryPipe()
        self._pipes = (to_plugin, to_host)
        self.plugin = plugin()
        self._session = Session(self.plugin, to_plugin, to_host)
        self._peer = Peer(to_host, to_plugin, self._handle)

    async def start(self, restored: Any = False) -> list[dict[str, Any]]:
        """Start the plugin and connect its hub; return the actions it declares."""
        self._spawn(self._session.run)
        self._spawn(self._peer.serve)
        rows = [
            {"name": name, "chain": self.chain_id, "address": place, "since": 0}
            for name, place in self.gateways.items()
        ]
        info = {"chainId": hex(self.chain_id), "owner": self.owner, "gateways": rows, "accounts": []}
        answer = await self._peer.request("start", info | {"restored": restored})
        await self.hub.connect(lambda event: self._deliver("hub", event))
        actions: list[dict[str, Any]] = answer["actions"]
        return actions

    async def invoke(
        self, action: str, *, origin: str = "https://dapp.test", key: str | None = None, **params: Any
    ) -> Any:
        """Invoke an action with wire or Python values; raises HostError with the plugin's code and message."""
        shown = {name: _wire(value) for name, value in params.items()}
        request = {
            "call": f"call-{len(self.calls)}",
            "action": action,
            "params": shown,
            "origin": origin,
            "deadline": 0,
        }
        if key is not None:
            request["idempotencyKey"] = key
        return await self._peer.request("invoke", request)

    async def ask(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """Send the plugin any other request: getLayer2State, block, lock, …"""
        return await self._peer.request(method, params or {})

    async def until(self, condition: Callable[[], bool], timeout: float = 10) -> None:
        """Wait until something the plugin said makes `condition` true. Raises TimeoutError."""
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(condition)

    async def poll_layer1(self, upto: int, since: int = 0) -> None:
        """Deliver to every log watch what the node has between its cursor and `upto`, and wait until it is taken."""
        if self.layer1 is None:
            raise RuntimeError("this host has no L1")
        for name, watch in list(self.watches.items()):
            begin = max(int(watch.get("cursor", since)), since)
            if "logs" not in watch or begin > upto:
                continue
            query = dict(watch["logs"]) | {"fromBlock": hex(begin), "toBlock": hex(upto)}
            logs = await self.layer1("eth_getLogs", [query])
            watch["cursor"] = upto + 1
            if logs:
                await self._peer.request("logs", {"watch": name, "logs": logs, "removed": False})

    async def follow(self) -> None:
        """Deliver to every watch what L1 has that was not delivered yet, and fire the timers of those blocks."""
        if self.layer1 is None:
            raise RuntimeError("this host has no L1: give it a `layer1`")
        head = await watches.follow(self.watches, self.layer1, self._peer.request)
        for timer in watches.due(self.timers, "block", head):
            await self.fire(timer)

    async def mine(self, logs: Iterable[Mapping[str, Any]] = ()) -> None:
        """Mine a block on a FakeLayer1, 12 s later, with `logs` in it; deliver it and fire the timers that are due."""
        chain = self._chain()
        await self.advance(12)
        chain.mine(logs, timestamp=max(int(self.clock.now), int(chain.head["timestamp"], 16) + 1))
        await self.follow()

    async def reorg(self, depth: int = 1) -> None:
        """Replace the last `depth` blocks of a FakeLayer1 by others without logs, and deliver what that means."""
        await watches.reorg(self.watches, self._chain(), depth, self._peer.request)

    async def advance(self, seconds: float) -> None:
        """Move the clock, firing each timer on the way at its moment."""
        end = self.clock.now + seconds
        while timers := watches.due(self.timers, "time", end):
            self.clock.advance(max(0, watches.moment(self.timers[timers[0]]["time"]) - self.clock.now))
            await self.fire(timers[0])
        self.clock.advance(end - self.clock.now)

    def _chain(self) -> FakeLayer1:
        if not isinstance(self.layer1, FakeLayer1):
            raise TypeError("this needs a FakeLayer1: `FakeHost(Plugin, layer1=FakeLayer1())`")
        return self.layer1

    async def fire(self, timer: str, *, missed: bool = False) -> None:
        """Fire a timer of `schedule`, whatever its moment."""
        row = self.timers.pop(timer)
        await self._peer.request("scheduled", {"id": timer, "data": row.get("data"), "missed": missed})

    async def stop(self) -> None:
        """Stop the plugin as the proxy does, then end."""
        with contextlib.suppress(ChannelClosed):
            await self._peer.request("stop", {})
        await self.kill()

    async def kill(self) -> None:
        """End at once: what the plugin has not written is lost."""
        self.died.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.hub.close()

    async def _handle(self, method: str, params: dict[str, Any]) -> Any:
        if self.died.is_set():
            await asyncio.Event().wait()  # a dead process gets no answers
        self.calls.append((method, params))
        self._maybe_die(self.before_call, method, params)
        answer = await self._serve(method, params)
        self._maybe_die(self.after_call, method, params)
        async with self._changed:
            self._changed.notify_all()
        return answer

    def _maybe_die(
        self, check: Callable[[str, dict[str, Any]], None] | None, method: str, params: dict[str, Any]
    ) -> None:
        if check is None:
            return
        try:
            check(method, params)
        except Killed:
            self.died.set()
            self._pipes[0].close()
            self._pipes[1].close()
            raise asyncio.CancelledError from None

    async def _serve(self, method: str, params: dict[str, Any]) -> Any:
        if method in MONEY:
            return self._operation(method, params)
        name = "_on_" + method.replace(".", "_").lower()
        service = getattr(self, name, None)
        if service is None:
            raise Failure({"code": -32601, "message": f"no host method {method}"})
        return await service(params)

    async def _on_getaccount(self, params: dict[str, Any]) -> Any:
        index = params.get("index")
        if index is None:
            index = self._accounts
        self._accounts = max(self._accounts, index + 1)
        return {**self._account(f"{index}'"), "path": f"{index}'"}

    async def _on_derive(self, params: dict[str, Any]) -> Any:
        return self._account(str(params["path"]))

    async def _on_sign(self, params: dict[str, Any]) -> Any:
        path = str(params["account"])
        if path != "owner" and not self.is_ready:
            raise Failure({"code": 4100, "message": "own keys sign after ready"})
        return {"signature": self.crypto.sign(path, _content(params))}

    async def _on_recover(self, params: dict[str, Any]) -> Any:
        if "items" in params:
            return {"items": [await self._on_recover(item) for item in params["items"]]}
        address = self.crypto.recover(_content(params), str(params["signature"]))
        if address is None:
            raise Failure({"code": -32602, "message": "signature: 65 bytes with a low s, of somebody"})
        return {"address": address}

    async def _on_hash(self, params: dict[str, Any]) -> Any:
        if "items" in params:
            return {"items": [await self._on_hash(item) for item in params["items"]]}
        return {"digest": self.crypto.hash({name: value for name, value in params.items() if name != "call"})}

    async def _on_persist(self, params: dict[str, Any]) -> Any:
        return memory.persist(self.store, params)

    async def _on_load(self, params: dict[str, Any]) -> Any:
        return memory.load(self.store, params)

    async def _on_updatelayer2state(self, params: dict[str, Any]) -> Any:
        patched = merge_patch(self.state, params["patch"]) if "patch" in params else params["state"]
        self.state = patched
        self.revision += 1
        return {"revision": hex(self.revision)}

    async def _on_ready(self, _params: dict[str, Any]) -> Any:
        self.is_ready = True
        return {}

    async def _on_layer1_request(self, params: dict[str, Any]) -> Any:
        granted = None if self._manifest is None else self._manifest["permissions"].get("layer1", [])
        if granted is not None and params["method"] not in granted:
            raise Failure({"code": 4100, "message": f"{params['method']} is not in the manifest"})
        if self.layer1 is None:
            raise Failure({"code": 4900, "message": "this host has no L1"})
        return await self.layer1(params["method"], params["params"])

    async def _on_layer1_watch(self, params: dict[str, Any]) -> Any:
        cursor = {"cursor": quantity(params["from"], "from")} if "from" in params else {}
        if self.layer1 is not None and not cursor:
            with contextlib.suppress(Failure):  # a callable that answers what one test asks need not know its head
                cursor = {"cursor": int(await self.layer1("eth_blockNumber", []), 16) + 1}
        self.watches[params["name"]] = params | cursor
        return {}

    async def _on_layer1_unwatch(self, params: dict[str, Any]) -> Any:
        self.watches.pop(params["name"], None)
        return {}

    async def _on_hub_send(self, params: dict[str, Any]) -> Any:
        try:
            await self.hub.send(params["text"] if "text" in params else base64.b64decode(params["base64"]))
        except ConnectionError as error:
            raise Failure({"code": 4900, "message": str(error)}) from None
        return {}

    async def _on_hub_request(self, params: dict[str, Any]) -> Any:
        if not isinstance(self.hub, FakeHub):
            raise Failure({"code": 4100, "message": "this hub takes no requests"})
        try:
            answer = await self.hub.request({name: value for name, value in params.items() if name != "call"})
        except ConnectionError as error:
            raise Failure({"code": 4900, "message": str(error)}) from None
        return {"status": 200, "headers": {}} | answer

    async def _on_schedule(self, params: dict[str, Any]) -> Any:
        if params.get("cancel"):
            self.timers.pop(params["id"], None)
        else:
            self.timers[params["id"]] = params
        return {}

    async def _on_log(self, params: dict[str, Any]) -> Any:
        self.logs.append(params)

    def _account(self, path: str) -> dict[str, Any]:
        address, public_key = self.crypto.account(path)
        return {"address": address, "publicKey": public_key}

    def _operation(self, kind: str, params: dict[str, Any]) -> dict[str, Any]:
        if kind == "plan" and "operation" in params:
            return self._supplied(params)
        calls = params["steps"] if kind == "plan" else [params]
        for call in calls:
            self._must_be_listed(kind, call)
        number = f"op-{len(self.operations) + 1}"
        steps = [_step(_transferred(call) if kind == "transfer" else call) for call in calls]
        self.operations[number] = {"id": number, "kind": kind, "status": "awaiting_approval", "steps": steps}
        if self._execute is not None:
            self._spawn(partial(self._carry_out, number, kind, params))
        return {"operation": number}

    def _supplied(self, params: dict[str, Any]) -> dict[str, Any]:
        """Take the arguments of a plan's step that had none, and go on with it."""
        operation = self.operations.get(params["operation"], {"kind": "", "steps": []})
        step = next((step for step in operation["steps"] if step["args"] is None), None)
        if operation["kind"] != "plan" or step is None:
            raise Failure({"code": -32602, "message": "operation: a plan with a step that has no arguments yet"})
        step["args"] = params["args"]
        if self._execute is not None and operation["status"] == "waiting":
            self._spawn(partial(self._carry_out, params["operation"], "plan", {"steps": operation["steps"]}))
        return {"operation": params["operation"]}

    async def _carry_out(self, number: str, kind: str, params: dict[str, Any]) -> None:
        assert self._execute is not None  # noqa: S101 - the caller checked
        if any(step["args"] is None for step in self.operations[number]["steps"]):
            self.operations[number] |= {"status": "waiting"}
            self._deliver("operation", self.operations[number])
            return
        try:
            outcome: dict[str, Any] = {"status": "confirmed"} | await self._execute(kind, params)
            status: dict[str, Any] = {"status": "done"}
        except Exception as error:  # noqa: BLE001 - whatever the test raised is the reason the operation failed
            outcome, status = {"status": "reverted"}, {"status": "failed", "error": str(error)}
        steps = [step | outcome for step in self.operations[number]["steps"]]
        self.operations[number] |= status | {"steps": steps}
        self._deliver("operation", self.operations[number])
        async with self._changed:
            self._changed.notify_all()

    def _must_be_listed(self, kind: str, params: dict[str, Any]) -> None:
        if self._manifest is None:
            return
        if kind == "transfer":
            if not self._manifest["permissions"].get("transfer", False):
                raise Failure({"code": 4100, "message": "the manifest does not ask for transfer"})
            return
        lists = ("dispute", "withdraw", "deposit") if kind in ("send", "plan") else (kind,)
        listed = [function for name in lists for function in self._manifest["gateway"][0].get(name, [])]
        names = [function.partition("(")[0] for function in listed]
        if params.get("function") not in [None, *listed, *names]:
            raise Failure({"code": 4100, "message": f"{params['function']} is no {kind} function of the manifest"})

    def _deliver(self, kind: str, params: dict[str, Any]) -> None:
        if kind not in self._queues:
            self._queues[kind] = asyncio.Queue()
            self._spawn(partial(self._pump, kind))
        self._queues[kind].put_nowait(params)

    async def _pump(self, kind: str) -> None:
        while True:
            await self._peer.request(kind, await self._queues[kind].get())

    def _spawn(self, begin: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:  # begun here, so that nothing is left unawaited where it is cancelled before its turn
            with contextlib.suppress(ChannelClosed):
                await begin()

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _content(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: params[name] for name in ("typedData", "message", "digest") if name in params}


def _transferred(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a transfer as the call it is: one of the token's, or none at all."""
    to, value, token = params["to"], params["value"], params.get("token")
    if token is None:
        return {"value": value, "to": to}
    return {"function": "transfer(address,uint256)", "args": [to, value], "value": "0x0", "to": token}


def _step(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step as rpc.md shows it before anything was sent."""
    step = {name: call.get(name) for name in ("gateway", "function", "args", "value")}
    more = {name: call[name] for name in ("waitFor", "to") if name in call}
    given = call.get("args", [])
    return step | {"args": given, "status": "pending", "hashes": [], "confirmations": "0x0"} | more


def _wire(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return hex(value)
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return value
