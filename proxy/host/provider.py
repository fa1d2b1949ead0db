"""What a plugin talks to: one table of host methods, each with the grant it needs and the exact shape of its params.

Between the channel and the services. Order for every request: known method → grant → shape → service; nothing of the
params is looked at before the grant. A plugin is an origin like any other: services that reach L1, money or the owner pass
`asker.origin` on to the same chain and the same approvals as a dapp's (architecture.md, "The waist").
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from middleware.errors import InvalidParams, RpcError, Unauthorized, shorten
from middleware.waist import Origin
from proxy.host.calls import Calls

_PLACE = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_OTHER_TYPE = re.compile(r"Expected (.+), got (.+)", re.DOTALL)


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The params of one host method; unknown members are refused."""


class Nothing(Params, frozen=True, kw_only=True):
    """No params."""


@dataclass(frozen=True)
class Asker:
    """Who asks: the plugin's origin, the site it says it serves, and the time that stands still while the owner is asked."""

    origin: Origin
    serving: Origin | None
    paused: Callable[[], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class HostMethod:
    """One row of the table. `grant` None: needs none."""

    grant: str | None
    params: type[Params]
    answer: Callable[[Any, Asker], Awaitable[Any]]


class Provider:
    """Answers the host requests of one plugin."""

    def __init__(
        self,
        plugin_id: str,
        grants: frozenset[str],
        services: Iterable[Mapping[str, HostMethod]],
        calls: Calls,
        paused: Callable[[], contextlib.AbstractContextManager[None]],
    ) -> None:
        self._plugin_id = plugin_id
        self._grants = grants
        self._methods: dict[str, HostMethod] = {}
        for service in services:
            self._methods.update(service)
        self._calls = calls
        self._paused = paused

    async def request(self, method: str, params: dict[str, Any]) -> Any:
        """Answer one host call with a JSON value. Raises RpcError: 4100 outside the grants, -32602 malformed, …"""
        row = self._methods.get(method)
        if row is None:
            raise RpcError(-32601, f"the proxy has no host method {shorten(method)}")
        if row.grant is not None and row.grant not in self._grants:
            raise Unauthorized(f"{self._plugin_id} was not granted {row.grant}, which {method} needs")
        rest = dict(params)
        named = rest.pop("call", None)
        if named is not None and not isinstance(named, str):
            raise InvalidParams("params.call", "the call of an invoke", named)
        call = self._calls.find(named)
        asker = Asker(
            Origin.plugin(self._plugin_id),
            None if call is None else call.origin,
            self._paused if call is None else call.time.paused,
        )
        return await row.answer(shaped(rest, row.params), asker)


def shaped(params: dict[str, Any], kind: type[Any], where: str = "params") -> Any:
    """Return `params` as `kind`. Raises InvalidParams naming the member below `where`."""
    try:
        return msgspec.convert(params, kind)
    except msgspec.ValidationError as error:
        match = _PLACE.fullmatch(str(error))
        text, place = (match[1], match[2]) if match else (str(error), "")
        raise _misshapen(text, f"{where}.{place}" if place else where, kind) from None


def _misshapen(text: str, where: str, kind: type[Any]) -> InvalidParams:
    """Return the error for what msgspec says of a member, in our words."""
    if match := _UNKNOWN.fullmatch(text):
        known = ", ".join(field.encode_name for field in msgspec.structs.fields(kind))
        return InvalidParams(f"{where}.{match[1][:64]}", f"no such member; known: {known or 'none'}", match[1])
    if match := _MISSING.fullmatch(text):
        return InvalidParams(f"{where}.{match[1]}", "a value", "nothing")
    if match := _OTHER_TYPE.fullmatch(text):
        return InvalidParams(where, match[1].replace("`", ""), match[2].replace("`", ""))
    return InvalidParams(where, text.removeprefix("Expected ").replace("`", ""), "something else")
