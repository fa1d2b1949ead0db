"""The chain: order, compilation, and what a configured link may not do (hardening.md 4)."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from middleware.chain import Chain, ChangedCall
from middleware.waist import ANONYMOUS, SOCKET, Answer, Context, Next, Request, Result, answered, result

CONTEXT = Context(ANONYMOUS)


class Step:
    """A link that writes its name before it goes on."""

    def __init__(self, name: str, trace: list[str], methods: tuple[str, ...] = ("eth_call",)) -> None:
        self.name, self.trace, self.methods = name, trace, methods
        self.asked = 0

    def handles(self, method: str) -> bool:
        self.asked += 1
        return method in self.methods

    async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
        self.trace.append(self.name)
        return await next(request, context)


async def echo(request: Request, context: Context) -> Answer:
    return result([request.method, request.params.decode(), str(context.origin)])


async def test_links_run_in_order_configured_outermost() -> None:
    trace: list[str] = []
    steps = [Step(name, trace) for name in ("outer", "inner", "permission", "answers")]
    chain = Chain(steps[2:], echo, steps[:2])
    assert answered(await chain(Request("eth_call", b"[1]"), CONTEXT)) == ["eth_call", "[1]", "anonymous"]
    assert trace == ["outer", "inner", "permission", "answers"]


async def test_a_link_without_anything_to_say_is_not_in_the_way() -> None:
    trace: list[str] = []
    step = Step("only calls", trace)
    chain = Chain([step], echo)
    await chain(Request("eth_chainId"), CONTEXT)
    await chain(Request("eth_chainId"), CONTEXT)
    assert trace == []
    assert step.asked == 1, "a known method is compiled once"


async def test_nothing_is_remembered_of_hostile_names() -> None:
    chain = Chain([], echo)
    for number in range(100):
        await chain(Request(f"eth_x{number}"), CONTEXT)
    assert chain._ways == {}


async def test_a_configured_link_may_change_params() -> None:
    class Changes(Step):
        async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
            return await next(msgspec.structs.replace(request, params=b"[2]"), context)

    chain = Chain([], echo, [Changes("changes", [])])
    assert answered(await chain(Request("eth_call", b"[1]"), CONTEXT)) == ["eth_call", "[2]", "anonymous"]


@pytest.mark.parametrize("change", ["method", "id", "origin", "dispatch"])
async def test_a_configured_link_that_changes_more_fails(change: str) -> None:
    reached: list[str] = []

    async def terminal(request: Request, context: Context) -> Answer:
        reached.append(request.method)
        return result(None)

    class Changes(Step):
        async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
            match change:
                case "method":
                    request = msgspec.structs.replace(request, method="eth_sendTransaction")
                case "id":
                    request = msgspec.structs.replace(request, id=b"7")
                case "origin":
                    context = replace(context, origin=SOCKET)
                case _:
                    context = replace(context)
            return await next(request, context)

    chain = Chain([], terminal, [Changes("changes", [])])
    with pytest.raises(ChangedCall):
        await chain(Request("eth_call"), CONTEXT)
    assert reached == []


async def test_dispatch_enters_the_other_methods_whole_chain() -> None:
    trace: list[str] = []

    class Asks(Step):
        async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
            return await context.dispatch(Request("eth_chainId"))

    permission = Step("permission", trace, ("eth_call", "eth_chainId"))
    chain = Chain([permission], echo, [Asks("asks", [])])
    assert answered(await chain(Request("eth_call"), CONTEXT))[0] == "eth_chainId"
    assert trace == ["permission"]


async def test_a_link_that_dispatches_to_itself_ends() -> None:
    class Loops(Step):
        async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
            return await context.dispatch(request)

    with pytest.raises(RecursionError):
        await Chain([], echo, [Loops("loops", [])])(Request("eth_call"), CONTEXT)


async def test_an_answer_of_a_link_ends_the_call() -> None:
    class Answers(Step):
        async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
            return Result(b'"mine"')

    assert answered(await Chain([Answers("answers", [])], echo)(Request("eth_call"), CONTEXT)) == "mine"
