"""Declarations: what `@action` and the annotations say, and what they refuse to say."""

from __future__ import annotations

from typing import Any, TypedDict

import l2proxy_sdk
import pytest
from l2proxy_sdk import Plugin, Uint256, action
from l2proxy_sdk.errors import DeclarationError

from tests.sdk.sample import Sample


class Result(TypedDict):
    """A result."""

    value: Uint256


def test_the_table_is_the_manifests() -> None:
    table = {row["name"]: row for row in Sample.actions()}
    point = [{"name": "x", "type": "int64"}, {"name": "y", "type": "uint8"}]
    assert table["echo"]["description"] == "Return what came."
    assert table["echo"]["params"] == [
        {"name": "amount", "type": "uint256"},
        {"name": "to", "type": "address"},
        {"name": "raw", "type": "bytes"},
        {"name": "tag", "type": "bytes4"},
        {"name": "flag", "type": "bool"},
        {"name": "text", "type": "string"},
        {"name": "points", "type": "tuple[]", "components": point},
        {"name": "pair", "type": "uint8[2]"},
    ]
    assert table["echo"]["returns"] == table["echo"]["params"]
    assert table["spend"] == {
        "name": "spend",
        "description": "Spend, and read something meanwhile.",
        "params": [{"name": "value", "type": "uint256"}],
        "returns": [{"name": "number", "type": "uint256"}],
        "spends": {"param": "value", "asset": "ETH"},
        "approval": "always",
        "idempotent": True,
    }
    assert "spends" not in table["wait"]
    assert (table["wait"]["approval"], table["wait"]["returns"]) == ("policy", [])


def test_every_abi_size_is_there() -> None:
    for bits in range(8, 257, 8):
        assert hasattr(l2proxy_sdk, f"Uint{bits}")
        assert hasattr(l2proxy_sdk, f"Int{bits}")
        assert hasattr(l2proxy_sdk, f"Bytes{bits // 8}")


def test_overriding_removes_and_replaces_actions() -> None:
    class Other(Sample):
        """Another."""

        wait = None  # type: ignore[assignment]

        @action
        async def open(self) -> None:
            """Open differently."""

    names = [row["name"] for row in Other.actions()]
    assert "wait" not in names
    assert {row["description"] for row in Other.actions() if row["name"] == "open"} == {"Open differently."}


def _class(body: dict[str, Any]) -> type:
    return type("Broken", (Plugin,), body)


async def _plain_int(self: Any, value: int) -> None: ...
async def _no_type(self: Any, value) -> None: ...  # type: ignore[no-untyped-def]
async def _default(self: Any, value: Uint256 = 1) -> None: ...
async def _bad_return(self: Any) -> Uint256: ...  # type: ignore[empty-body]
async def _star(self: Any, *values: Uint256) -> None: ...
async def _plain_list(self: Any, values: list) -> None: ...  # type: ignore[type-arg]
async def _spends_nothing(self: Any, value: Uint256) -> None: ...


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (_plain_int, "int has no ABI size"),
        (_no_type, "has no type"),
        (_default, "without a default"),
        (_bad_return, "returns a TypedDict"),
        (_star, "plain parameter"),
        (_plain_list, "is not an ABI type"),
    ],
)
def test_what_cannot_be_declared_fails_while_the_class_is_made(method: Any, message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        _class({"act": action(method)})


async def _nowhere(self: Any) -> Nowhere: ...  # type: ignore[name-defined]  # noqa: F821


def test_a_name_that_never_appears_is_said_when_the_plugin_starts() -> None:
    broken: Any = _class({"act": action(_nowhere)})
    with pytest.raises(DeclarationError, match="Nowhere"):
        broken.actions()


def test_promises_that_cannot_be_kept() -> None:
    with pytest.raises(DeclarationError, match="no uint parameter"):
        _class({"act": action(spends=("amount", "ETH"))(_spends_nothing)})
    with pytest.raises(DeclarationError, match="approval is"):
        _class({"act": action(approval="sometimes")(_spends_nothing)})  # type: ignore[call-overload]
    with pytest.raises(DeclarationError, match="async def"):
        action(lambda self: None)  # type: ignore[type-var]
