"""Typed data: what is shown is what is hashed, and the hash is everybody's (EIP-712; hardening.md 17, 28)."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak

from middleware.errors import InvalidParams
from proxy.wallet import typed_data
from proxy.wallet.typed_data import hash_typed_data, parse

# The example of EIP-712 with the digest its authors publish.
MAIL: dict[str, Any] = {
    "types": {
        "EIP712Domain": [
            {"name": "name", "type": "string"},
            {"name": "version", "type": "string"},
            {"name": "chainId", "type": "uint256"},
            {"name": "verifyingContract", "type": "address"},
        ],
        "Person": [{"name": "name", "type": "string"}, {"name": "wallet", "type": "address"}],
        "Mail": [
            {"name": "from", "type": "Person"},
            {"name": "to", "type": "Person"},
            {"name": "contents", "type": "string"},
        ],
    },
    "primaryType": "Mail",
    "domain": {
        "name": "Ether Mail",
        "version": "1",
        "chainId": 1,
        "verifyingContract": "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC",
    },
    "message": {
        "from": {"name": "Cow", "wallet": "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"},
        "to": {"name": "Bob", "wallet": "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"},
        "contents": "Hello, Bob!",
    },
}


def changed(*place: Any, value: Any) -> dict[str, Any]:
    typed = copy.deepcopy(MAIL)
    inner: Any = typed
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return typed


def test_the_digest_of_the_standard() -> None:
    assert hash_typed_data(MAIL).hex() == "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2"
    assert hash_typed_data(json.dumps(MAIL)) == hash_typed_data(MAIL)


def test_unused_types_change_nothing() -> None:
    typed = copy.deepcopy(MAIL)
    typed["types"]["Unused"] = [{"name": "x", "type": "uint8"}]
    assert hash_typed_data(typed) == hash_typed_data(MAIL)


def test_quantities_may_be_written_in_every_usual_way() -> None:
    for value in (1, "1", "0x1", "0x01"):
        assert hash_typed_data(changed("domain", "chainId", value=value)) == hash_typed_data(MAIL)


def test_all_kinds_of_values_hash_as_in_eth_account() -> None:
    typed = {
        "types": {
            "EIP712Domain": [{"name": "salt", "type": "bytes32"}],
            "T": [
                {"name": "a", "type": "uint8[2][]"},
                {"name": "b", "type": "bytes"},
                {"name": "c", "type": "bytes4"},
                {"name": "d", "type": "int16"},
                {"name": "e", "type": "bool"},
                {"name": "f", "type": "T[]"},
            ],
        },
        "primaryType": "T",
        "domain": {"salt": "0x" + "ab" * 32},
        "message": {
            "a": [[1, 2], [3, 4]],
            "b": "0x",
            "c": "0x01020304",
            "d": -5,
            "e": True,
            "f": [{"a": [], "b": "0x00", "c": "0x00000000", "d": 0, "e": False, "f": []}],
        },
    }
    signable = encode_typed_data(full_message=typed)
    assert hash_typed_data(typed) == keccak(b"\x19" + signable.version + signable.header + signable.body)


@pytest.mark.parametrize(
    "typed",
    [
        changed("message", "extra", value=1),
        changed("message", "from", "extra", value=1),
        changed("domain", "salt", value="0x" + "00" * 32),
        changed("domain", "other", value=1),
        changed("other", value=1),
    ],
    ids=["message", "struct", "domain", "domain unknown", "top"],
)
def test_what_would_not_be_signed_is_an_error(typed: dict[str, Any]) -> None:
    with pytest.raises(InvalidParams):
        parse(typed)


@pytest.mark.parametrize(
    "typed",
    [
        changed("message", "contents", value=5),
        changed("message", "contents", value=None),
        changed("message", "contents", value="\ud800"),
        changed("message", "to", value=None),
        changed("message", "to", value={}),
        changed("message", "to", "wallet", value="0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBb"),
        changed("message", "to", "wallet", value="0xBBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"),
        changed("domain", "chainId", value=2**256),
        changed("domain", "chainId", value=-1),
        changed("domain", "chainId", value="one"),
        changed("domain", "chainId", value=1.0),
        changed("domain", "chainId", value=True),
        changed("primaryType", value="Person2"),
        changed("primaryType", value="EIP712Domain"),
        changed("primaryType", value=None),
        changed("types", value={}),
        changed("types", "uint8", value=[]),
        changed("types", "Bad Name", value=[]),
        changed("types", "Mail", value=[{"name": "from", "type": "Nobody"}]),
        changed("types", "Mail", value=[{"name": "from", "type": "uint7"}]),
        changed("types", "Mail", value=[{"name": "a", "type": "bool"}, {"name": "a", "type": "bool"}]),
        changed("types", "Mail", value=[{"name": "a", "type": "bool", "more": 1}]),
        changed(
            "types", "EIP712Domain", value=[{"name": "chainId", "type": "uint256"}, {"name": "name", "type": "string"}]
        ),
        changed("types", "EIP712Domain", value=[{"name": "chainId", "type": "uint8"}]),
        changed("domain", value=[]),
        changed("message", value="x"),
        "not json",
        "[1]",
        5,
        None,
    ],
)
def test_what_libraries_would_read_differently_is_an_error(typed: Any) -> None:
    with pytest.raises(InvalidParams) as caught:
        parse(typed)
    assert caught.value.data["param"]


def nested(depth: int) -> dict[str, Any]:
    types = {f"T{level}": [{"name": "next", "type": f"T{level + 1}"}] for level in range(depth)}
    types[f"T{depth}"] = [{"name": "x", "type": "bool"}]
    message: Any = {"x": True}
    for _ in range(depth):
        message = {"next": message}
    return {"types": types, "primaryType": "T0", "domain": {}, "message": message}


def listed(count: int) -> dict[str, Any]:
    types = {"T": [{"name": "x", "type": "uint8[]"}]}
    return {"types": types, "primaryType": "T", "domain": {}, "message": {"x": [0] * count}}


def slow() -> dict[str, Any]:
    """Return typed data within every limit that takes seconds to hash: 2,000 structs, each with 60 types below it."""
    types = {f"C{n}": [{"name": f"f{m}", "type": f"C{(n + m + 1) % 60}[]"} for m in range(20)] for n in range(60)}
    types |= {"A": [{"name": "x", "type": "B[]"}], "B": [{"name": "e", "type": "C0[]"}]}
    return {"types": types, "primaryType": "A", "domain": {}, "message": {"x": [{"e": []}] * 2000}}


def test_sizes_are_bounded_before_anything_expensive(monkeypatch: pytest.MonkeyPatch) -> None:
    parse(nested(6))
    parse(listed(4000))
    too_much = [
        nested(9),
        listed(4097),
        {"types": {f"T{n}": [] for n in range(65)}, "primaryType": "T0", "domain": {}, "message": {}},
        {
            "types": {"T": [{"name": f"f{n}", "type": "bool"} for n in range(65)]},
            "primaryType": "T",
            "domain": {},
            "message": {},
        },
        {
            "types": {"T": [{"name": "x", "type": "string"}]},
            "primaryType": "T",
            "domain": {},
            "message": {"x": "a" * 65536},
        },
        "[" * 60_000,
        '{"types":' * 5_000,
    ]
    hashed: list[object] = []
    monkeypatch.setattr(typed_data, "_digest", lambda *given: hashed.append(given))
    started = time.process_time()  # of this process: the machine may have other things to do
    for typed in too_much:
        with pytest.raises(InvalidParams):
            parse(typed)
    assert time.process_time() - started < 2
    assert hashed == []


def test_only_what_is_hashed_is_shown() -> None:
    shown = parse(MAIL).shown()
    assert shown["message"] == MAIL["message"]
    assert shown["domain"]["chainId"] == "1"
    assert set(shown) == {"primaryType", "domain", "message"}
