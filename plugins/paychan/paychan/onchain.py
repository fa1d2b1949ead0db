"""The channel as the contract holds it, read with `eth_call`.

Selectors are constants, since the sandbox has no keccak; a test compares them with the compiled contract.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

HUB = "0x365a86fc"
CHANNEL_OF = "0x988b69c6"
CHANNELS = "0x7a7ebd7b"
STATUS = ("none", "open", "closing", "closed")
NO_CHANNEL = "0x" + "00" * 32

Request = Callable[[str, list[Any]], Awaitable[Any]]


@dataclass(frozen=True)
class OnChain:
    """`sent` and `received` are what was presented in a close; `closes_at` is chain time."""

    channel: str
    owner: str
    status: str
    closes_at: int
    signer: str
    user_in: int
    hub_in: int
    user_out: int
    sent: int
    received: int


class Contract:
    """Reads one PayChan."""

    def __init__(self, request: Request, address: str) -> None:
        self._request = request
        self.address = address

    async def hub(self) -> str:
        """Return the hub's address, lower case."""
        return _address(await self._call(HUB, 1))

    async def newest(self, owner: str) -> OnChain | None:
        """Return the owner's newest channel, None where it never had one."""
        word = await self._call(CHANNEL_OF + owner[2:].lower().rjust(64, "0"), 1)
        channel = "0x" + word
        if channel == NO_CHANNEL:
            return None
        return await self.read(channel)

    async def read(self, channel: str) -> OnChain:
        """Return a channel by its id."""
        words = await self._call(CHANNELS + channel[2:], 10)
        row = [words[index * 64 : index * 64 + 64] for index in range(10)]
        amounts = [int(word, 16) for word in row[4:9]]
        return OnChain(channel, _address(row[0]), STATUS[int(row[1], 16)], int(row[2], 16), _address(row[3]), *amounts)

    async def chain_time(self) -> int:
        """Return the newest block's timestamp in unix seconds."""
        block = await self._request("eth_getBlockByNumber", ["latest", False])
        return int(block["timestamp"], 16)

    async def _call(self, data: str, words: int) -> str:
        answer = await self._request("eth_call", [{"to": self.address, "data": data}, "latest"])
        if not isinstance(answer, str) or len(answer) != 2 + 64 * words:
            raise LookupError(f"there is no PayChan contract at {self.address} on this chain")
        return answer[2:]


def _address(word: str) -> str:
    return "0x" + word[-40:].lower()
