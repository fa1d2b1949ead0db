"""plugin.toml is read strictly: what is wrong is named, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.host.gateway_abi import check_gateway, read_abi
from proxy.host.manifest import ManifestError, parse_manifest

HEAD = 'id = "paychan"\nname = "P"\nversion = "1.2.0"\nruntime = "python"\nentry = "channel:PaymentChannel"\n'
ACTION = (
    '[[action]]\nname = "pay"\nparams = [{ name = "value", type = "uint256" }, { name = "all", type = "uint256[]" }]\n'
)
GATEWAY = '[[gateway]]\nchain = 1\naddress = "0x00000000000000000000000000000000000000aa"\nabi = "a.json"\n'


def test_the_example_of_the_contract_is_read() -> None:
    text = (
        HEAD
        + 'api = 1\ndescription = "Instant."\ndependencies = "requirements.lock"\n[keys]\npath = "m/7002\'/0\'/0\'"\n[hub]\n'
        + 'url = "wss://hub.example/ws"\n'
        + GATEWAY
        + 'name = "main"\nsince = 19000000\ndeposit = ["open(address,uint256)"]\nmax_value = "0"\n'
        + 'locked = { event = "Deposited", owner = "user", amount = "amount" }\n'
        + ACTION
        + 'spends = { param = "value", asset = "ETH" }\n[permissions]\nlayer1 = ["eth_call", "eth_sendRawTransaction"]\n'
        + "transfer = true\nwatch_while_locked = true\n"
    )
    manifest = parse_manifest(text.encode())
    wanted = {"store", "keys", "hub", "gateway", "layer1", "transfer", "eth_sendRawTransaction"}
    assert manifest.requested() == wanted
    assert manifest.action[0].approval == "policy"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "id"),
        ("id = 1", "id"),
        (HEAD.replace("paychan", "Pay"), "id: 'Pay'"),
        (HEAD.replace("paychan", "../x"), "id"),
        (HEAD.replace("paychan", "é" * 3), "id"),
        (HEAD + 'naem = "x"', "did you mean name"),
        (HEAD + '[keys]\npath = "m"\nexprot = true', "keys.exprot; did you mean export"),
        (HEAD + ACTION + "spnds = 1", "action.spnds; did you mean spends"),
        (HEAD + ACTION.replace("type =", "tpye ="), "action.params.tpye; did you mean type"),
        (HEAD.replace("python", "perl"), 'runtime is "python" or "npm"'),
        (HEAD.replace("channel:PaymentChannel", "../channel"), "entry"),
        (HEAD + "api = 2", "api is 1, not 2"),
        (HEAD + "api = true", "api"),
        (HEAD + GATEWAY + "since = 99999999999999999999", "since"),
        (HEAD.replace('"P"', '"P\\u202e"'), "name"),
        (HEAD + ACTION + ACTION, "declared twice"),
        (HEAD + ACTION.replace("uint256[]", "uint257"), "uint257"),
        (HEAD + ACTION.replace("uint256[]", "uint256[0]"), "fixed array"),
        (HEAD + ACTION.replace("uint256[]", "tuple"), "components"),
        (HEAD + ACTION.replace("uint256[]", "uint" + "[]" * 9), "nested"),
        (HEAD + ACTION.replace('"all"', '"value"'), "twice"),
        (HEAD + ACTION.replace('"all"', '"__proto__"'), "__proto__"),
        (HEAD + ACTION.replace('"pay"', '"pay me"'), "pay me"),
        (HEAD + ACTION + 'spends = { param = "all", asset = "ETH" }', "no top-level uintN"),
        (HEAD + ACTION + 'spends = { param = "value", asset = "DAI" }', "asset"),
        (HEAD + ACTION + 'spends = { param = "value", asset = "ETH" }\napproval = "never"', "never"),
        (
            HEAD + ACTION + 'approval = "sometimes"',
            'action.approval is "always" or "policy" or "never", not "sometimes"',
        ),
        (HEAD + ACTION + "approval = [1]", "action.approval is"),
        (HEAD + '[hub]\nurl = "ftp://hub.example"', "hub"),
        (HEAD + '[hub]\nurl = "wss://user@hub.example"', "user"),
        (HEAD + GATEWAY + GATEWAY, "declared twice"),
        (HEAD + GATEWAY.replace("aa", "a"), "address"),
        (HEAD + GATEWAY + 'deposit = ["open"]', "not a function signature"),
        (HEAD + GATEWAY + 'max_value = "-1"', "max_value"),
        (HEAD + '[permissions]\nlayer1 = ["eth_call "]', "layer1"),
        (HEAD + "[permissions]\nmemory_bytes = 1", "memory_bytes"),
        (HEAD + "x = [" * 1000, "not TOML"),
        ("\0", "not TOML"),
    ],
)
def test_what_is_wrong_is_named(text: str, says: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text.encode())
    assert says in str(caught.value)


def test_functions_and_events_must_stand_in_the_abi(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        '{"abi": [{"type": "function", "name": "open", "inputs": [{"name": "a", "type": "address"}]},'
        '{"type": "function", "name": "see", "inputs": [], "stateMutability": "view"},'
        '{"type": "event", "name": "Deposited", "inputs": [{"name": "user", "type": "address"}, {"name": "n", "type": "uint256"}]}]}'
    )
    abi = read_abi(tmp_path, "a.json")

    def gateway(more: str) -> None:
        check_gateway(parse_manifest((HEAD + GATEWAY + more).encode()).gateway[0], abi)

    gateway('deposit = ["open( address )"]\nlocked = { event = "Deposited", owner = "user", amount = "n" }')
    for more, says in (
        ('deposit = ["open(uint256)"]', "no function open"),
        ('withdraw = ["see()"]', "only reads"),
        ('locked = { event = "Gone", owner = "user", amount = "n" }', "no single event"),
        ('locked = { event = "Deposited", owner = "n", amount = "n" }', "owner"),
    ):
        with pytest.raises(ManifestError, match=says):
            gateway(more)
    for name in ("../a.json", "/etc/passwd", "b.json", "a\\b"):
        with pytest.raises(ManifestError):
            read_abi(tmp_path, name)
