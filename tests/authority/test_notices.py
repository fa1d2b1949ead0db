"""The owner's lines: one per question, refusals thinned out, nothing a terminal would obey."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from middleware.questions import Facts, Question, digest_of
from middleware.waist import Origin
from proxy.authority.notices import MOST_PER_MINUTE, Notices

SITE = Origin.web("https://app.example")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def notices(lines: list[str], clock: Clock) -> Notices:
    return Notices(lines.append, Path("/data of/mine"), clock)


def test_a_refusal_names_the_command_that_allows_it(notices: Notices, lines: list[str]) -> None:
    notices.refused(SITE, "eth_call", "it is not connected", ("site", "connect", str(SITE)))
    [line] = lines
    assert line.startswith("l2proxy: REFUSED eth_call from https://app.example: it is not connected — allow: ")
    assert shlex.split(line.partition("allow: ")[2]) == [
        "l2proxy", "site", "connect", "https://app.example", "--data", "/data of/mine",
    ]  # fmt: skip


def test_the_same_refusal_is_said_once_a_minute(notices: Notices, lines: list[str], clock: Clock) -> None:
    for _ in range(100):
        notices.refused(SITE, "eth_call", "x", ())
    assert len(lines) == 1
    clock.now += 61
    notices.refused(SITE, "eth_call", "x", ())
    assert len(lines) == 2


def test_a_flood_of_different_refusals_is_cut(notices: Notices, lines: list[str], clock: Clock) -> None:
    for number in range(10_000):
        notices.refused(Origin.web(f"https://s{number}.example"), "eth_call", "x", ())
    assert len(lines) == MOST_PER_MINUTE + 1
    assert "not shown" in lines[-1]
    clock.now += 61
    notices.refused(SITE, "eth_call", "x", ())
    assert len(lines) == MOST_PER_MINUTE + 2


def test_methods_are_escaped(notices: Notices, lines: list[str]) -> None:
    notices.refused(SITE, "eth_\x1b[2J\r\n\u202e", "x", ())
    assert lines[0].isprintable()


def test_whom_a_plugin_serves_is_said_once(notices: Notices, lines: list[str]) -> None:
    plugin, facts = Origin.plugin("paychan"), Facts("deposit")
    for summary in ("paychan deposits 1 ETH", "paychan deposits 1 ETH, while serving https://app.example"):
        notices.question("1", Question(plugin, "deposit", summary, digest_of([]), facts, serving=SITE))
    assert [line.count("while serving https://app.example") for line in lines] == [1, 1]
