"""/healthz, /readyz and /metrics of the assembled daemon: true, bounded, documented, and for no page."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from middleware.metrics import CODES
from proxy.app.health import Stores
from proxy.config import Config, LogSettings
from proxy.storage import Database
from tests.app.conftest import Mortal, Running, Start
from tests.upstream.fake_node import FakeNode

PATHS = ("/healthz", "/readyz", "/metrics")
ROOT = Path(__file__).parent.parent.parent


async def get(daemon: Running, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    url = f"http://127.0.0.1:{daemon[1].dapp.port}{path}"
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers) as response:
        return response.status, dict(response.headers), await response.text()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give node and disk their time: on a busy machine a synced write may take longer than the daemon waits."""
    monkeypatch.setattr("proxy.app.health.PATIENCE", 60.0)


async def readiness(daemon: Running) -> tuple[int, Any]:
    url = f"http://127.0.0.1:{daemon[1].dapp.port}/readyz"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.json()


async def call(daemon: Running, method: str, *params: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    url = f"http://127.0.0.1:{daemon[1].dapp.port}/"
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        return await response.json()


async def test_alive_and_ready(daemon: Running) -> None:
    status, headers, body = await get(daemon, "/healthz")
    assert (status, body) == (200, '{"status":"alive"}')
    assert headers["Content-Type"] == "application/json"
    await daemon[0].l1.blocks.sync()
    status, found = await readiness(daemon)
    assert status == 200
    assert found["ready"] is True
    assert set(found["checks"]) == {"l1", "stores", "doors", "plugins"}
    assert all(check["ok"] and check["why"] for check in found["checks"].values())
    assert "block 0 of chain 31337" in found["checks"]["l1"]["why"]


async def test_head_answers_without_a_body(daemon: Running) -> None:
    for path in PATHS:
        status, headers, body = await get(daemon, path, "HEAD")
        assert status == 200
        assert body == ""
        assert int(headers["Content-Length"]) > 0


class Hangs(FakeNode):
    """A node that answers nothing while `answers` is not set, and drops no connection."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()
        self.answers.set()

    async def respond(self, raw: bytes) -> bytes | None:
        await self.answers.wait()
        return await super().respond(raw)


async def test_an_old_block_is_not_ready(start: Start) -> None:
    async with start(FakeNode(chain_id=12_345_678, version="Geth/v1.17")) as daemon:
        await daemon[0].l1.blocks.sync()
        status, found = await readiness(daemon)
        assert status == 503
        assert found["ready"] is False
        assert "stale_after" in found["checks"]["l1"]["why"]
        assert found["checks"]["stores"]["ok"]
        status, _, body = await get(daemon, "/healthz")
        assert (status, body) == (200, '{"status":"alive"}')


async def test_a_node_that_went_away_is_named_by_no_address(start: Start) -> None:
    node = Mortal()
    async with start(node) as daemon:
        node.dead = True
        assert (await call(daemon, "eth_call"))["error"]["code"] == 4900
        status, found = await readiness(daemon)
        assert status == 503
        assert found["checks"]["l1"]["ok"] is False
        assert "127.0.0.1" not in str(found)
        assert value(await families(daemon), "l2proxy_upstream_up", node="1") == 0


async def test_a_node_that_hangs_is_not_ready_though_its_connections_stand(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Hangs()
    async with asyncio.timeout(60), start(node) as daemon:
        assert (await readiness(daemon))[
            0
        ] == 200  # the stores were written to: they are not looked at again for a while
        for name in ("PATIENCE", "ANSWERED"):
            monkeypatch.setattr(f"proxy.app.health.{name}", 0.05)
        monkeypatch.setattr("proxy.app.health.FRESH", 600.0)
        node.answers.clear()
        while (found := await readiness(daemon))[0] == 200:
            assert not node.answers.is_set()
        assert found[1]["checks"]["l1"] == {
            "ok": False,
            "why": "the L1 node has not answered a small question within 0.05 s",
        }
        assert (await get(daemon, "/healthz"))[0] == 200
        node.answers.set()
        while (await readiness(daemon))[0] != 200:
            assert node.answers.is_set()


async def test_a_door_that_vanished_is_not_ready(daemon: Running) -> None:
    daemon[1].ipc.path.unlink()
    status, found = await readiness(daemon)
    assert status == 503
    assert found["checks"]["doors"] == {"ok": False, "why": "not open: l2proxy.ipc"}


async def test_an_unguarded_plugin_is_not_ready(daemon: Running) -> None:
    daemon[0].operations.unguarded["paychan"] = "its own key has no gas"
    status, found = await readiness(daemon)
    assert status == 503
    assert found["checks"]["plugins"]["ok"] is False
    assert "paychan" not in str(found)
    assert value(await families(daemon), "l2proxy_plugins_unguarded") == 1


async def test_a_store_that_cannot_be_written_is_not_ready(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    now = [0.0]
    stores = Stores([database], lambda: now[0])
    assert (await stores.check()).ok
    database.close()
    assert (await stores.check()).ok, "looked at once in ten seconds"
    now[0] = 11.0
    found = await stores.check()
    assert not found.ok
    assert str(tmp_path) not in found.why
    await stores.close()


async def test_a_full_disk_is_not_ready_though_a_small_write_still_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=1 << 30, free=4096))
    database = Database(tmp_path / "db")
    stores = Stores([database])
    found = await stores.check()
    database.close()
    assert (found.ok, found.why) == (False, "the disk is full")


@pytest.mark.parametrize("path", PATHS)
async def test_no_page_learns_anything(daemon: Running, path: str) -> None:
    asked = [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{daemon[1].dapp.port}"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site"},
    ]
    for headers in asked:
        status, answered, body = await get(daemon, path, **headers)
        assert status == 403, headers
        assert not any(name.lower().startswith("access-control") for name in answered)
        assert '"code":4100' in body
    status, _, _ = await get(daemon, path, **{"Sec-Fetch-Site": "none"})
    assert status == 200, "the owner may look with a browser"


@pytest.mark.parametrize("path", PATHS)
async def test_another_host_name_is_refused_first(daemon: Running, path: str) -> None:
    status, _, body = await get(daemon, path, Host="rebound.example")
    assert status == 403
    assert "hosts" in body


async def test_they_are_paths_and_never_tokens(daemon: Running) -> None:
    for path in PATHS:
        status, _, _ = await get(daemon, f"{path}?x=1")
        assert status == 200
        status, _, _ = await get(daemon, path, "DELETE")
        assert status == 401
        status, _, _ = await get(daemon, path, Authorization="Bearer wrong")
        assert status == 200, "no token is looked for, so none can be tried here"
    for other in ("/healthz/", "/metrics/x", "//metrics"):
        status, _, _ = await get(daemon, other)
        assert status == 404


async def families(daemon: Running) -> dict[str, Any]:
    status, headers, text = await get(daemon, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(found: dict[str, Any], sample: str, **labels: str) -> float:
    for family in found.values():
        for one in family.samples:
            if one.name == sample and one.labels == labels:
                return float(one.value)
    raise AssertionError(f"no sample {sample} {labels}")


async def test_calls_are_counted_by_method_and_end(daemon: Running) -> None:
    await call(daemon, "eth_call")
    await call(daemon, "eth_call")
    await call(daemon, "eth_signTransaction")
    await call(daemon, "eth_youDoNotKnowMe")
    found = await families(daemon)
    assert value(found, "l2proxy_requests_total", method="eth_call", outcome="answered") == 2
    assert value(found, "l2proxy_request_seconds_count", method="eth_call") == 2
    assert value(found, "l2proxy_request_seconds_bucket", method="eth_call", le="+Inf") == 2
    assert value(found, "l2proxy_requests_total", method="other", outcome="4200") == 1
    assert value(found, "l2proxy_requests_total", method="other", outcome="answered") == 1


async def test_nobody_makes_a_series_and_nothing_private_is_shown(daemon: Running) -> None:
    services, doors = daemon
    text = services.authority.tokens.new("payroll")
    for method in ("eth_\u2028evil", 'eth_"}', "x" * 100, "\ud800"):
        await call(daemon, method)
    url = f"http://127.0.0.1:{doors.dapp.port}/"
    body = {"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber"}
    async with aiohttp.ClientSession() as session:
        await session.post(url, json=body, headers={"Origin": "https://shop.example"})
        await session.post(url + text, json=body)
    found = await families(daemon)
    methods = {sample.labels["method"] for sample in found["l2proxy_requests"].samples}
    ends = {sample.labels["outcome"] for sample in found["l2proxy_requests"].samples}
    assert methods <= {*services.table.names(), "other"}
    assert ends <= {"answered", "gone", "other", *map(str, CODES)}
    _, _, shown = await get(daemon, "/metrics")
    for private in ("payroll", text, "shop.example", "evil", str(services.ground.directory.path)):
        assert private not in shown


async def test_each_plugin_is_a_place_in_the_list_and_never_a_name(
    daemon: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins = daemon[0].plugins
    running = {"status": "running", "invokes": 7, "errors": 2, "restarts": 1, "queue": 3, "storeBytes": 99}
    rows: dict[str, dict[str, Any]] = {
        "secretpay": {**running, "cpuSeconds": 0.5, "residentBytes": 4096},
        "tumbler": {"status": "disabled"},
    }
    monkeypatch.setattr(plugins, "all", lambda: [SimpleNamespace(id=name) for name in rows])
    monkeypatch.setattr(plugins, "status", rows.__getitem__)
    found = await families(daemon)
    assert value(found, "l2proxy_plugin_invokes_total", plugin="1") == 7
    assert value(found, "l2proxy_plugin_errors_total", plugin="1") == 2
    assert value(found, "l2proxy_plugin_restarts_total", plugin="1") == 1
    for name, figure in (("queue", 3), ("store_bytes", 99), ("cpu_seconds", 0.5), ("resident_bytes", 4096)):
        assert value(found, f"l2proxy_plugin_{name}", plugin="1") == figure
    assert value(found, "l2proxy_plugins", status="disabled") == 1
    _, _, shown = await get(daemon, "/metrics")
    assert 'plugin="2"' not in shown, "of one that does not run nothing is known"
    assert not [name for name in rows if name in shown]


async def test_every_family_is_documented(daemon: Running) -> None:
    await daemon[0].l1.blocks.sync()
    await call(daemon, "eth_call")
    found = await families(daemon)
    owners = (ROOT / "docs" / "owners.md").read_text()
    shown = {_exposed(family) for family in found.values() if family.name.startswith("l2proxy_")}
    documented = set(re.findall(r"`(l2proxy_[a-z0-9_]+)(?:\{[a-z, ]+\})?`", owners))
    sometimes = {"l2proxy_upstream_lag_blocks", "l2proxy_finalized_number"}
    assert shown - documented == set(), "not in docs/owners.md"
    assert documented - shown - sometimes == set(), "in docs/owners.md and not shown"
    assert {"process_resident_memory_bytes", "process_open_fds", "python_info"} <= set(found)


def _exposed(family: Any) -> str:
    """Return a family's name as its lines have it."""
    return f"{family.name}{ {'counter': '_total', 'info': '_info'}.get(family.type, '') }"


async def test_the_slow_line_is_off_where_the_owner_says_so(start: Start) -> None:
    async with start(FakeNode(), Config(log=LogSettings(slow_call=0))) as daemon:
        assert (await call(daemon, "eth_call"))["result"] == "0x1"
