"""The SDK's gateway service against the fake host: plans, arguments that come later, sends, transfers."""

from __future__ import annotations

from typing import Any

import pytest
from l2proxy_sdk import HostError, Plugin
from l2proxy_sdk.records import Operation
from l2proxy_sdk.testing import FakeHost

MANIFEST: dict[str, Any] = {
    "gateway": [{"deposit": ["open(address)"], "withdraw": ["close(bytes32)"], "dispute": ["answer(bytes32)"]}],
    "permissions": {"transfer": False},
}
CHANNEL = "0x" + "11" * 32
CLOSE = {"function": "close(bytes32)", "args": [bytes.fromhex(CHANNEL[2:])]}


class Exits(Plugin):
    """Remembers what became of its operations."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Operation] = []

    async def on_operation(self, operation: Operation) -> None:
        self.heard.append(operation)


async def test_a_plan_waits_for_its_arguments_and_is_done_once_they_are_supplied() -> None:
    executed: list[tuple[str, dict[str, Any]]] = []

    async def execute(kind: str, params: dict[str, Any]) -> dict[str, Any]:
        executed.append((kind, params))
        return {"hashes": ["0x1"]}

    host = FakeHost(Exits, manifest=MANIFEST, execute=execute)
    await host.start()
    plugin = host.plugin
    assert isinstance(plugin, Exits)
    later = {"function": "answer", "args": None, "waitFor": {"event": {"name": "Closing"}}}
    operation = await plugin.gateway.plan([CLOSE | {"value": 5}, later])
    await host.until(lambda: bool(host.operations[operation.id]["status"] == "waiting"))
    steps = host.calls[-1][1]["steps"] if host.calls[-1][0] == "plan" else []
    assert steps == [{"function": "close(bytes32)", "args": [CHANNEL], "value": "0x5"}, later]
    assert executed == []
    with pytest.raises(HostError):
        await plugin.gateway.supply("op-9", [CHANNEL])
    assert (await plugin.gateway.supply(operation, [CHANNEL])).id == operation.id
    await host.until(lambda: bool(host.operations[operation.id]["status"] == "done"))
    assert [step["args"] for step in executed[0][1]["steps"]] == [[CHANNEL], [CHANNEL]]
    with pytest.raises(HostError):
        await plugin.gateway.supply(operation.id, {"channel": CHANNEL})
    await host.stop()


async def test_what_the_manifest_does_not_list_is_refused_as_the_proxy_does() -> None:
    host = FakeHost(Exits, manifest=MANIFEST)
    await host.start()
    gateway = host.plugin.gateway
    await gateway.send(function="answer", args=[CHANNEL])
    assert host.calls[-1] == ("send", {"function": "answer", "args": [CHANNEL]})
    for refused in (
        gateway.send(function="steal(address)", args=[]),
        gateway.withdraw(function="answer(bytes32)", args=[]),
        gateway.plan([CLOSE, {"function": "steal(address)", "args": []}]),
        gateway.transfer("0x1", 5),
    ):
        with pytest.raises(HostError) as caught:
            await refused
        assert caught.value.code == 4100
    await host.stop()


async def test_a_transfer_is_shown_as_the_proxy_shows_it() -> None:
    host = FakeHost(Exits)
    await host.start()
    await host.plugin.gateway.transfer("0xb0", 5)
    await host.plugin.gateway.transfer("0xb0", 5, token="0x70")
    nothing = {"gateway": None, "status": "pending", "hashes": [], "confirmations": "0x0"}
    assert [operation["steps"][0] for operation in host.operations.values()] == [
        nothing | {"function": None, "args": [], "value": "0x5", "to": "0xb0"},
        nothing | {"function": "transfer(address,uint256)", "args": ["0xb0", "0x5"], "value": "0x0", "to": "0x70"},
    ]
    await host.stop()
