"""What stands on standard error: whole lines, the number of the call, and no secret."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import secrets
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from middleware.asking import asking, begin
from middleware.waist import ANONYMOUS, Context, Origin
from proxy.app import logs
from proxy.config import Config, LogSettings, MiddlewareEntry
from tests.app.conftest import Start
from tests.upstream.fake_node import FakeNode


class Written:
    """What was written on standard error so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys, self._text = capsys, ""

    def getvalue(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Written]:
    """Standard error; logging is as it was afterwards."""
    root, owner = logging.getLogger(), logging.getLogger(logs.OWNER)
    before, level, of_owner = list(root.handlers), root.level, owner.level
    try:
        yield Written(capsys)
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = before
        root.setLevel(level)
        owner.setLevel(of_owner)


def lines(written: Written) -> list[dict[str, Any]]:
    """Return the lines of ours, all being objects: what an earlier test left may be collected, and complain, at any moment."""
    found = [json.loads(line) for line in written.getvalue().splitlines()]
    return [line for line in found if line["logger"].startswith("l2proxy")]


def test_every_line_is_one_object(written: Written) -> None:
    logs.set_up(LogSettings(format="json"))
    log = logging.getLogger("l2proxy.door")
    log.info("below the level")
    log.warning("two\nlines %s", "\u2028\x1b[31m")
    log.error("failed", exc_info=ValueError("because\nof this"))
    first, second = lines(written)
    assert first["message"] == "two\nlines \u2028\x1b[31m"
    assert first["level"] == "warning"
    assert first["logger"] == "l2proxy.door"
    assert first["time"].endswith("Z")
    assert "error" not in first
    assert "ValueError: because" in second["error"]
    assert "\x1b" not in written.getvalue()


async def test_a_line_carries_the_call_it_was_written_for_and_not_who_asked(written: Written) -> None:
    logs.set_up(LogSettings(format="json"))
    log = logging.getLogger("l2proxy.x")

    async def call(origin: Origin, transport: str) -> None:
        begin(Context(origin, transport))
        await asyncio.sleep(0)
        await asyncio.create_task(deeper())

    async def deeper() -> None:
        log.warning("here")

    log.warning("outside")
    await asyncio.gather(
        call(Origin.token("payroll"), "http"), call(Origin.web("https://shop.example"), "ws"), call(ANONYMOUS, "ipc")
    )
    outside, *inside = lines(written)
    assert not {"request", "origin", "transport"} & set(outside)
    assert [(line["origin"], line["transport"]) for line in inside] == [
        ("token", "http"),
        ("web", "ws"),
        ("anonymous", "ipc"),
    ]
    assert len({line["request"] for line in inside}) == 3
    assert "payroll" not in written.getvalue()
    assert "shop.example" not in written.getvalue()
    assert asking() == {}


SECRETS = [
    (secrets.token_urlsafe(32), "[token]"),
    ("https://user:hunter2@node.example:8545/v3/0123456789abcdef?key=k", "https://node.example:8545/…"),
    ("wss://node.example/0123", "wss://node.example/…"),
]


@pytest.mark.parametrize(("secret", "shown"), SECRETS, ids=["token", "userinfo", "path"])
@pytest.mark.parametrize("form", ["json", "text"])
def test_what_could_be_a_secret_is_struck_out(written: Written, secret: str, shown: str, form: Any) -> None:
    logs.set_up(LogSettings(format=form))
    log = logging.getLogger("l2proxy.upstream")
    log.error("asked %s, '%s'", secret, secret, exc_info=OSError(f"cannot reach {secret}"))
    text = written.getvalue()
    assert secret not in text
    assert "hunter2" not in text
    assert "0123" not in text
    assert text.count(shown.removesuffix("/…")) == 3


@pytest.mark.parametrize(
    "harmless", ["http://127.0.0.1:8645", "http://[::1]:8645/", "ws://localhost:1", "0x" + "ab" * 32]
)
def test_what_is_none_is_left_alone(harmless: str) -> None:
    assert logs.without_secrets(f"at {harmless} now") == f"at {harmless.removesuffix('/')} now"


def test_text_is_for_people_and_for_no_terminal_to_obey(written: Written) -> None:
    logs.set_up(LogSettings())

    def call() -> None:
        begin(Context(Origin.plugin("paychan"), "plugin"))
        logging.getLogger("l2proxy.x").warning("danger \x1b[2J \u202e end")

    contextvars.copy_context().run(call)
    text = written.getvalue()
    assert "WARNING l2proxy.x [r" in text
    assert "plugin plugin]: danger \\u001b[2J \\u202e end\n" in text


def test_the_owner_is_told_whatever_the_level(written: Written) -> None:
    logs.set_up(LogSettings(format="json", level="error"))
    plain: list[str] = []
    logs.notices(LogSettings(format="json"), plain.append)("l2proxy: a question waits: `l2proxy approval show q1`")
    logs.notices(LogSettings(), plain.append)("l2proxy: as text")
    [line] = lines(written)
    assert line["message"] == "a question waits: `l2proxy approval show q1`"
    assert line["logger"] == logs.OWNER
    assert plain == ["l2proxy: as text"]


def test_a_slow_call_has_a_line_of_level_info(written: Written) -> None:
    settings = LogSettings(format="json", level="info", slow_call=0.5)
    logs.set_up(settings)
    logs.slow_calls(settings)("eth_call", 0.75)
    [line] = lines(written)
    assert line["level"] == "info"
    assert line["message"].startswith("eth_call took 0.750 s")


async def test_the_line_of_a_slow_call_says_which_it_was(start: Start, written: Written) -> None:
    """Also that of a call which the node alone answered, and of one that was answered at once."""
    settings = LogSettings(format="json", level="info", slow_call=1e-9)
    logs.set_up(settings)
    methods = ("eth_call", "eth_chainId", "eth_accounts")
    async with start(FakeNode(), Config(log=settings)) as (_, doors), aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{doors.dapp.port}"
        for method in methods:
            async with session.post(url, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": []}) as answer:
                assert answer.status == 200
        body = [{"jsonrpc": "2.0", "id": 1, "method": method, "params": []} for method in methods]
        async with session.post(url, json=body) as answer:
            assert len(await answer.json()) == 3
    slow = [line for line in lines(written) if line["logger"] == "l2proxy.slow"]
    assert [line["message"].split()[0] for line in slow[:3]] == list(methods)
    assert len({line["request"] for line in slow}) == len(slow) == 6
    assert {(line["origin"], line["transport"]) for line in slow} == {("anonymous", "http")}


def test_setting_up_twice_writes_once(written: Written) -> None:
    for _ in range(2):
        logs.set_up(LogSettings(format="json"))
    logging.getLogger("l2proxy.x").warning("once")
    assert len(lines(written)) == 1


async def test_an_internal_error_is_found_by_its_id_and_no_token_is(start: Start, written: Written) -> None:
    settings = LogSettings(format="json", level="debug")
    logs.set_up(settings)
    broken = [MiddlewareEntry(use="tests.middleware.entries:Breaks")]
    async with start(FakeNode(), Config(log=settings, middleware=broken)) as (services, doors):
        token = services.authority.tokens.new("payroll")
        url = f"http://127.0.0.1:{doors.dapp.port}/{token}"
        async with aiohttp.ClientSession() as session:
            answers = []
            for method in ("eth_call", "eth_chainId"):
                body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": []}
                async with session.post(url, json=body) as answer:
                    answers.append((await answer.json())["error"])
            async with session.post(url + "x", json=body) as refused:
                assert refused.status == 401
    found = {entry["message"].split()[2]: entry for entry in lines(written) if "internal error" in entry["message"]}
    assert list(found) == [answer["data"]["errorId"] for answer in answers]
    entry = found[answers[0]["data"]["errorId"]]
    assert "eth_call" in entry["message"]
    assert "ValueError" in entry["error"]
    assert (entry["origin"], entry["transport"]) == ("token", "http")
    assert len({entry["request"] for entry in found.values()}) == 2
    text = written.getvalue()
    assert token not in text
    assert "payroll" not in text
