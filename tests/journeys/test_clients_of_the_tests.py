"""The clients the journeys are driven with really reach a node, and hand over its errors."""

from __future__ import annotations

import pytest

from middleware.errors import RpcError
from tests.journeys.clients.drive import LIBRARIES, client


@pytest.mark.parametrize("library", LIBRARIES)
async def test_a_library_reaches_the_node(anvil, node_modules, library: str) -> None:
    async with client(library, anvil.http) as dapp:
        assert await dapp.request("eth_chainId", []) == "0x7a69"
        with pytest.raises(RpcError) as caught:
            await dapp.request("eth_call", [{"data": "0x60006000fd"}, "latest"])  # PUSH 0, PUSH 0, REVERT
        assert caught.value.code == 3
