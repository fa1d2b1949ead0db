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
            await dapp.request("eth_sendRawTransaction", ["0x00"])
        assert caught.value.code in (-32000, -32602), caught.value
