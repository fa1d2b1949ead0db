"""What several places write down must be one and the same: typed data, selectors, the manifest's tables, orders."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak
from l2proxy_sdk.testing import load_plugin, read_manifest

from plugins.paychan.hub import contract, digests
from plugins.paychan.paychan import onchain, typed
from tests.plugins.paychan.signing import sign
from tests.plugins.paychan.signing import typed as third

FOLDER = Path("plugins/paychan")
ARTEFACT = json.loads((FOLDER / "contract/PayChan.json").read_text())
CONTRACT = "0x" + "ab" * 20
CHANNEL = "0x" + "cd" * 32
PAYER = "0x" + "12" * 20
ORDER = "0x" + "34" * 32
BIG = 2**128 - 1


def digest(data: dict[str, Any]) -> bytes:
    message = encode_typed_data(full_message=data)
    return bytes(keccak(b"\x19" + message.version + message.header + message.body))


def test_plugin_hub_and_tests_sign_the_same_bytes() -> None:
    plugin, hub = typed.Typed(1337, CONTRACT), digests.Domain(1337, CONTRACT)
    raw, order = bytes.fromhex(CHANNEL[2:]), bytes.fromhex(ORDER[2:])
    voucher = {"channel": raw, "payer": PAYER, "nonce": 7, "amount": BIG, "order": order}
    triples: list[tuple[Any, bytes, tuple[str, dict[str, Any]]]] = [
        (plugin.voucher(CHANNEL, PAYER, 7, BIG, ORDER), hub.voucher(raw, PAYER, 7, BIG, order), ("Voucher", voucher)),
        (
            plugin.withdrawal(CHANNEL, BIG, 99),
            hub.withdrawal(raw, BIG, 99),
            ("Withdrawal", {"channel": raw, "total": BIG, "deadline": 99}),
        ),
        (
            plugin.final(CHANNEL, BIG, 3),
            hub.final(raw, BIG, 3),
            ("Final", {"channel": raw, "sent": BIG, "received": 3}),
        ),
        (plugin.login(PAYER, ORDER), hub.login(PAYER, order), ("Login", {"owner": PAYER, "challenge": order})),
    ]
    for from_plugin, from_hub, (kind, message) in triples:
        assert digest(from_plugin) == from_hub == digest(third(kind, 1337, CONTRACT, **message))


def test_orders_are_the_same_on_both_sides() -> None:
    assert typed.order_of(PAYER, BIG) == "0x" + digests.order_of(PAYER, BIG).hex()


def test_the_hub_recovers_what_eth_account_signs_and_refuses_the_rest() -> None:  # A8
    key = Account.create()
    data = third("Login", 1, CONTRACT, owner=PAYER, challenge=bytes(32))
    signature = sign(key, data)
    assert digests.recover(digest(data), signature) == key.address.lower()
    r, s, v = signature[:32], int.from_bytes(signature[32:64], "big"), signature[64]
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    refused = [
        r + (order - s).to_bytes(32, "big") + bytes([55 - v]),
        signature[:64] + bytes([v - 27]),
        signature[:64],
        r + (s | ((v - 27) << 255)).to_bytes(32, "big"),
        bytes(64) + b"\x1b",
        signature + b"\x00",
        b"",
    ]
    assert [digests.recover(digest(data), bad) for bad in refused] == [None] * len(refused)


def test_the_hub_signs_what_the_contract_accepts() -> None:
    for _ in range(50):
        key, message = digests.Key(secrets.token_bytes(32)), secrets.token_bytes(32)
        signature = key.sign(message)
        assert len(signature) == 65
        assert int.from_bytes(signature[32:64], "big") <= digests.HALF_ORDER
        assert digests.recover(message, signature) == key.address == Account.from_key(key.secret).address.lower()


def test_the_hubs_transactions_are_what_eth_account_makes_of_them() -> None:
    for to in (CONTRACT, None):
        key = digests.Key(secrets.token_bytes(32))
        tx: Any = {"type": 2, "chainId": 1337, "nonce": 5, "gas": 90_000, "value": 10**18, "data": b"\x01" * 40}
        tx |= {"maxFeePerGas": 3 * 10**9, "maxPriorityFeePerGas": 10**9} | (
            {} if to is None else {"to": bytes.fromhex(to[2:])}
        )
        target = b"" if to is None else bytes.fromhex(to[2:])
        fields = [1337, 5, 10**9, 3 * 10**9, 90_000, target, 10**18, b"\x01" * 40, []]
        assert contract.sign_transaction(key, fields) == bytes(Account.sign_transaction(tx, key.secret).raw_transaction)


def test_the_plugins_selectors_are_the_contracts() -> None:
    methods = ARTEFACT["methods"]
    assert methods["hub()"] == onchain.HUB[2:]
    assert methods["channelOf(address)"] == onchain.CHANNEL_OF[2:]
    assert methods["channels(bytes32)"] == onchain.CHANNELS[2:]


def test_the_manifest_names_what_code_and_contract_have() -> None:
    manifest = read_manifest(FOLDER)
    tables = [{name: value for name, value in row.items() if value != []} for row in load_plugin(FOLDER).actions()]
    assert [{name: value for name, value in row.items() if value != []} for row in manifest["action"]] == tables
    gateway = manifest["gateway"][0]
    for kind in ("deposit", "withdraw", "dispute"):
        assert set(gateway[kind]) <= set(ARTEFACT["methods"])
    events = {
        row["name"]: [entry["name"] for entry in row["inputs"]] for row in ARTEFACT["abi"] if row["type"] == "event"
    }
    for kind in ("locked", "released"):
        assert {gateway[kind]["owner"], gateway[kind]["amount"]} <= set(events[gateway[kind]["event"]])


def test_the_plugin_imports_nothing_but_the_sdk_and_the_standard_library() -> None:
    import ast
    import sys

    allowed = {"l2proxy_sdk", "paychan", *sys.stdlib_module_names}
    for file in [FOLDER / "channel.py", *(FOLDER / "paychan").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            assert {name.split(".")[0] for name in names} <= allowed, file
    for file in (FOLDER / "hub").glob("*.py"):
        assert not {"proxy", "middleware", "l2proxy_sdk"} & {
            (node.module or "").split(".")[0]
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.ImportFrom)
        }
