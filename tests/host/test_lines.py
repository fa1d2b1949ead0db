"""No line the host writes exceeds the limit, whatever a hub, a node or a chain brings (hardening.md 23): nobody's size ends a plugin."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from middleware.waist import Answer, Context, Request, result
from proxy.host.deliveries import Deliveries
from proxy.host.services.hub import MAX_MESSAGE
from tests.host.neighbours import ECHO, Home, new_keyring
from tests.host.test_deliveries import FILTER, hub, with_hub


async def test_a_large_message_closes_the_hub_and_the_plugin_goes_on(home: Home, tmp_path: Path) -> None:
    async with hub() as (place, _, sockets):
        await home.add(with_hub(tmp_path), hub=f"ws://{place}/ws")
        await home.heard(3)
        for text in ("x" * (MAX_MESSAGE + 1), '"' * MAX_MESSAGE):  # too long; too long once it is written as JSON
            known = len(await home.heard(3))
            await sockets[-1].send_str(text)
            rows = await home.heard(known + 4)
            assert rows[known][:2] == ["hub close", 1009]
            assert rows[known + 1 : known + 4] == [["hub open"], ["hub", "hello"], ["hub", "ff00"]]
        await sockets[-1].send_str("y" * MAX_MESSAGE)
        async with asyncio.timeout(60):
            while (await home.ask("heard"))[-1] != ["hub", "y" * MAX_MESSAGE]:  # noqa: ASYNC110 - another process is polled
                await asyncio.sleep(0.02)
        assert home.plugins.status("echo")["restarts"] == 0


class LargeAnswers(Home):
    """A node whose answers are longer than a line."""

    async def dispatch(self, request: Request, context: Context) -> Answer:
        return result("0x" + "00" * (1 << 20))


async def test_large_results_are_refused_and_logs_come_in_several_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[list[str]] = []
    deliver = Deliveries.deliver

    async def heard(self: Deliveries, lane: str, method: str, params: dict[str, Any]) -> bool:
        if method == "logs":
            lines.append([log["data"] for log in params["logs"]])
        return await deliver(self, lane, method, params)

    monkeypatch.setattr(Deliveries, "deliver", heard)
    home = LargeAnswers(tmp_path / "data", new_keyring(tmp_path))
    home.open()
    await home.plugins.start()
    try:
        await home.add(ECHO)
        asked = {"method": "eth_call", "params": [{}, "latest"]}
        refused = (await home.ask("layer1.request", asked))["error"]
        assert refused["code"] == -32005
        assert "longer than a line" in refused["message"]
        datas = [f"0x{n:02x}" + "ab" * 60_000 for n in range(40)]
        home.l1.grow(*datas)
        await home.ask("layer1.watch", FILTER)
        async with asyncio.timeout(60):
            while sum(map(len, lines)) < len(datas):  # noqa: ASYNC110 - another process is polled
                await asyncio.sleep(0.02)
        assert [data for line in lines for data in line] == datas
        assert len(lines) > 4
        assert home.plugins.status("echo")["restarts"] == 0
    finally:
        await home.close()
