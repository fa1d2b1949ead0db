"""Staying awake for a moment where the next bytes are due at once: to sleep and be woken costs more than the call itself.

Used where bytes are sent whose answer may come within microseconds: to a node or a plugin of this machine, to a client that asks one call
after another. The event loop looks again and again, without sleeping, for at most `MOMENT`; what comes meanwhile, of anybody, is
served as ever. Where it was in vain it is tried less often, in the end after one in 64: a node far away, an idle client cost
next to nothing (docs/decisions/0011). It must never keep the loop awake longer than a moment after the last `expect`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

MOMENT: Final = 100e-6  # seconds
_FEW: Final = 2
_SELDOM: Final = 63  # expectations passed over after one in vain, at most


class Vigil:
    """One kind of bytes that are waited for, in one event loop. `clock`: seconds, as is `moment`."""

    __slots__ = ("_again", "_clock", "_moment", "_pass_over", "_passed_over", "_until", "awake")

    def __init__(self, clock: Callable[[], float] = time.perf_counter, moment: float = MOMENT) -> None:
        self._clock = clock
        self._moment = moment
        self.awake = False
        self._again = False  # something is expected since the last look
        self._until = 0.0
        self._pass_over = 0  # expectations, after one in vain
        self._passed_over = 0

    def expect(self, due: int = 1) -> None:
        """Stay awake for a moment: something was sent, and `due` answers are; of many, one comes anyway."""
        if due > _FEW:
            return
        if self.awake:
            self._again = True
        elif self._passed_over < self._pass_over:
            self._passed_over += 1
        else:
            self.awake = self._again = True
            asyncio.get_running_loop().call_soon(self._look)

    def came(self) -> None:
        """Sleep again: what was expected is here."""
        if self.awake:
            self._pass_over = 0
            self._again = False
            self._until = 0.0

    def _look(self) -> None:
        now = self._clock()
        if self._again:
            self._again = False
            self._until = now + self._moment
        elif now >= self._until:
            self.awake = False
            if self._until:
                self._passed_over = 0
                self._pass_over = min(2 * self._pass_over + 1, _SELDOM)
            return
        asyncio.get_running_loop().call_soon(self._look)
