"""The door's core: one answer per call, in order, and nothing of what went wrong inside."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from middleware.delivery import after_answer
from middleware.errors import InvalidParams
from middleware.waist import ANONYMOUS, Answer, Context, NodeReply, Request, result
from proxy.server.conversation import Conversation
from proxy.server.door import Door
from proxy.server.outbox import Outbox
from tests.server.test_outbox import Wire

CONTEXT = Context(ANONYMOUS)


async def answering(request: Request, context: Context) -> Answer:
    match request.method:
        case "fails":
            raise InvalidParams("to", "an address", 1)
        case "breaks":
            raise RuntimeError("the seed is abandon abandon")
        case "node":
            return NodeReply(b'{"id":9,"result":"raw" }')
    return result(request.method)


DOOR = Door(answering, batch=10)


async def ask(body: str) -> Any:
    answer: Any = await DOOR.answer(body.encode(), CONTEXT)
    return None if answer is None else json.loads(answer)


def item(method: str, raw_id: str | None = "1") -> str:
    return f'{{"jsonrpc":"2.0","method":"{method}"' + ("" if raw_id is None else f',"id":{raw_id}') + "}"


async def test_result_error_and_the_nodes_own_bytes() -> None:
    assert await ask(item("a")) == {"jsonrpc": "2.0", "id": 1, "result": "a"}
    assert (await ask(item("fails")))["error"]["code"] == -32602
    assert await DOOR.answer(item("node").encode(), CONTEXT) == b'{"id":9,"result":"raw" }'


@pytest.mark.parametrize("method", ["a", "fails", "breaks", "node"])
async def test_a_notification_gets_no_answer(method: str) -> None:
    assert await ask(item(method, None)) is None
    assert await ask(f"[{item(method, None)},{item(method, None)}]") is None


@pytest.mark.parametrize("transport", ["ws", "ipc", "http"])
@pytest.mark.parametrize("ahead", [[], [item("a", None), "1"]], ids=["calls alone", "no call first"])
async def test_on_a_stream_a_batch_over_the_limit_is_answered_by_one_error_in_a_batch(
    transport: str, ahead: list[str]
) -> None:
    """As geth has it: web3.py waits on a socket for a batch, and took a single error for nothing."""
    body = f"[{','.join([*ahead, *(item('a', str(number)) for number in range(5, 16))])}]"
    answer: Any = await DOOR.answer(body.encode(), Context(ANONYMOUS, transport))
    told = json.loads(answer)
    if transport == "http":
        assert (told["id"], told["error"]["data"]) == (None, {"limit": "batch"})
    else:
        [told] = told
        assert (told["id"], told["error"]["data"]) == (5, {"limit": "batch"})


async def test_a_batch_of_notifications_over_the_limit_is_told_as_everywhere() -> None:
    body = f"[{','.join([item('a', None)] * 11)}]"
    answer: Any = await DOOR.answer(body.encode(), Context(ANONYMOUS, "ws"))
    assert json.loads(answer)["id"] is None


async def test_a_batch_is_answered_in_order_whoever_ends_first() -> None:
    release = asyncio.Event()

    async def slow_first(request: Request, context: Context) -> Answer:
        if request.method == "slow":
            await release.wait()
        else:
            release.set()
        return result(request.method)

    body = f"[{item('slow', '1')},{item('quiet', None)},5,{item('fast', '2')}]"
    answer: Any = await Door(slow_first).answer(body.encode(), CONTEXT)
    assert answer is not None
    assert [(one["id"], one.get("result")) for one in json.loads(answer)] == [(1, "slow"), (None, None), (2, "fast")]


async def test_what_breaks_inside_leaves_as_an_opaque_id(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "l2proxy.door"):
        answer: Any = await DOOR.answer(item("breaks", '"x"').encode(), CONTEXT)
    assert answer is not None
    assert b"abandon" not in answer
    assert b"Traceback" not in answer
    error = json.loads(answer)["error"]
    assert error["code"] == -32603
    assert set(error["data"]) == {"errorId"}
    assert error["data"]["errorId"] in caplog.text
    assert "abandon" in caplog.text


async def test_a_batch_holds_a_bounded_number_of_bytes() -> None:
    async def large(request: Request, context: Context) -> Answer:
        return result("x" * 600)

    answer: Any = await Door(large, response=1500).answer(f"[{','.join([item('a')] * 4)}]".encode(), CONTEXT)
    assert answer is not None
    codes = [one.get("error", {}).get("code") for one in json.loads(answer)]
    assert codes == [None, None, -32005, -32005]


CALLS: st.SearchStrategy[list[Any]] = st.lists(
    st.fixed_dictionaries(
        {"method": st.sampled_from(["a", "fails", "breaks", "node"])},
        optional={
            "id": st.integers() | st.text(max_size=5) | st.none(),
            "jsonrpc": st.just("2.0"),
            "params": st.just([]),
        },
    )
    | st.integers(),
    max_size=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(CALLS)
def test_every_call_of_a_batch_has_exactly_one_answer(calls: list[Any]) -> None:
    logging.getLogger("l2proxy.door").disabled = True
    try:
        answer: Any = asyncio.run(DOOR.answer(json.dumps(calls).encode(), CONTEXT))
    finally:
        logging.getLogger("l2proxy.door").disabled = False
    if not calls or len(calls) > 10:
        assert answer is not None
        assert json.loads(answer)["error"]["code"] in (-32600, -32005)
        return
    quiet = [c for c in calls if isinstance(c, dict) and "jsonrpc" in c and "id" not in c]
    expected = len(calls) - len(quiet)
    assert (answer is None and expected == 0) or (answer is not None and len(json.loads(answer)) == expected)


async def test_what_waits_for_the_answer_of_a_batch_waits_for_all_of_it() -> None:
    told: list[str] = []
    subscribed, gate = asyncio.Event(), asyncio.Event()

    async def answering(request: Request, _: Context) -> Answer:
        if request.method == "eth_subscribe":
            after_answer(lambda: told.append("push"))
            subscribed.set()
        else:
            await gate.wait()
        return result("0x1")

    async def message() -> None:
        body = b'[{"jsonrpc":"2.0","id":1,"method":"eth_subscribe"},{"jsonrpc":"2.0","id":2,"method":"eth_call"}]'
        assert await Door(answering).answer(body, CONTEXT) is not None
        told.append("answer")

    answered = asyncio.create_task(message())
    await subscribed.wait()
    await asyncio.sleep(0)  # the task of the one call ends
    await asyncio.sleep(0)
    gate.set()
    await answered
    await asyncio.sleep(0)  # what was waiting is called
    assert told == ["answer", "push"]


async def test_what_waits_for_an_answer_waits_for_the_message_whatever_task_answers() -> None:
    wire = Wire()
    outbox, pushed = Outbox(wire), asyncio.Event()

    def push() -> None:
        outbox.push_raw(b"push")
        pushed.set()

    async def call() -> Answer:
        after_answer(push)
        return result("id")

    async def answering(_: Request, __: Context) -> Answer:
        (answer,) = await asyncio.gather(call())  # as the library behind the proxy's own methods does
        return answer

    async def messages() -> AsyncIterator[bytes]:
        yield b'{"jsonrpc":"2.0","id":1,"method":"eth_subscribe"}'
        await pushed.wait()

    await Conversation(Door(answering), CONTEXT, outbox).run(messages(), asyncio.Event())
    assert [b'"result":"id"' in frame for frame in wire.frames] == [True, False]
