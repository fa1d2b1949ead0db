"""The benchmarks run, and what they write is whole; nothing is said here about how fast anything is."""

from __future__ import annotations

import re
import socket
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import suites
from benchmarks.__main__ import main, measure, write
from benchmarks.bars import Bar, Results, bars
from benchmarks.children import held_port
from benchmarks.load import Round
from benchmarks.machine import facts, present
from tests.conftest import need

ROOT = Path(__file__).parents[2]


async def test_the_smallest_run_of_the_daemon(anvil_binary: Path, short_tmp: Path) -> None:
    """One suite with load and the one with WebSockets: every kind of start and every reading is in them."""
    heads = await suites.new_heads(_made(short_tmp / "heads"), suites.SMOKE, print, frozenset())
    assert (heads.clients, heads.blocks, heads.subscriptions) == (10, 2, 1)
    results = await measure(suites.SMOKE, ["cache"], _made(short_tmp / "load"))
    assert results.cache is not None
    assert {name: figures.rate > 0 for name, figures in results.cache.items()} == {
        "direct": True,
        "l2proxy cached": True,
    }


async def test_the_peers_answer(anvil_binary: Path, short_tmp: Path) -> None:
    """Each peer that can run here starts and answers like the node."""
    have, missing = present()
    need(bool(have) or bool(missing), "a peer")
    seen = await suites.peers_answer(_made(short_tmp / "peers"), have)
    assert seen["aiohttp"] == seen["direct"]
    assert set(seen) == {"direct", "aiohttp", *(have - {"wrk"})}
    assert {name for name, answer in seen.items() if answer != seen["direct"]} == set()


def test_a_held_port_is_listened_on_by_its_program_and_by_nobody_else() -> None:
    with (
        held_port() as port,
        socket.create_server(("127.0.0.1", port)) as program,  # it sets SO_REUSEADDR, as servers do
        socket.create_connection(("127.0.0.1", port)),
        program.accept()[0],
    ):
        pass
    with held_port() as port, socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _figures(name: str, rate: int, p50: int = 100) -> suites.Figures:
    return suites.Figures(name, (Round(rate, 1.0, p50, 2 * p50, 0, 1.5),) * 3)


def _results() -> Results:
    rates = {"direct": 100, "nginx": 80, "metamask": 20, "aiohttp": 10, "l2proxy ipc": 120, "l2proxy ws": 70}
    table = {name: _figures(name, rate) for name, rate in rates.items()}
    slow = {
        "direct": _figures("direct", 1, 50),
        "nginx": _figures("nginx", 1, 150),
        "l2proxy ipc": _figures("l2proxy ipc", 1, 180),
    }
    return Results(throughput=table, latency=slow, memory=suites.Memory((10_000, 1_000_000), (100, 105)))


async def test_the_page_and_the_picture_are_whole(tmp_path: Path) -> None:
    stood = await facts()
    write(tmp_path, _results(), stood, suites.SMOKE, "python -m benchmarks")
    page = (tmp_path / "RESULTS.md").read_text()
    assert (
        "| uncached calls, 32 connections, IPC upstream ÷ nginx | 1.00 | 1.50 | 1.50 | yes, and what it reached for |"
        in page
    )
    assert "| the same, WebSocket upstream ÷ nginx | 1.00 | 1.50 | 0.88 | **no** |" in page
    assert "| added p50 at one connection, IPC upstream ÷ nginx | 1.20 | 1.00 | 1.30 | **no** |" in page
    assert "not measured" in page
    assert all(f"| {name} |" in page for name in ("processor", "anvil", "nginx", "wrk"))
    picture = ET.parse(tmp_path / "results.svg").getroot()  # noqa: S314
    labels = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"direct", "nginx", "metamask", "aiohttp", "l2proxy ipc", "l2proxy ws"} <= set(labels)
    assert "prefers-color-scheme:dark" in (tmp_path / "results.svg").read_text()


@pytest.mark.parametrize(
    ("bar", "said"),
    [
        (Bar("", 1.0, 1.5, None), "not measured"),
        (Bar("", 1.0, 1.5, 0.994), "**no**"),
        (Bar("", 1.0, 1.5, 1.0), "yes"),
        (Bar("", 1.0, 1.5, 1.5), "yes, and what it reached for"),
        (Bar("", 1.1, 1.0, 1.2, less_is_better=True), "**no**"),
        (Bar("", 1.1, 1.0, 1.1, less_is_better=True), "yes"),
        (Bar("", 1.1, 1.0, 1.0, less_is_better=True), "yes, and what it reached for"),
    ],
)
def test_when_a_bar_is_reached(bar: Bar, said: str) -> None:
    assert bar.reached == said


def test_every_bar_of_the_issue_has_a_row() -> None:
    assert len(bars(Results())) == 13
    assert all(bar.value is None for bar in bars(Results()))


def test_the_committed_page_has_the_rows_of_today() -> None:
    page = re.sub(r"[\d,]{4,}", "N", (ROOT / "benchmarks" / "RESULTS.md").read_text())
    ET.fromstring((ROOT / "benchmarks" / "results.svg").read_text())  # noqa: S314
    assert [bar.what for bar in bars(Results()) if re.sub(r"[\d,]{4,}", "N", bar.what) not in page] == []


def test_an_unknown_suite_is_named() -> None:
    from click.testing import CliRunner

    ran = CliRunner().invoke(main, ["--only", "speed"])
    assert ran.exit_code == 2
    assert "there is no suite speed; there are throughput" in ran.output


def test_each_bug_of_a_peer_has_its_tests() -> None:
    """The table in benchmarks/README.md names tests that exist."""
    table = (ROOT / "benchmarks" / "README.md").read_text().partition("## Their bugs")[2]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 30
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)
        assert named, row
        for file, name in named:
            assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{name}"
