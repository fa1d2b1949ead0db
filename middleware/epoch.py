"""How long an answer about the newest state may be believed: a count that grows whenever anything says the state changed.

Beside the cache and in-flight sharing, which ask it and tell it. Three things end an epoch: the block tracker sees another
head, an answer of the node shows a block the tracker has not seen yet, and a call passes that may change the chain. It must
never be late: ending an epoch too often costs a call to the node, too seldom a wrong answer.
"""

from __future__ import annotations

import re
from typing import Protocol

# The last block number an answer tells: in logs, receipts and blocks with transactions, then in a block's own header.
_TOLD = (b'"blockNumber"', b'"number"')
_NUMBER = re.compile(rb'[ \t\r\n]*+:[ \t\r\n]*+"0x([0-9a-fA-F]{1,16})"')
_QUANTITY = re.compile(rb'"result"[ \t\r\n]*+:[ \t\r\n]*+"0x([0-9a-fA-F]{1,16})"')


class Head(Protocol):
    """A block the tracker knows."""

    @property
    def number(self) -> int:
        """Its height."""

    @property
    def hash(self) -> str:
        """0x + 64 hex."""


class Blocks(Protocol):
    """The block tracker, as far as answers depend on it. What it does not know is None."""

    @property
    def head(self) -> Head | None:
        """The newest block."""

    @property
    def safe(self) -> Head | None:
        """The newest safe block."""

    @property
    def finalized(self) -> Head | None:
        """The newest finalized block."""

    def poke(self) -> None:
        """Look at the chain now."""


class Epoch:
    """`number`: the state changed; `history`: what was thought settled changed; `sends`: a call that may change something passed."""

    __slots__ = ("_shown", "blocks", "history", "number", "sends")

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        self.number = 0
        self.history = 0
        self.sends = 0
        self._shown: int | None = None  # the newest block an answer has told, when the tracker did not know it

    def moved(self, *, back: bool) -> None:
        """Hear from the tracker: a new head, or (`back`) blocks that are gone."""
        self._shown = None
        self.number += 1
        if back:
            self.history += 1

    def turn(self) -> None:
        """End the epoch: the state may be another one now."""
        self.number += 1

    def rewrite(self) -> None:
        """End the epoch, and all belief in history: a developer's call may have changed anything."""
        self.number += 1
        self.history += 1
        self.blocks.poke()

    def shows_height(self, body: bytes) -> None:
        """Look at an answer to eth_blockNumber."""
        match = _QUANTITY.search(body)
        if match is not None:
            number = int(match[1], 16)
            head = self.blocks.head
            if number != (self._shown if self._shown is not None else head.number if head else None):
                self._surprised(number)

    def shows_block(self, body: bytes) -> None:
        """Look at an answer that tells a block: one above what is known, or another one at the height of the head."""
        number = _told(body)
        head = self.blocks.head
        if number is None or head is None:
            return
        newest = self._shown if self._shown is not None and self._shown > head.number else head.number
        if number > newest or (number == head.number == newest and head.hash.encode() not in body):
            self._surprised(number)

    def _surprised(self, number: int) -> None:
        self._shown = number
        self.number += 1
        self.blocks.poke()


def _told(body: bytes) -> int | None:
    """Return the last block number in an answer; None where it tells none."""
    for name in _TOLD:
        at = body.rfind(name)
        if at >= 0 and (match := _NUMBER.match(body, at + len(name))) is not None:
            return int(match[1], 16)
    return None
