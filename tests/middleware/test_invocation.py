"""The invocation link: one reading of the params, one form behind it, one id for every call."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.errors import InvalidParams, PluginFailed, PluginTimeout, PluginUnavailable, Refused, RpcError
from middleware.invocation import (
    Invocation,
    InvocationLink,
    never_asked,
    read_asked,
    read_checked,
    spent_nothing,
)
from middleware.waist import SOCKET, Answer, Context, Origin, Request, result


class Actions:
    def action_spec(self, plugin: str, action: str) -> None:
        raise AssertionError("not asked here")

    def check_params(self, plugin: str, action: str, raw: Any) -> dict[str, Any]:
        if raw != ["0x1"]:
            raise InvalidParams("params", "one value", raw)
        return {"value": "0x1"}


async def passed(params: Any, origin: Origin = SOCKET) -> Invocation:
    seen: list[Request] = []

    async def terminal(request: Request, context: Context) -> Answer:
        seen.append(request)
        return result(None)

    await InvocationLink(Actions())(Request("l2_invoke", json.dumps(params).encode(), b"7"), Context(origin), terminal)
    assert seen[0].id == b"7"
    assert set(json.loads(seen[0].params)[3]) <= {"call", "idempotencyKey"}
    return read_checked(seen[0])


@pytest.mark.parametrize(
    "params",
    [
        ["paychan", "pay", ["0x1"]],
        ["paychan", "pay", ["0x1"], {}],
        ["paychan", "pay", ["0x1"], None],
        {"plugin": "paychan", "action": "pay", "params": ["0x1"]},
    ],
)
async def test_what_was_checked_goes_on(params: Any) -> None:
    call = await passed(params)
    assert (call.plugin, call.action, call.params, call.key) == ("paychan", "pay", {"value": "0x1"}, None)


async def test_every_call_has_an_id_and_a_key_keeps_it() -> None:
    params = ["paychan", "pay", ["0x1"]]
    assert (await passed(params)).call != (await passed(params)).call
    keyed = [*params, {"idempotencyKey": "k"}]
    assert (await passed(keyed)).call == (await passed(keyed)).call
    assert (await passed(keyed)).call != (await passed(keyed, Origin.token("ci"))).call
    assert (await passed(keyed)).call != (await passed([*params, {"idempotencyKey": "l"}])).call


@pytest.mark.parametrize(
    ("params", "param"),
    [
        (b"", "params"),
        (b"[]", "params"),
        (b'["a"]', "params"),
        (b'["a","b",[],{},1]', "params"),
        (b'"text"', "params"),
        (b"[1,2]", "plugin"),
        (b'["a",null]', "action"),
        (b'{"plugin":"a"}', "action"),
        (b'{"plugin":"a","action":"b","more":1}', "more"),
        (b'["a","b",[],"k"]', "options"),
        (b'["a","b",[],{"call":"x"}]', "options"),
        (b'["a","b",[],{"idempotencyKey":1}]', "options.idempotencyKey"),
        (b'["a","b",[],{"idempotencyKey":""}]', "options.idempotencyKey"),
        (b'["a","b",[],{"idempotencyKey":"a\\u0000b"}]', "options.idempotencyKey"),
        (b'["a","b","\xff"]', "params"),
        (b"[" * 2_000 + b"]" * 2_000, "params"),
    ],
)
def test_malformed_params_are_named(params: bytes, param: str) -> None:
    with pytest.raises(InvalidParams) as error:
        read_asked(params)
    assert error.value.data["param"] == param


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with contextlib.suppress(InvalidParams):
        assert isinstance(read_asked(raw), Invocation)


@pytest.mark.parametrize(
    ("error", "never", "nothing"),
    [
        (Refused("no"), True, False),
        (PluginTimeout("p", 60), False, False),
        (PluginUnavailable("p", "crashed", "unknown"), False, False),
        (PluginUnavailable("p", "is quarantined"), True, False),
        (PluginFailed("p", 1, "no", {"spent": False}), False, True),
        (PluginFailed("p", 1, "no", {"spent": 0}), False, False),
        (PluginFailed("p", 1, "no", "not json {"), False, False),
        (PluginFailed("p", 4001, "the plugin says it was refused"), False, False),
        (RpcError(-32603, "ours"), False, False),
        (RpcError(-32012, "no data"), True, False),
    ],
)
def test_what_an_error_says_of_the_plugin(error: RpcError, never: bool, nothing: bool) -> None:
    assert never_asked(error) is never
    assert spent_nothing(error) is nothing


def test_it_handles_l2_invoke_alone() -> None:
    link = InvocationLink(Actions())
    assert link.handles("l2_invoke")
    assert not link.handles("l2_getState")
