"""The end of the chain: what is ours, what goes to the node, what goes nowhere."""

from __future__ import annotations

import pytest

from middleware.errors import MethodNotFound, RpcError, Unsupported
from middleware.forward import Forward
from middleware.methods import MethodTable
from middleware.waist import ANONYMOUS, Answer, Context, NodeReply, Request, result

CONTEXT = Context(ANONYMOUS)


class Node:
    """Remembers what reached it."""

    def __init__(self) -> None:
        self.seen: list[Request] = []

    async def forward(self, request: Request) -> NodeReply:
        self.seen.append(request)
        return NodeReply(b'{"jsonrpc":"2.0","id":1,"result":"node"}')


async def ours(request: Request, context: Context) -> Answer:
    return result("ours")


async def test_passed_goes_to_the_node_as_it_came() -> None:
    node, request = Node(), Request("eth_call", b"[ 1 ]", b"1")
    answer = await Forward(MethodTable(), node, {"eth_accounts"}, ours)(request, CONTEXT)
    assert isinstance(answer, NodeReply)
    assert node.seen == [request]


async def test_our_own_is_dispatched() -> None:
    node = Node()
    assert await Forward(MethodTable(), node, {"eth_accounts"}, ours)(Request("eth_accounts"), CONTEXT) == result(
        "ours"
    )
    assert node.seen == []


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("eth_sign", Unsupported),
        ("eth_sendTransaction", Unsupported),  # ours, and nobody answers it: never the node
        ("nothing", Unsupported),
        ("l2_nothing", MethodNotFound),
        ("l2_invoke", MethodNotFound),  # ours, and nobody answers it
        ("eth_x" + "\x1b[31m" * 1000, Unsupported),
    ],
)
async def test_the_rest_is_refused(method: str, kind: type[RpcError]) -> None:
    node = Node()
    with pytest.raises(kind) as refused:
        await Forward(MethodTable(), node, {"eth_accounts"}, ours)(Request(method), CONTEXT)
    assert node.seen == []
    assert len(refused.value.message) < 300
    assert refused.value.message.isprintable()
