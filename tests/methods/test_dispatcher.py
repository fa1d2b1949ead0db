"""The dispatcher: handlers get params as one value; the library's own texts never reach a caller."""

from __future__ import annotations

from typing import Any

import pytest

from middleware.errors import InvalidParams, MethodNotFound, Refused
from middleware.waist import ANONYMOUS, Context, NodeReply, Request
from proxy.methods.dispatcher import Dispatcher

CONTEXT = Context(ANONYMOUS)


async def echo(params: Any, context: Context) -> Any:
    return {"params": params, "origin": str(context.origin)}


async def refuse(params: Any, context: Context) -> Any:
    raise Refused("no")


async def break_down(params: Any, context: Context) -> Any:
    raise KeyError("secret")


DISPATCHER = Dispatcher({"echo": echo, "refuse": refuse, "break": break_down})


@pytest.mark.parametrize(
    ("raw", "params"),
    [
        (b"", "null"),
        (b"null", "null"),
        (b"[]", "[]"),
        (b"{}", "{}"),
        (b'[1,{"a":null}]', '[1,{"a":null}]'),
        (b'{"self":1,"context":2,"params":3}', '{"self":1,"context":2,"params":3}'),
    ],
)
async def test_params_arrive_as_one_value(raw: bytes, params: str) -> None:
    answer = await DISPATCHER(Request("echo", raw), CONTEXT)
    assert answer.json.decode() == f'{{"params":{params},"origin":"anonymous"}}'


async def test_errors_of_handlers_come_through_as_they_are() -> None:
    with pytest.raises(Refused):
        await DISPATCHER(Request("refuse"), CONTEXT)
    with pytest.raises(KeyError):
        await DISPATCHER(Request("break"), CONTEXT)


async def test_only_what_stands_in_the_table() -> None:
    assert set(DISPATCHER) == {"echo", "refuse", "break"}
    for name in ("__init__", "Echo", "rpc.discover", ""):
        assert name not in DISPATCHER
        with pytest.raises(MethodNotFound):
            await DISPATCHER(Request(name), CONTEXT)


async def test_a_number_out_of_range_names_the_params() -> None:
    with pytest.raises(InvalidParams):
        await DISPATCHER(Request("echo", b"[1e999]"), CONTEXT)


async def test_a_call_that_a_handler_returns_is_answered_by_the_chain_as_it_comes() -> None:
    async def other(params: Any, context: Context) -> Request:
        return Request("eth_getLogs", b"[{}]")

    async def chain(request: Request) -> NodeReply:
        return NodeReply(request.method.encode() + request.params + (request.id or b""))

    dispatcher = Dispatcher({"other": other})
    answer = await dispatcher(Request("other", b"[]", b'"me"'), Context(ANONYMOUS, dispatch=chain))
    assert answer == NodeReply(b'eth_getLogs[{}]"me"')
