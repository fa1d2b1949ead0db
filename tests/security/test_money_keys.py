"""What a plugin's own keys and a dapp's wishes can never become (security.md 12, 18; hardening.md 17, 21)."""

from __future__ import annotations

import json
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
