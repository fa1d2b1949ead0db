"""Subscriptions of callers: whose they are, when they may speak, and when they end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from middleware.errors import Disconnected, InvalidParams, LimitExceeded, PluginUnavailable, Unauthorized, Unsupported
from middleware.waist import ANONYMOUS, Context, Origin
from proxy.methods.subscriptions import Subscriptions, handlers

PAGE, OTHER = Origin.web("https://app.example"), Origin.web("https://other.example")
TOKEN = Origin.token("bot")


class FakeConnection:
    """Keeps what is pushed."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[Any] = asyncio.Queue()
        self.raw: list[bytes] = []
        self.callbacks: list[Callable[[], None]] = []

    def push(self, method: str, params: Any) -> None:
        raise AssertionError("subscriptions write their frames themselves")

    def push_raw(self, frame: bytes) -> None:
        self.raw.append(frame)
        self.frames.put_nowait(json.loads(frame))

    def on_close(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def end(self) -> None:
        for callback in self.callbacks:
            callback()

    async def next(self) -> Any:
        async with asyncio.timeout(60):
            return (await self.frames.get())["params"]["result"]


class FakeL1:
    def __init__(self) -> None:
        self.receivers: list[Callable[[msgspec.Raw], None]] = []
        self.asked: list[list[Any]] = []
        self.stopped = 0
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def subscribe(
        self, params: list[Any], deliver: Callable[[msgspec.Raw], None]
    ) -> Callable[[], Awaitable[None]]:
        self.asked.append(params)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.receivers.append(deliver)

        async def stop() -> None:
            self.stopped += 1

        return stop

    def deliver(self, raw: bytes) -> None:
        for receiver in self.receivers:
            receiver(msgspec.Raw(raw))


class FakePermissions:
    def __init__(self) -> None:
        self.connected = {PAGE, OTHER}
        self.states = {(PAGE, "paychan"), (OTHER, "paychan"), (TOKEN, "paychan")}
        self.with_accounts = {PAGE, OTHER}
        self.callbacks: list[Callable[[Origin], None]] = []

    def is_connected(self, origin: Origin) -> bool:
        return origin in self.connected or origin in (TOKEN, ANONYMOUS)

    def may_read_state(self, origin: Origin, plugin: str) -> bool:
        return (origin, plugin) in self.states

    def accounts(self, origin: Origin) -> tuple[str, ...]:
        return ("0x1",) if origin in self.with_accounts else ()

    def on_revoked(self, callback: Callable[[Origin], None]) -> None:
        self.callbacks.append(callback)

    def tell(self, origin: Origin) -> None:
        for callback in self.callbacks:
            callback(origin)


class FakeStates:
    def __init__(self) -> None:
        self.revision = 1
        self.state: dict[str, Any] = {"balance": "0x1", "other": 1}
        self.error: Exception | None = None
        self.callbacks: list[Callable[[str, int, Origin | None], None]] = []

    async def get_state(self, plugin_id: str, path: str | None, fresh: bool, origin: Origin) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        state = self.state if path is None else self.state.get(path.removeprefix("/"))
        return {"plugin": plugin_id, "revision": hex(self.revision), "block": "0x0", "state": state}

    def on_state_change(self, callback: Callable[[str, int, Origin | None], None]) -> None:
        self.callbacks.append(callback)

    def publish(self, origin: Origin | None = None, plugin: str = "paychan", **state: Any) -> None:
        self.revision += 1
        self.state = {**self.state, **state}
        for callback in self.callbacks:
            callback(plugin, self.revision, origin)


class FakeOperations:
    def __init__(self) -> None:
        self.all: dict[str, tuple[dict[str, Any], Origin]] = {}
        self.callbacks: list[Callable[[str, dict[str, Any]], None]] = []

    def get(
        self, plugin_id: str, operation_id: str | None = None, /, origin: Origin | None = None
    ) -> list[dict[str, Any]]:
        return [op for op, cause in self.all.values() if op["id"] == operation_id and cause == origin]

    def on_change(self, callback: Callable[[str, dict[str, Any]], None]) -> None:
        self.callbacks.append(callback)

    def change(self, operation: dict[str, Any], cause: Origin) -> None:
        self.all[operation["id"]] = (operation, cause)
        for callback in self.callbacks:
            callback("paychan", operation)


class House:
    """Everything a subscription touches."""

    def __init__(self, limit: int = 100) -> None:
        self.l1, self.permissions = FakeL1(), FakePermissions()
        self.states, self.operations = FakeStates(), FakeOperations()
        self.dead_tokens: set[str] = set()
        self.subscriptions = Subscriptions(
            self.l1,
            self.permissions,
            self.states,
            self.operations,
            limit=limit,
            token_alive=lambda name: name not in self.dead_tokens,
        )
        self.methods = handlers(self.subscriptions)

    async def subscribe(self, connection: FakeConnection, *params: Any, origin: Origin = PAGE) -> str:
        """Subscribe as a door does: in a task that hands the answer on before it ends."""

        async def answer() -> str:
            context = Context(origin, connection=connection)
            number: str = await self.methods["eth_subscribe"](list(params), context)
            connection.raw.append(b"answer")
            return number

        return await asyncio.create_task(answer())

    async def unsubscribe(self, connection: FakeConnection, number: str, origin: Origin = PAGE) -> Any:
        return await self.methods["eth_unsubscribe"]([number], Context(origin, connection=connection))


async def test_what_the_node_delivers_is_pushed_byte_for_byte() -> None:
    house, connection = House(), FakeConnection()
    number = await house.subscribe(connection, "logs", {"address": "0x1"})
    assert house.l1.asked == [["logs", {"address": "0x1"}]]
    house.l1.deliver(b'{ "a" : 1.0 }')
    await connection.next()
    assert connection.raw[-1] == (
        b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"%b","result":{ "a" : 1.0 }}}'
        % number.encode()
    )


async def test_ids_cannot_be_guessed_and_are_the_connections_own() -> None:
    house, mine, other = House(), FakeConnection(), FakeConnection()
    first = await house.subscribe(mine, "newHeads")
    second = await house.subscribe(mine, "newHeads")
    assert first != second
    assert len(first) == 2 + 32
    assert await house.unsubscribe(other, first) is False
    assert await house.unsubscribe(other, first, OTHER) is False
    assert await house.unsubscribe(mine, first) is True
    assert await house.unsubscribe(mine, first) is False
    house.l1.deliver(b"1")
    assert await mine.next() == 1
    assert [json.loads(raw)["params"]["subscription"] for raw in mine.raw if raw != b"answer"] == [second]


async def test_the_answer_leaves_before_the_first_push() -> None:
    house, connection = House(), FakeConnection()
    house.l1.gate = asyncio.Event()
    subscribing = asyncio.create_task(house.subscribe(connection, "newHeads"))
    state = asyncio.create_task(house.subscribe(connection, "l2_state", {"plugin": "paychan"}))
    await state
    await connection.next()
    assert connection.raw[0] == b"answer"
    house.l1.gate.set()
    await subscribing


async def test_the_present_state_comes_first_then_every_change() -> None:
    house, connection = House(), FakeConnection()
    await house.subscribe(connection, "l2_state", {"plugin": "paychan"})
    assert await connection.next() == {
        "plugin": "paychan",
        "revision": "0x1",
        "block": "0x0",
        "state": house.states.state,
    }
    house.states.publish(balance="0x2")
    assert (await connection.next())["state"]["balance"] == "0x2"
    house.states.publish(plugin="other", balance="0x3")
    house.states.publish(origin=OTHER, balance="0x4")
    house.states.publish(origin=PAGE, balance="0x5")
    assert (await connection.next())["state"]["balance"] == "0x5"


async def test_with_a_path_only_its_value_counts() -> None:
    house, connection = House(), FakeConnection()
    await house.subscribe(connection, "l2_state", {"plugin": "paychan", "path": "/balance"})
    assert (await connection.next())["state"] == "0x1"
    house.states.publish(other=2)
    await asyncio.sleep(0)
    house.states.publish(balance="0x2")
    assert (await connection.next())["state"] == "0x2"
    assert connection.frames.empty()


async def test_a_plugin_that_is_down_is_no_end() -> None:
    house, connection = House(), FakeConnection()
    house.states.error = PluginUnavailable("paychan", "crashed")
    await house.subscribe(connection, "l2_state", {"plugin": "paychan"})
    await asyncio.sleep(0)
    house.states.error = None
    house.states.publish(balance="0x2")
    assert (await connection.next())["state"]["balance"] == "0x2"


async def test_operations_of_others_are_left_out() -> None:
    house, mine, other = House(), FakeConnection(), FakeConnection()
    await house.subscribe(mine, "l2_operations", {"plugin": "paychan"})
    await house.subscribe(other, "l2_operations", {"plugin": "paychan"}, origin=OTHER)
    house.operations.change({"id": "1", "status": "running"}, PAGE)
    house.operations.change({"id": "2", "status": "running"}, OTHER)
    assert (await mine.next())["id"] == "1"
    assert (await other.next())["id"] == "2"
    assert mine.frames.empty()
    assert other.frames.empty()


@pytest.mark.parametrize("kind", ["l2_state", "l2_operations"])
async def test_nothing_without_permission(kind: str) -> None:
    house = House()
    for plugin in ("secret", "not-installed"):
        with pytest.raises(Unauthorized):
            await house.subscribe(FakeConnection(), kind, {"plugin": plugin})
    house.permissions.with_accounts.clear()
    if kind == "l2_operations":
        with pytest.raises(Unauthorized):
            await house.subscribe(FakeConnection(), kind, {"plugin": "paychan"})
    assert len(house.subscriptions) == 0


@pytest.mark.parametrize("told", [True, False])
async def test_revocation_ends_a_subscription_for_the_very_next_push(told: bool) -> None:
    house, connection = House(), FakeConnection()
    await house.subscribe(connection, "l2_state", {"plugin": "paychan"})
    await house.subscribe(connection, "l2_operations", {"plugin": "paychan"})
    await connection.next()
    house.permissions.states.discard((PAGE, "paychan"))
    if told:
        house.permissions.tell(PAGE)
        assert len(house.subscriptions) == 0
    house.states.publish(balance="0x2")
    house.operations.change({"id": "1"}, PAGE)
    for _ in range(5):
        await asyncio.sleep(0)
    assert connection.frames.empty()
    assert len(house.subscriptions) == 0


async def test_permission_taken_while_the_state_is_read_counts() -> None:
    house, connection = House(), FakeConnection()
    await house.subscribe(connection, "l2_state", {"plugin": "paychan"})
    await connection.next()
    read = house.states.get_state

    async def taken_meanwhile(*given: Any) -> dict[str, Any]:
        house.permissions.states.clear()
        return await read(*given)

    house.states.get_state = taken_meanwhile  # type: ignore[assignment,method-assign]
    house.states.publish(balance="0x2")
    for _ in range(5):
        await asyncio.sleep(0)
    assert connection.frames.empty()


async def test_a_disconnected_page_hears_no_blocks() -> None:
    house, connection = House(), FakeConnection()
    await house.subscribe(connection, "newHeads")
    house.permissions.connected.discard(PAGE)
    house.l1.deliver(b"1")
    assert connection.frames.empty()
    await house.subscriptions.close()
    assert house.l1.stopped == 1


async def test_a_revoked_token_hears_no_blocks() -> None:
    house, connection = House(), FakeConnection()
    await house.subscribe(connection, "newHeads", origin=TOKEN)
    house.dead_tokens.add("bot")
    house.l1.deliver(b"1")
    assert connection.frames.empty()


async def test_anyone_may_follow_the_chain() -> None:
    house, connection = House(), FakeConnection()
    await house.subscribe(connection, "newHeads", origin=ANONYMOUS)
    house.l1.deliver(b'"0x1"')
    assert await connection.next() == "0x1"


async def test_a_connection_takes_its_subscriptions_with_it() -> None:
    house, connection, other = House(), FakeConnection(), FakeConnection()
    for _ in range(3):
        await house.subscribe(connection, "newHeads")
    await house.subscribe(connection, "l2_state", {"plugin": "paychan"})
    await house.subscribe(other, "newHeads")
    connection.end()
    assert len(house.subscriptions) == 1
    assert len(connection.callbacks) == 1, "one callback for a connection, however many subscriptions it had"
    await house.subscriptions.close()
    assert house.l1.stopped == 4


async def test_a_connection_that_ends_while_it_subscribes_leaves_nothing() -> None:
    house, connection = House(), FakeConnection()
    house.l1.gate = asyncio.Event()
    subscribing = asyncio.create_task(house.subscribe(connection, "newHeads"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    connection.end()
    house.l1.gate.set()
    await subscribing
    assert len(house.subscriptions) == 0
    assert house.l1.stopped == 1


async def test_an_asker_who_leaves_while_it_subscribes_leaves_nothing() -> None:
    house, connection = House(), FakeConnection()
    house.l1.gate = asyncio.Event()
    context = Context(PAGE, connection=connection)
    subscribing = asyncio.create_task(house.subscriptions.subscribe(["newHeads"], context))
    await asyncio.sleep(0)
    subscribing.cancel()
    await asyncio.gather(subscribing, return_exceptions=True)
    assert len(house.subscriptions) == 0


async def test_the_limit_counts_open_ones() -> None:
    house, connection = House(limit=2), FakeConnection()
    await house.subscribe(FakeConnection(), "newHeads", origin=ANONYMOUS)
    first = await house.subscribe(connection, "newHeads")
    for origin in (PAGE, TOKEN):
        with pytest.raises(LimitExceeded) as caught:
            await house.subscribe(connection, "newHeads", origin=origin)
        assert caught.value.data == {"limit": "subscriptions"}
    await house.unsubscribe(connection, first)
    house.l1.error = Disconnected("no node")
    with pytest.raises(Disconnected):
        await house.subscribe(connection, "newHeads")
    house.l1.error = None
    await house.subscribe(connection, "newHeads")


async def test_one_page_cannot_have_them_all() -> None:
    house, connection = House(limit=8), FakeConnection()
    for _ in range(2):
        await house.subscribe(connection, "newHeads")
    with pytest.raises(LimitExceeded, match="a quarter"):
        await house.subscribe(FakeConnection(), "newHeads")
    for _ in range(6):
        await house.subscribe(connection, "logs", origin=TOKEN)
    active = house.subscriptions.active
    assert (active.pop("newHeads"), active.pop("logs")) == (2, 6)
    assert set(active.values()) == {0}


async def test_what_the_node_delivers_before_the_answer_has_left_waits_for_it() -> None:
    house, connection = House(), FakeConnection()
    context = Context(PAGE, connection=connection)

    async def answer() -> None:
        await house.subscriptions.subscribe(["newHeads"], context)
        house.l1.deliver(b"1")
        assert connection.raw == []
        connection.raw.append(b"answer")

    await asyncio.create_task(answer())
    assert await connection.next() == 1
    assert connection.raw[0] == b"answer"


async def test_without_a_lasting_connection_there_is_no_subscription() -> None:
    house = House()
    with pytest.raises(Unsupported, match="WebSocket"):
        await house.methods["eth_subscribe"](["newHeads"], Context(PAGE))


@pytest.mark.parametrize(
    "params",
    [
        *(None, [], {}, [1], [None], {"kind": "newHeads"}),
        *(["l2_state"], ["l2_state", "paychan"], ["l2_state", {}], ["l2_state", {"plugin": 1}], ["l2_nonsense", {}]),
        ["l2_state", {"plugin": "paychan", "path": 1}],
        ["l2_state", {"plugin": "paychan", "path": "balance"}],
        ["l2_state", {"plugin": "paychan", "fresh": True}],
        ["l2_operations", {"plugin": "paychan", "path": "/x"}],
        ["l2_state", {"plugin": "paychan"}, 1],
    ],
)
async def test_params_that_mean_nothing_are_named(params: Any) -> None:
    house = House()
    with pytest.raises(InvalidParams):
        await house.methods["eth_subscribe"](params, Context(PAGE, connection=FakeConnection()))
    assert len(house.subscriptions) == 0


@pytest.mark.parametrize("params", [None, [], [1], {}, ["0x1", "0x2"]])
async def test_so_are_those_of_unsubscribe(params: Any) -> None:
    with pytest.raises(InvalidParams):
        await House().methods["eth_unsubscribe"](params, Context(PAGE, connection=FakeConnection()))
