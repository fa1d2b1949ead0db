"""Which chain a node serves, the pin, and what counts as a dev node."""

from __future__ import annotations

from pathlib import Path

import pytest

from middleware.errors import Disconnected
from proxy.upstream.addresses import parse
from proxy.upstream.identity import BadPin, ChainIdentity, is_dev_node, read_pin, write_pin
from proxy.upstream.l1 import L1
from tests.upstream.fake_node import GENESIS, OTHER_GENESIS, FakeNode, result


@pytest.mark.parametrize(
    ("url", "version", "chain_id", "dev"),
    [
        ("http://127.0.0.1:8545", "anvil/v1.7.1", 31337, True),
        ("/tmp/anvil.ipc", "HardhatNetwork/2.22", 31337, True),
        ("ws://localhost:8545", "Ganache/v7", 1337, True),
        ("http://[::1]:8545", "EthereumJS TestRPC/v2", 5777, True),
        ("/tmp/dev.ipc", "l2proxy/eth-tester/0.14", 1337, True),
        ("http://127.0.0.1:8545", "anvil/v1.7.1", 1, False),
        ("http://127.0.0.1:8545", "anvil/v1.7.1", 8453, False),
        ("http://127.0.0.1:8545", "anvil/v1.7.1", 11155111, False),
        ("http://192.168.0.2:8545", "anvil/v1.7.1", 31337, False),
        ("https://node.example", "anvil/v1.7.1", 31337, False),
        ("http://127.0.0.1:8545", "Geth/v1.15 not anvil", 31337, False),
        ("http://127.0.0.1:8545", "", 31337, False),
    ],
)
def test_dev_nodes(url: str, version: str, chain_id: int, dev: bool) -> None:
    assert is_dev_node(parse(url), version, chain_id) is dev


def test_the_pin_is_written_once_and_read_back(tmp_path: Path) -> None:
    assert read_pin(tmp_path / "chain.json") is None
    identity = ChainIdentity(31337, GENESIS, "anvil", is_dev=True)
    write_pin(tmp_path / "chain.json", identity)
    assert read_pin(tmp_path / "chain.json") == identity
    assert (tmp_path / "chain.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{}", '{"chain_id":"1"}', "[]"])
def test_a_damaged_pin_is_no_free_choice(tmp_path: Path, text: str) -> None:
    (tmp_path / "chain.json").write_text(text)
    with pytest.raises(BadPin, match=r"chain\.json"):
        read_pin(tmp_path / "chain.json")


async def test_probe_tells_the_chain_and_pins_nothing(short_tmp: Path) -> None:
    async with FakeNode(chain_id=5).ipc(short_tmp / "n.ipc") as url:
        identity = await L1.probe([url])
    assert (identity.chain_id, identity.genesis) == (5, GENESIS)
    assert list(short_tmp.iterdir()) == []


async def test_the_first_start_pins(short_tmp: Path) -> None:
    pin = short_tmp / "chain.json"
    async with FakeNode().ipc(short_tmp / "n.ipc") as url:
        l1 = L1([url], pin=pin)
        await l1.start()
        assert (l1.chain_id, l1.genesis, l1.is_dev) == (31337, GENESIS, True)
        await l1.close()
    assert read_pin(pin) == ChainIdentity(31337, GENESIS, "anvil/v9", is_dev=True)


@pytest.mark.parametrize(("chain_id", "genesis"), [(31338, GENESIS), (31337, OTHER_GENESIS)])
async def test_another_chain_than_the_pinned_one_is_never_asked(short_tmp: Path, chain_id: int, genesis: str) -> None:
    write_pin(short_tmp / "chain.json", ChainIdentity(31337, GENESIS, "anvil", is_dev=True))
    node = FakeNode(chain_id=chain_id, genesis=genesis)
    said: list[str] = []
    async with node.ipc(short_tmp / "n.ipc") as url:
        l1 = L1([url], pin=short_tmp / "chain.json", notice=said.append)
        await l1.start()
        for _ in range(2):
            with pytest.raises(Disconnected) as caught:
                await l1.call("eth_sendRawTransaction", "0x00")
            for named in (str(chain_id), genesis, "31337", GENESIS):
                assert named in caught.value.message
        assert caught.value.code == 4900
        assert l1.chain_id == 31337
        assert l1.trouble is not None
        await l1.close()
    assert node.methods() == []
    assert len(said) == 1


async def test_without_a_node_and_without_a_pin_there_is_no_start(short_tmp: Path) -> None:
    l1 = L1([str(short_tmp / "n.ipc")], pin=short_tmp / "chain.json")
    with pytest.raises(Disconnected, match="is the node running"):
        await l1.start()
    await l1.close()


async def test_with_a_pin_it_starts_and_serves_when_the_node_comes(short_tmp: Path) -> None:
    write_pin(short_tmp / "chain.json", ChainIdentity(31337, GENESIS, "anvil", is_dev=True))
    l1 = L1([str(short_tmp / "n.ipc")], pin=short_tmp / "chain.json")
    await l1.start()
    with pytest.raises(Disconnected):
        await l1.call("eth_blockNumber")
    async with FakeNode().ipc(short_tmp / "n.ipc"):
        events = l1.blocks.events()
        await anext(aiter(events))  # the tracker found the node by itself
        assert await l1.call("eth_blockNumber") == "0x1"
        assert l1.trouble is None
    await l1.close()


@pytest.mark.parametrize("value", [None, 5, "0xzz", {}])
async def test_a_node_that_does_not_tell_its_chain_is_not_used(short_tmp: Path, value: object) -> None:
    class Odd(FakeNode):
        async def respond(self, raw: bytes) -> bytes | None:
            return result({"id": 1}, value) if b"eth_chainId" in raw else await super().respond(raw)

    async with Odd().ipc(short_tmp / "n.ipc") as url:
        with pytest.raises(Disconnected, match="does not say which chain it serves"):
            await L1.probe([url])
