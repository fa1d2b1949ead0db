"""The answers link: lost connections lose no answers, and no request runs twice for want of an ear."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from middleware.answers import AnswersLink
from middleware.errors import InvalidParams, Refused, RpcError, Unauthorized
from middleware.questions import Withdrawn
from middleware.waist import Answer, Context, Next, Origin, Request, Result

SITE = Origin.web("https://app.example")
SEND = Request("eth_sendTransaction", b'[{"to":"0x01"}]', b"1")


class Here:
    def __init__(self) -> None:
        self.left = asyncio.Event()

    @property
    def here(self) -> bool:
        return not self.left.is_set()

    async def gone(self) -> None:
        await self.left.wait()

    async def back(self) -> None:
        await asyncio.Event().wait()


class Inner:
    """What stands behind the link: runs until the test answers."""

    def __init__(self) -> None:
        self.runs: list[asyncio.Future[Answer]] = []
        self.contexts: list[Context] = []
        self.started = asyncio.Event()

    async def __call__(self, request: Request, context: Context) -> Answer:
        self.contexts.append(context)
        self.runs.append(asyncio.get_running_loop().create_future())
        self.started.set()
        return await self.runs[-1]

    async def running(self, number: int) -> asyncio.Future[Answer]:
        while len(self.runs) < number:
            self.started.clear()
            await self.started.wait()
        return self.runs[number - 1]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Heard:
    """The asker of a call that is not awaited."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.has_left = self.was_withdrawn = False

    def answered(self, answer: Answer) -> None:
        if not self.answer.cancelled():
            self.answer.set_result(answer)

    def failed(self, error: Exception) -> None:
        if not self.answer.cancelled():
            self.answer.set_exception(error)

    def left(self) -> None:
        self.has_left = True
        self.answer.cancel()

    def withdrawn(self) -> None:
        self.was_withdrawn = True

    def speaking(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class SetOut:
    """The link asked as a door does that needs no task of its own to wait."""

    def __init__(self, link: AnswersLink) -> None:
        self.link = link

    async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
        heard = Heard()
        sent = self.link.set_out(request, context, next, heard)
        assert heard.was_withdrawn == (sent is None)
        if sent is None:
            return await self.link(request, context, next)
        try:
            return await heard.answer
        except asyncio.CancelledError:
            sent.leave()
            raise

    def handles(self, method: str) -> bool:
        return self.link.handles(method)

    async def close(self) -> None:
        await self.link.close()


@pytest.fixture(params=["awaited", "set out"])
def link(clock: Callable[[], float], request: pytest.FixtureRequest) -> AnswersLink | SetOut:
    link = AnswersLink(clock)
    return SetOut(link) if request.param == "set out" else link


def ask(
    link: AnswersLink | SetOut, inner: Inner, request: Request = SEND, origin: Origin = SITE, here: Here | None = None
) -> asyncio.Task[Answer]:
    return asyncio.ensure_future(link(request, Context(origin, presence=here or Here()), inner))


async def ended() -> None:
    """Wait until nothing runs but the test."""
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    await asyncio.gather(*others, return_exceptions=True)


async def lose(task: asyncio.Task[Answer]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_answer_is_passed_on(link: AnswersLink | SetOut) -> None:
    inner = Inner()
    task = ask(link, inner)
    (await inner.running(1)).set_result(Result(b"1"))
    assert await task == Result(b"1")


async def test_a_retry_adopts_what_its_lost_asker_started(link: AnswersLink | SetOut) -> None:
    inner = Inner()
    first = ask(link, inner)
    run = await inner.running(1)
    presence = inner.contexts[0].presence
    assert presence is not None
    assert presence.here
    await lose(first)
    assert not presence.here
    second = ask(link, inner, Request(SEND.method, SEND.params, b"2"))
    await presence.back()
    run.set_result(Result(b"1"))
    assert await second == Result(b"1")
    assert len(inner.runs) == 1


async def test_an_asker_gone_without_a_cancellation_is_adopted_too(link: AnswersLink | SetOut) -> None:
    inner, here = Inner(), Here()
    first = ask(link, inner, here=here)
    run = await inner.running(1)
    here.left.set()
    second = ask(link, inner)
    await asyncio.wait_for(inner.contexts[0].presence.back(), 60)  # type: ignore[union-attr]
    run.set_result(Result(b"1"))
    assert await second == Result(b"1")
    assert await first == Result(b"1")
    assert len(inner.runs) == 1


async def test_while_the_asker_is_there_the_same_again_is_another_request(link: AnswersLink | SetOut) -> None:
    inner = Inner()
    tasks = [ask(link, inner), ask(link, inner)]
    (await inner.running(1)).set_result(Result(b"1"))
    (await inner.running(2)).set_result(Result(b"2"))
    assert [await task for task in tasks] == [Result(b"1"), Result(b"2")]


@pytest.mark.parametrize(
    "other",
    [
        (Request(SEND.method, b'[{"to":"0x02"}]', b"1"), SITE),
        (Request("personal_sign", SEND.params, b"1"), SITE),
        (SEND, Origin.web("https://other.example")),
    ],
)
async def test_only_the_identical_request_of_the_same_origin_adopts(
    link: AnswersLink | SetOut, other: tuple[Request, Origin]
) -> None:
    inner = Inner()
    first = ask(link, inner)
    (await inner.running(1)).set_result(Result(b"1"))
    await lose(first)
    second = ask(link, inner, *other)
    (await inner.running(2)).set_result(Result(b"2"))
    assert await second == Result(b"2")


async def test_an_answer_nobody_heard_is_kept_for_two_minutes_and_given_once(
    link: AnswersLink | SetOut, clock: Clock
) -> None:
    inner = Inner()
    first = ask(link, inner)
    run = await inner.running(1)
    await lose(first)
    run.set_result(Result(b"1"))
    clock.now = 119
    assert await ask(link, inner) == Result(b"1")
    again = ask(link, inner)
    (await inner.running(2)).set_result(Result(b"2"))
    assert await again == Result(b"2")


async def test_a_kept_answer_ends_after_two_minutes(link: AnswersLink | SetOut, clock: Clock) -> None:
    inner = Inner()
    first = ask(link, inner)
    run = await inner.running(1)
    await lose(first)
    run.set_result(Result(b"1"))
    await ended()
    clock.now = 10
    await ask_other(link, inner)
    clock.now = 200
    again = ask(link, inner)
    (await inner.running(3)).set_result(Result(b"3"))
    assert await again == Result(b"3")


async def ask_other(link: AnswersLink | SetOut, inner: Inner) -> None:
    task = ask(link, inner, Request("personal_sign", b"[]", b"9"))
    (await inner.running(2)).set_result(Result(b"2"))
    await task


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (Refused("the owner said no"), True),
        (Unauthorized("locked"), False),
        (Withdrawn("nobody waited"), False),
        (InvalidParams("to", "an address", 1), False),
    ],
)
async def test_a_no_nobody_heard_is_kept_where_something_was_decided(
    link: AnswersLink | SetOut, error: RpcError, kept: bool
) -> None:
    inner = Inner()
    first = ask(link, inner)
    run = await inner.running(1)
    await lose(first)
    run.set_exception(error)
    await ended()
    second = ask(link, inner)
    if not kept:
        (await inner.running(2)).set_result(Result(b"2"))
        assert await second == Result(b"2")
        return
    with pytest.raises(type(error)):
        await second


async def test_closing_ends_what_still_runs(link: AnswersLink | SetOut) -> None:
    inner = Inner()
    first = ask(link, inner)
    run = await inner.running(1)
    await lose(first)
    await link.close()
    assert run.cancelled()


def test_it_handles_what_may_end_in_a_question(link: AnswersLink | SetOut) -> None:
    assert link.handles("l2_invoke")
    assert link.handles("eth_requestAccounts")
    assert not link.handles("eth_call")
