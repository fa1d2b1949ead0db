"""How admin methods read their params: one object, every member typed, unknown ones refused."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from middleware.errors import RpcError


class AdminParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The params of one admin method; members are camelCase on the wire."""


Params = TypeVar("Params", bound=AdminParams)


class BadRequest(RpcError):
    """-32602: what the owner asked for cannot be done; the message is a sentence for the owner."""

    def __init__(self, message: str) -> None:
        super().__init__(-32602, message)


def read(params: Any, kind: type[Params]) -> Params:
    """Return `params` as `kind`; raise `BadRequest`."""
    try:
        return msgspec.convert({} if params is None else params, kind)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the parameters do not fit: {error}") from error
