"""A plugin killed with -9 at any host call: what it asked for is done once and whole, or not at all, and it goes on (security.md 23).

The daemon's own deaths are in test_money_crash.py (operations), test_store_crash.py (persist), tests/host/test_updates.py (update),
and of both at once in tests/journeys/test_journey.py; the long runs in tests/soak.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from middleware.errors import PluginUnavailable
from proxy.host.provider import Provider
from tests.host.neighbours import ECHO, Home, new_keyring

CHANNEL = "0x" + "11" * 32
CALLS: dict[str, dict[str, Any]] = {
    "persist": {"put": {"a": "1", "b": "2"}, "delete": ["c"]},
    "deposit": {"function": "open", "args": [], "value": "0x1"},
    "send": {"function": "answer", "args": [CHANNEL]},
    "getAccount": {},
    "updateLayer2State": {"state": {"n": 1}},
    "schedule": {"id": "later", "time": 1 << 40, "data": None},
}


class Deaths:
    """Kills the plugin's process at the next call of a method: before the host does it, or before it is answered."""

    def __init__(self, home: Home) -> None:
        self.home, self.method, self.moment = home, "", ""
        self.request = Provider.request

    def arm(self, method: str, moment: str) -> None:
        self.method, self.moment = method, moment

    def _kill(self) -> None:
        pid = self.home.plugins._hosted["echo"].life.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    async def answer(self, provider: Provider, method: str, params: dict[str, Any]) -> Any:
        if method != self.method:
            return await self.request(provider, method, params)
        self.method = ""
        if self.moment == "before":
            self._kill()
        answer = await self.request(provider, method, params)
        if self.moment == "after":
            self._kill()
        return answer


async def effects(home: Home) -> dict[str, Any]:
    """Return how often each call took effect; halves show as a wrong number."""
    stored = (await home.ask("load", {"prefix": ""}))["items"]
    kinds = [kind for _, kind, _, _ in home.operations.submitted]
    published = home.plugins.states.get("echo")
    return {
        "persist": [key for key, _ in stored],
        "deposit": kinds.count("deposit"),
        "send": kinds.count("send"),
        "getAccount": len(home.plugins._hosted["echo"].keys.known()),
        "updateLayer2State": 0 if published is None else published.revision,
        "schedule": len(list(home.plugins._hosted["echo"].schedule._space.scan())),
    }


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_plugin_killed_at_any_host_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    now = [1_000.0]
    home = Home(tmp_path / "data", new_keyring(tmp_path), clock=lambda: now[0])
    home.open()
    await home.plugins.start()
    deaths = Deaths(home)
    monkeypatch.setattr(Provider, "request", lambda self, method, params: deaths.answer(self, method, params))  # noqa: PLW0108 - a function binds
    try:
        await home.add(ECHO)
        hosted = home.plugins._hosted["echo"]
        hosted.provider._grants |= {"gateway"}  # whether it is granted is tried elsewhere
        await home.ask("persist", {"put": {"c": "3"}})
        for count, (method, params) in enumerate(CALLS.items(), 1):
            before = await effects(home)
            deaths.arm(method, moment)
            with pytest.raises(PluginUnavailable):
                await home.ask(method, params)
            now[0] += 700  # five crashes in ten minutes are another matter
            after = await effects(home)  # by the next process
            assert hosted.life.starts == count + 1
            others = {name: value for name, value in before.items() if name != method}
            assert others == {name: value for name, value in after.items() if name != method}, method
            wanted = ["a", "b"] if method == "persist" else before[method] + 1
            assert after[method] == wanted, f"{method}: once and whole"
            again = await home.ask(method, params)
            assert "error" not in again, method
        home.operations.change("echo", {"id": "op1", "status": "done"})
        pid = hosted.life.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await home.plugins.rehost("echo")  # as an update does: with the process dead in this very moment
        assert (await effects(home))["persist"] == ["a", "b"]
        assert home.notices == []
    finally:
        await home.close()
