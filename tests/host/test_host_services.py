"""The host services through a real plugin process: keys, store, hash, L1, money, state."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data
from eth_utils.crypto import keccak

from middleware.errors import InvalidParams, Refused, Unauthorized
from middleware.waist import Origin
from proxy.host.provider import Asker
from proxy.host.services.keys import MAX_ACCOUNTS, GetAccount
from proxy.storage import Batch, Database
from tests.host.neighbours import ECHO, OTHER, PASSWORD, SITE, Home
from tests.wallet.test_typed_data import slow as slow_to_hash

TYPED = {
    "types": {
        "EIP712Domain": [{"name": "chainId", "type": "uint256"}, {"name": "verifyingContract", "type": "address"}],
        "State": [{"name": "nonce", "type": "uint64"}],
    },
    "primaryType": "State",
    "domain": {"chainId": 31337, "verifyingContract": "0x00000000000000000000000000000000000000aa"},
    "message": {"nonce": 7},
}

NOBODY: Any = Asker(Origin.plugin("echo"), None, contextlib.nullcontext)


async def test_accounts_are_below_the_path_and_the_counter_persists(home: Home) -> None:
    await home.add(ECHO)
    first, second = await home.ask("getAccount"), await home.ask("getAccount")
    again = await home.ask("getAccount", {"index": 0})
    assert (first["path"], second["path"]) == ("0'", "1'")
    assert again == first
    assert first["address"] == home.keyring.plugin_account((7002, 1, 0, 0)).address
    await home.plugins.rehost("echo")
    assert (await home.ask("getAccount"))["path"] == "2'"
    assert (await home.ask("getAccount", {"index": 9}))["path"] == "9'"
    assert (await home.ask("getAccount"))["path"] == "10'"


async def test_the_last_index_leaves_accounts_to_make(home: Home) -> None:
    await home.add(ECHO)
    await home.ask("getAccount")
    last = await home.ask("getAccount", {"index": 2**31 - 1})
    assert last["path"] == "2147483647'"
    assert [(await home.ask("getAccount"))["path"] for _ in range(2)] == ["1'", "2'"]


async def test_derive_tells_the_private_key_only_with_keys_export(home: Home) -> None:
    await home.add(ECHO)
    answer = await home.ask("derive", {"path": "0'/7'"})
    assert answer["address"] == home.keyring.plugin_account((7002, 1, 0, 0, 7)).address
    assert "privateKey" not in answer


async def test_own_keys_sign_and_recover_finds_them(home: Home) -> None:
    await home.add(ECHO)
    account = await home.ask("getAccount", {"index": 0})
    signed = await home.ask("sign", {"account": "0'", "typedData": TYPED})
    assert (
        Account.recover_message(encode_typed_data(full_message=TYPED), signature=signed["signature"])
        == account["address"]
    )
    recovered = await home.ask("recover", {"typedData": TYPED, "signature": signed["signature"]})
    assert recovered == {"address": account["address"]}
    message = await home.ask("sign", {"account": "0'", "message": "hello"})
    assert Account.recover_message(encode_defunct(text="hello"), signature=message["signature"]) == account["address"]
    assert not home.approvals.asked


async def test_own_keys_do_not_sign_while_locked_nor_before_ready(home: Home) -> None:
    await home.add(ECHO)
    await home.ask("getAccount", {"index": 0})
    home.keyring.lock()
    provider = home.plugins._hosted["echo"].provider
    with pytest.raises(Unauthorized, match="locked"):
        await provider.request("sign", {"account": "0'", "message": "x"})
    home.keyring.unlock(PASSWORD)
    home.plugins._hosted["echo"].ready = False
    with pytest.raises(Unauthorized, match="ready"):
        await provider.request("sign", {"account": "0'", "message": "x"})


async def test_the_owner_is_asked_and_the_wall_time_stands_still(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    await home.add(ECHO)
    loop = asyncio.get_running_loop()
    home.approvals.answer = loop.create_future()
    asking = asyncio.create_task(home.ask("sign", {"account": "owner", "typedData": TYPED}))
    await home.approvals.arrived.wait()
    clock = loop.time
    monkeypatch.setattr(loop, "time", lambda: clock() + 3600)  # an hour goes by: more than the call may take
    for _ in range(3):  # what is due runs
        await asyncio.sleep(0)
    assert not asking.done()
    home.approvals.answer.set_result(None)
    signed = await asking
    owner = home.keyring.addresses()[0]
    assert Account.recover_message(encode_typed_data(full_message=TYPED), signature=signed["signature"]) == owner
    question = home.approvals.asked[0]
    assert (question.kind, str(question.origin), question.serving) == ("sign", "plugin:echo", SITE)
    assert any(warning.startswith("not_gateway:") for warning in question.warnings)
    assert "plugin echo" in question.summary


async def test_a_refusal_of_the_owner_reaches_the_plugin(home: Home) -> None:
    await home.add(ECHO)
    home.approvals.answer = Refused("the owner said no")
    answer = await home.ask("sign", {"account": "owner", "message": "hi"})
    assert answer["error"]["code"] == 4001


async def test_hash(home: Home) -> None:
    await home.add(ECHO)
    assert await home.ask("hash", {"data": "0x1234"}) == {"digest": "0x" + keccak(b"\x12\x34").hex()}
    packed = await home.ask("hash", {"abi": ["uint256", "address"], "values": ["0x1", "0x" + "11" * 20]})
    encoded = (1).to_bytes(32, "big") + bytes(12) + b"\x11" * 20
    assert packed == {"digest": "0x" + keccak(encoded).hex(), "encoded": "0x" + encoded.hex()}
    many = await home.ask("hash", {"items": [{"data": "0x"}, {"message": "hello"}]})
    assert many["items"][0] == {"digest": "0x" + keccak(b"").hex()}
    assert len((await home.ask("hash", {"items": [{"data": "0x"}] * 64}))["items"]) == 64
    assert (await home.ask("hash", {"items": [{"data": "0x"}] * 65}))["error"]["code"] == -32005


TUPLE = {"type": "tuple", "internalType": "struct S", "components": [{"type": "uint8"}, {"type": "bool"}]}


async def test_hash_of_a_tuple_with_unnamed_components(home: Home) -> None:
    await home.add(ECHO)
    words = (5).to_bytes(32, "big") + (1).to_bytes(32, "big")
    for value in ([5, True], {"arg0": "0x5", "arg1": True}):
        assert (await home.ask("hash", {"abi": [TUPLE], "values": [value]}))["encoded"] == "0x" + words.hex()


MALFORMED: list[tuple[str, dict[str, object], str]] = [
    ("hash", {"abi": ["nope"], "values": [1]}, "abi[0]"),
    ("hash", {"abi": [{"type": 5}], "values": [1]}, "abi[0].type"),
    ("hash", {"abi": [{"type": "tuple", "components": 5}], "values": [1]}, "abi[0].components"),
    ("hash", {"abi": [{**TUPLE, "components": [{"type": "bool", "name": "a"}] * 2}], "values": [[1, 1]]}, "abi[0]"),
    ("hash", {"abi": ["uint8"], "values": [256]}, "values[0]"),
    ("hash", {"items": [{"data": "0x"}, {"data": "0x1"}]}, "items[1].data"),
    ("hash", {"items": [{"nope": 1}]}, "params.items[0].nope"),
    ("recover", {"items": [{"message": "x", "signature": "0x12"}]}, "items[0].signature"),
    ("getAccount", {"index": -1}, "params.index"),
    ("getAccount", {"index": "1"}, "params.index"),
    ("derive", {}, "params.path"),
    ("persist", {"put": {"k": 5}}, "params.put[...]"),
    ("load", {"prefix": "", "nope": 1}, "params.nope"),
]


async def test_malformed_params_are_named_in_plain_words(home: Home) -> None:
    await home.add(ECHO)
    for method, params, named in MALFORMED:
        error = (await home.ask(method, params))["error"]
        assert error["code"] == -32602
        assert error["message"].startswith(f"parameter {named}: expected "), error
        assert not any(word in error["message"] for word in ("Expected", "`", "Object", "has no"))


async def test_store_keeps_text_and_bytes_in_key_order(home: Home) -> None:
    await home.add(ECHO)
    await home.ask("persist", {"put": {"b": "2", "a": "1", "c": {"base64": "/wA="}, "x": "9"}})
    assert await home.ask("load", {"keys": ["c", "missing", "a"]}) == {
        "items": [["c", {"base64": "/wA="}], ["missing", None], ["a", "1"]]
    }
    assert await home.ask("load", {"start": "a", "end": "c"}) == {"items": [["a", "1"], ["b", "2"]]}
    reverse = await home.ask("load", {"prefix": "", "reverse": True, "limit": 2})
    assert reverse == {"items": [["x", "9"], ["c", {"base64": "/wA="}]]}
    await home.ask("persist", {"put": [[{"base64": "/w=="}, "binary"]], "delete": ["x"]})
    assert await home.ask("load", {"prefix": {"base64": "/w=="}}) == {"items": [[{"base64": "/w=="}, "binary"]]}


async def test_the_quota_refuses_the_whole_batch(home: Home) -> None:
    await home.add(ECHO)
    await home.ask("persist", {"put": {"kept": "1"}})
    answer = await home.ask("persist", {"put": {"small": "1", "large": "x" * 10_000}, "delete": ["kept"]})
    assert answer["error"]["code"] == -32005
    assert await home.ask("load", {"keys": ["small", "kept"]}) == {"items": [["small", None], ["kept", "1"]]}
    assert await home.ask("persist", {"put": {"large": "x" * 9_000}}) == {}
    assert await home.ask("persist", {"put": {"large": "y" * 9_500}}) == {}
    assert await home.ask("persist", {"delete": ["large"]}) == {}
    assert home.plugins._hosted["echo"].store.used == len("kept") + 1


async def test_l1_calls_enter_the_chain_with_the_plugin_as_origin(home: Home) -> None:
    await home.add(ECHO)
    assert await home.ask("layer1.request", {"method": "eth_call", "params": [{"to": "0x0"}, "latest"]}) == "0x2a"
    request, context = home.dispatched[0]
    assert (request.method, context.origin, context.serving) == ("eth_call", Origin.plugin("echo"), SITE)
    for method in ("eth_getLogs", "eth_sendRawTransaction", "admin_tokenNew", "l2_invoke", "eth_CALL"):
        assert (await home.ask("layer1.request", {"method": method}))["error"]["code"] == 4100
    assert len(home.dispatched) == 1


async def test_money_needs_the_grant_and_names_whom_it_serves(home: Home) -> None:
    await home.add(ECHO)
    assert (await home.ask("deposit", {"value": "0x1"}))["error"]["code"] == 4100
    assert home.operations.submitted == []


async def test_published_state_is_per_origin_and_persisted(home: Home) -> None:
    await home.add(ECHO)
    assert (await home.plugins.get_state("echo", None, False, SITE))["state"] == {"asked": True, "for": str(SITE)}
    await home.ask("updateLayer2State", {"state": {"a": {"b": 1}, "list": [5]}})
    await home.ask("updateLayer2State", {"patch": {"a": {"mine": 2}}, "origin": str(SITE)})
    seen = await home.plugins.get_state("echo", None, False, SITE)
    assert (seen["state"], seen["revision"]) == ({"a": {"b": 1, "mine": 2}, "list": [5]}, "0x3")
    assert (await home.plugins.get_state("echo", None, False, OTHER))["state"] == {"a": {"b": 1}, "list": [5]}
    assert (await home.plugins.get_state("echo", "/a/mine", False, SITE))["state"] == 2
    assert (await home.plugins.get_state("echo", "/list/0", False, SITE))["state"] == 5
    assert (await home.plugins.get_state("echo", "/nothing", False, SITE))["state"] is None
    await home.close()
    home.open()
    await home.plugins.start()
    assert (await home.plugins.get_state("echo", "/a", False, SITE))["state"] == {"b": 1, "mine": 2}
    assert (await home.plugins.get_state("echo", None, True, OTHER))["state"] == {"asked": True, "for": str(OTHER)}


FORGETFUL = """
from l2proxy_sdk import Plugin, Uint64, action

class Forgetful(Plugin):
    @action(approval="never")
    async def publish(self, number: Uint64) -> None:
        await self.state.update({"number": number})

    @action(approval="never")
    async def add(self, more: Uint64) -> None:
        await self.state.update(patch={"more": more})
"""


async def test_a_state_outlives_the_process_that_published_it(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "forgetful"
    folder.mkdir()
    (folder / "forgetful.py").write_text(FORGETFUL)
    tables = "".join(
        f'[[action]]\nname = "{name}"\ndescription = ""\nparams = [{{ name = "{param}", type = "uint64" }}]\napproval = "never"\n'
        for name, param in (("publish", "number"), ("add", "more"))
    )
    (folder / "plugin.toml").write_text(
        'id = "forgetful"\nname = "F"\nversion = "1.0.0"\ndescription = ""\nruntime = "python"\napi = 1\n'
        f'entry = "forgetful:Forgetful"\n[keys]\npath = "m/7009\'/0\'/0\'"\n{tables}'
    )
    await home.add(folder)
    assert (await home.plugins.get_state("forgetful", None, True, SITE))["state"] == {}
    await home.invoke("forgetful", "publish", [5])
    await home.close()
    home.open()
    await home.plugins.start()
    assert (await home.plugins.get_state("forgetful", None, True, SITE))["state"] == {"number": 5}
    await home.invoke("forgetful", "add", [6])  # the plugin knows the patch alone
    assert (await home.plugins.get_state("forgetful", None, True, SITE))["state"] == {"number": 5, "more": 6}


async def test_a_state_only_an_unlock_can_tell_is_refused_at_once(home: Home) -> None:
    await home.add(ECHO)
    await home.close()
    home.keyring.lock()
    home.open()
    await home.plugins.start()
    with pytest.raises(Unauthorized, match="locked") as refused:  # it took a minute, and was -32012
        await home.plugins.get_state("echo", None, False, SITE)
    assert refused.value.data["grant"] == "l2proxy unlock"


async def test_what_is_answered_for_one_origin_is_shown_to_no_other(home: Home) -> None:
    await home.add(ECHO)
    told: list[tuple[int, Origin | None]] = []
    home.plugins.on_state_change(lambda _, revision, origin: told.append((revision, origin)))
    mine = await home.plugins.get_state("echo", None, False, SITE)
    assert (mine["state"], mine["revision"]) == ({"asked": True, "for": str(SITE)}, "0x1")
    assert (await home.plugins.get_state("echo", "/for", False, OTHER))["state"] == str(OTHER)
    assert told == [(1, SITE), (2, OTHER)]
    await home.ask("updateLayer2State", {"state": {"for": "all"}})
    assert (await home.plugins.get_state("echo", "/for", True, SITE))["state"] == str(SITE)
    assert (await home.plugins.get_state("echo", "/for", False, SITE))["state"] == str(SITE)
    assert (await home.plugins.get_state("echo", "/for", False, OTHER))["state"] == "all"
    same = await home.plugins.get_state("echo", None, True, SITE)
    assert same["revision"] == "0x4"
    await home.ask("updateLayer2State", {"patch": {"for": "everybody"}})
    assert (await home.plugins.get_state("echo", "/for", False, SITE))["state"] == "everybody"


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"state": {}, "patch": {}},
        {"state": []},
        {"state": {"__proto__": 1}},
        {"patch": {"a": [{"constructor": 1}]}},
        {"state": {"a": "x" * (256 * 1024)}},
        {"state": {"a": [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}},
        {"state": {}, "origin": ""},
        {"state": {}, "other": 1},
    ],
)
async def test_unfit_states_change_nothing(home: Home, params: dict[str, object]) -> None:
    await home.add(ECHO)
    answer = await home.ask("updateLayer2State", params)
    assert answer["error"]["code"] in (-32602, -32005)
    assert home.plugins.states.get("echo") is None


async def test_what_takes_longer_than_its_second_to_hash_is_refused_and_the_next_is_not(home: Home) -> None:
    await home.add(ECHO)
    types = {"EIP712Domain": [], "It": [{"name": "it", "type": "uint8[]"}]}
    large: dict[str, object] = {"types": types, "primaryType": "It", "domain": {}, "message": {"it": [1] * 1200}}
    # Eight of what takes more than a second each, on a machine several times faster as well; the other takes milliseconds, for a slower one.
    asked = asyncio.create_task(home.ask("hash", {"items": [{"typedData": slow_to_hash()}] * 8}))
    assert await home.invoke("echo", "say", ["meanwhile", 1])
    refused = (await asked)["error"]
    assert refused["code"] == -32602
    assert "to compute" in refused["message"]
    digest = "0x" + bytes(encode_typed_hash(large)).hex()
    assert await home.ask("hash", {"items": [{"typedData": large}]}) == {"items": [{"digest": digest}]}
    await home.ask("ready")
    refused = (await home.ask("sign", {"account": "0'", "typedData": slow_to_hash()}))["error"]
    assert "to compute" in refused["message"]


def encode_typed_hash(typed: dict[str, object]) -> bytes:
    signable = encode_typed_data(full_message=typed)
    return keccak(b"\x19" + signable.version + signable.header + signable.body)


@pytest.mark.timeout(300)  # thousands of accounts, each on disk by itself
async def test_all_accounts_fit_the_line_in_which_a_start_tells_them(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.storage.leveldb.Database.commit", _unsynced)
    await home.add(ECHO)
    await home.ask("getAccount", {"index": 2**31 - 1})
    hosted = home.plugins._hosted["echo"]
    for index in range(MAX_ACCOUNTS - 1):
        await hosted.keys.get_account(GetAccount(index=2**30 + index), NOBODY)
    answer = await home.ask("getAccount")
    assert answer["error"]["code"] == -32005
    assert (await home.ask("getAccount", {"index": 2**30}))["path"] == f"{2**30}'"
    await home.plugins.rehost("echo")
    assert (await home.ask("getAccount", {"index": 2**30}))["path"] == f"{2**30}'"


_commit = Database.commit


def _unsynced(database: Database, batch: Batch, *, synced: bool = True) -> None:
    _commit(database, batch, synced=False)


async def test_a_call_is_a_name_or_nothing(home: Home) -> None:
    await home.add(ECHO)
    for call in (5, {"a": 1}, ["c1"], True):
        answer = await home.plugins._hosted["echo"].provider.request("getAccount", {"call": "c99"})
        assert answer["path"]
        with pytest.raises(InvalidParams) as refused:
            await home.plugins._hosted["echo"].provider.request("getAccount", {"call": call})
        assert refused.value.data["param"] == "params.call"


async def test_states_of_single_origins_are_bounded_and_an_empty_one_is_none(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.host.state.MAX_ORIGINS", 2)
    monkeypatch.setattr("proxy.host.state.MAX_OWN", 1000)
    await home.add(ECHO)
    for number in range(2):
        await home.ask("updateLayer2State", {"state": {"n": number}, "origin": f"https://{number}.example"})
    third = {"state": {"n": 3}, "origin": str(SITE)}
    assert (await home.ask("updateLayer2State", third))["error"]["code"] == -32005
    assert (await home.ask("updateLayer2State", {"patch": {"n": None}, "origin": "https://0.example"}))["revision"]
    assert (await home.ask("updateLayer2State", third))["revision"] == "0x4"
    large = {"state": {"n": "x" * 1000}, "origin": str(SITE)}
    assert (await home.ask("updateLayer2State", large))["error"]["code"] == -32005
    await home.close()
    home.open()
    await home.plugins.start()
    published = home.plugins.states.get("echo")
    assert published is not None
    assert set(published.own) == set(published.sizes) == {"https://1.example", str(SITE)}
