"""What a plugin's own keys and a dapp's wishes can never become (security.md 12, 18; hardening.md 17, 21)."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from tests.host.neighbours import ECHO, Home, new_keyring

THEIRS = "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC"
FREE = "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"


@pytest.fixture
async def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Home]:
    home = Home(tmp_path / "data", new_keyring(tmp_path))
    home.open()
    monkeypatch.setattr(home.plugins, "_gateways_beside", lambda _: frozenset({THEIRS}))
    await home.plugins.start()
    await home.add(ECHO)
    yield home
    await home.close()


def voucher(contract: str | None) -> dict[str, Any]:
    fields = [{"name": "name", "type": "string"}]
    domain: dict[str, Any] = {"name": "Channel"}
    if contract is not None:
        fields.append({"name": "verifyingContract", "type": "address"})
        domain["verifyingContract"] = contract
    types = {"EIP712Domain": fields, "Pay": [{"name": "amount", "type": "uint256"}]}
    return {"types": types, "primaryType": "Pay", "domain": domain, "message": {"amount": 5}}


@pytest.mark.parametrize("spelled", [THEIRS, THEIRS.lower()])
async def test_security_18_own_keys_sign_nothing_for_another_plugins_gateway(home: Home, spelled: str) -> None:
    refused = await home.ask("sign", {"account": "0'", "typedData": voucher(spelled)})
    assert refused["error"]["code"] == 4100
    as_text = await home.ask("sign", {"account": "0'", "typedData": json.dumps(voucher(spelled))})
    assert as_text["error"]["code"] in (4100, -32602)
    assert "signature" in await home.ask("sign", {"account": "0'", "typedData": voucher(FREE)})


async def test_security_18_own_keys_sign_no_transaction_and_no_bare_digest(home: Home) -> None:
    transaction = {"to": FREE, "value": 1, "nonce": 0, "gas": 21000, "gasPrice": 1, "chainId": 31337}
    raw = bytes(Account.sign_transaction(transaction, "0x" + "11" * 32).raw_transaction)
    for params in (
        {"account": "0'", "digest": "0x" + "11" * 32},
        {"account": "0'", "transaction": transaction},
        {"account": "0'"},
        {"account": "0'", "message": "x", "typedData": voucher(FREE)},
    ):
        assert (await home.ask("sign", params))["error"]["code"] == -32602, params
    # Bytes that are a transaction are signed as a message: behind 0x19, which begins no transaction.
    signature = (await home.ask("sign", {"account": "0'", "message": "0x" + raw.hex()}))["signature"]
    address = (await home.ask("getAccount", {"index": 0}))["address"]
    found = await home.ask("recover", {"message": "0x" + raw.hex(), "signature": signature})
    assert found["address"] == address


RAW_GRANT = '[permissions]\nlayer1 = ["eth_call", "eth_sendRawTransaction"]\n'
EXPORTED = "0x" + "22" * 32  # a key of the plugin's own making


def packages(folder: Path) -> tuple[Path, Path]:
    """Return the echo plugin asking for eth_sendRawTransaction, and another with a path beside it."""
    found = []
    for name, path in (("echo", "1'"), ("other", "2'")):
        shutil.copytree(ECHO, target := folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        text = (target / "plugin.toml").read_text().replace('id = "echo"', f'id = "{name}"')
        head = text.partition("[permissions]")[0].replace("m/7002'/1'/0'", f"m/7003'/{path}/0'")
        (target / "plugin.toml").write_text(head + RAW_GRANT)
        found.append(target)
    return found[0], found[1]


def signed(key: str, **changes: Any) -> str:
    fields = {"to": FREE, "value": 1, "nonce": 0, "gas": 21000, "gasPrice": 1, "chainId": 31337} | changes
    return "0x" + bytes(Account.sign_transaction(fields, key).raw_transaction).hex()


async def test_plugins_send_raw_only_what_is_their_own(home: Home, tmp_path: Path) -> None:
    await home.plugins.remove("echo", delete_store=True, release=True)
    mine, other = packages(tmp_path)
    await home.add(mine, "keys", "layer1", "eth_sendRawTransaction", "store")
    await home.add(other, "keys", "layer1", "store")

    async def send(*params: Any, plugin: str = "echo") -> Any:
        return await home.ask("layer1.request", {"method": "eth_sendRawTransaction", "params": params}, plugin=plugin)

    account = await home.ask("getAccount", {"index": 0}, plugin="other")
    theirs = home.keyring.plugin_private_key((7003, 2, 0, 0))
    assert Account.from_key(theirs).address == account["address"]
    exported = "0x" + home.keyring._main_key(home.keyring.addresses()[0]).hex()

    good = signed(EXPORTED)
    assert (await send(good, plugin="other"))["error"]["code"] == 4100  # not granted
    assert home.dispatched == []
    fees = {"maxFeePerGas": 1, "maxPriorityFeePerGas": 1, "type": 2}
    for hostile, code in (
        (signed(exported), 4100),
        (signed(theirs), 4100),
        (signed(EXPORTED, chainId=1), -32602),
        (good + "00", -32602),
        (good[:-2], -32602),
        ("0x", -32602),
        ("0x03" + good[2:], -32602),
        ("0x04" + good[2:], -32602),
        ("0x7f" + good[2:], -32602),
        (good[2:], -32602),
        ("0x" + "00" * 200_000, -32602),
        (7, -32602),
    ):
        assert (await send(hostile))["error"]["code"] == code, hostile
    assert (await send(good, "latest"))["error"]["code"] == -32602
    assert home.dispatched == []
    audited = [event for event in home.audit.events if event["event"] == "eth_sendRawTransaction"]
    assert audited == []

    unbound = {"to": FREE, "value": 1, "nonce": 0, "gas": 21000, "gasPrice": 1}
    before_155 = "0x" + bytes(Account.sign_transaction(unbound, EXPORTED).raw_transaction).hex()
    typed = {name: value for name, value in unbound.items() if name != "gasPrice"} | {"chainId": 31337} | fees
    dynamic = "0x" + bytes(Account.sign_transaction(typed, EXPORTED).raw_transaction).hex()
    creation = signed(EXPORTED, to=b"", data="0x60")
    for raw in (good, before_155, dynamic, creation):
        assert await send(raw) == "0x2a"
    assert [json.loads(request.params)[0] for request, _ in home.dispatched] == [good, before_155, dynamic, creation]
    audited = [event for event in home.audit.events if event["event"] == "eth_sendRawTransaction"]
    sender = Account.from_key(EXPORTED).address
    assert [(event["plugin"], event["from"], event["to"], event["value"]) for event in audited] == [
        ("echo", sender, to, "0x1") for to in (FREE, FREE, FREE, None)
    ]
    home.keyring.lock()
    assert (await send(good))["error"]["code"] == 4100
