"""A gateway is a contract of the plugin's own: no token, no function that moves others' money (hardening.md 20)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_utils.address import to_checksum_address

from middleware.errors import Disconnected, InvalidParams, RpcError, Unauthorized
from proxy.host.gateways import Gateways, refuse_functions
from proxy.storage import Database
from tests.host.operations_bench import GATEWAY, plugin
from tests.wallet.fake_chain import FakeChain, gone


@pytest.fixture
def chain() -> FakeChain:
    chain = FakeChain()
    chain.codes[GATEWAY] = "0x6001"
    return chain


@pytest.fixture
def gateways(chain: FakeChain, tmp_path: Path) -> Iterator[Gateways]:
    with Database(tmp_path / "db") as database:
        yield Gateways(chain, database.space("gateways"))


FORBIDDEN = [
    *("transfer(address,uint256)", "transferFrom(address,address,uint256)", "approve(address,uint256)"),
    *("increaseAllowance(address,uint256)", "setApprovalForAll(address,bool)", "multicall(bytes[])"),
    *("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)", "execute(address,uint256,bytes)"),
    *("safeTransferFrom(address,address,uint256)", "safeBatchTransferFrom(address,address,uint256[],uint256[],bytes)"),
    *("aggregate((address,bytes)[])", "aggregate3((address,bool,bytes)[])"),
    # overloads, and a name whose selector is transfer(address,uint256)'s
    *("transfer(uint256)", "approve()", "execute()", "permit(bytes)", "many_msg_babbage(bytes1)"),
]


@pytest.mark.parametrize("signature", FORBIDDEN)
async def test_functions_that_move_others_money_are_refused(gateways: Gateways, signature: str) -> None:
    with pytest.raises(Unauthorized, match="could be moved"):
        refuse_functions((signature,))
    for place in ("deposit", "withdraw", "dispute"):
        gateway = replace(plugin().gateways[0], **{place: (signature,)})  # type: ignore[arg-type]
        with pytest.raises(Unauthorized):
            await gateways.check(gateway)


def test_other_functions_may_stand() -> None:
    refuse_functions(("open(address)", "close(bytes32)", "settle(bytes32)", "transferChannel(bytes32)", "executed()"))


@pytest.mark.parametrize("probe", ["0xdd62ed3e", "0xe985e9c5"])
async def test_whoever_answers_like_a_token_is_no_gateway(
    gateways: Gateways, chain: FakeChain, monkeypatch: pytest.MonkeyPatch, probe: str
) -> None:
    def answer(call: dict[str, Any], tag: str) -> str:
        assert call["to"] == GATEWAY
        if call["data"].startswith(probe):
            return "0x" + "00" * 32
        raise RpcError(3, "execution reverted")

    monkeypatch.setattr(chain, "eth_call", answer)
    with pytest.raises(Unauthorized, match="it is a token"):
        await gateways.check(plugin().gateways[0])


@pytest.mark.parametrize("answer", ["0x", "0x01"])
async def test_a_fallback_that_answers_nothing_is_fine(
    gateways: Gateways, chain: FakeChain, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(chain, "eth_call", lambda call, tag: answer)
    await gateways.check(plugin().gateways[0])


@pytest.mark.parametrize("error", [gone(), RpcError(-32005, "rate limited"), RpcError(-32601, "no such method")])
async def test_not_known_is_not_fine(gateways: Gateways, chain: FakeChain, error: RpcError) -> None:
    chain.refuse_calls["eth_call"] = error
    with pytest.raises((RpcError, Disconnected)):
        await gateways.check(plugin().gateways[0])


async def test_an_address_without_code_is_no_gateway(gateways: Gateways, chain: FakeChain) -> None:
    chain.codes.clear()
    with pytest.raises(InvalidParams, match="has no code"):
        await gateways.check(plugin().gateways[0])


async def test_the_code_approved_at_install_is_remembered(gateways: Gateways, chain: FakeChain) -> None:
    gateway = plugin().gateways[0]
    await gateways.check(gateway)
    approved = await gateways.approved_code(gateway)
    assert approved == await gateways.code_hash(GATEWAY)
    chain.codes[GATEWAY] = "0x6002"
    assert await gateways.code_hash(GATEWAY) != approved
    assert await gateways.approved_code(gateway) == approved


async def test_a_proxys_implementation_counts_as_its_code(
    gateways: Gateways, chain: FakeChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = await gateways.code_hash(GATEWAY)
    implementation = "0x" + "ab" * 20
    monkeypatch.setattr(chain, "eth_getStorageAt", lambda *_: "0x" + "00" * 12 + "ab" * 20)
    empty = await gateways.code_hash(GATEWAY)
    chain.codes[to_checksum_address(implementation)] = "0x6005"
    assert len({plain, empty, await gateways.code_hash(GATEWAY)}) == 3


async def test_what_a_beacon_names_counts_as_its_code(
    gateways: Gateways, chain: FakeChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    beacon, first, second = (to_checksum_address("0x" + pair * 20) for pair in ("be", "ab", "cd"))
    slots = {"0xa3f0ad74e5423aebfd80d3ef4346578335a9a72aeaee59ff6cb3582b35133d50": beacon}
    monkeypatch.setattr(chain, "eth_getStorageAt", lambda _, slot, __: "0x" + slots.get(slot, "0x")[2:].rjust(64, "0"))
    silent = await gateways.code_hash(GATEWAY)  # it names none: the call reverts
    chain.codes |= {beacon: "0x6001", first: "0x6003", second: "0x6004"}
    named = [first]

    def implementation(call: dict[str, Any], _tag: str) -> str:
        assert (to_checksum_address(call["to"]), call["data"]) == (beacon, "0x5c60da1b")
        return "0x" + named[0][2:].rjust(64, "0")

    monkeypatch.setattr(chain, "eth_call", implementation)
    one = await gateways.code_hash(GATEWAY)
    named[0] = second
    assert len({silent, one, await gateways.code_hash(GATEWAY)}) == 3
    monkeypatch.setattr(chain, "eth_call", lambda *_: (_ for _ in ()).throw(gone()))
    with pytest.raises(Disconnected):
        await gateways.code_hash(GATEWAY)
