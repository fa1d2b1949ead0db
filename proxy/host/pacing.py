"""How much of the loop's time one plugin takes, and when it is the others' turn.

The channel counts what it spends on a plugin's lines and on answering them; beyond a few milliseconds it reads no further
until everybody else had as long. A plugin that floods thus has half of the loop at most, and a full pipe.
"""

from __future__ import annotations

import asyncio
import time
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

BURST = 0.003  # seconds of one plugin before others get their turn

Answer = TypeVar("Answer")


class Pace:
    """The time spent on one plugin since others had theirs."""

    def __init__(self) -> None:
        self._spent = 0.0
        self._since = time.perf_counter()

    @property
    def is_due(self) -> bool:
        """Whether it is the others' turn."""
        return self._spent > BURST

    def spend(self, seconds: float) -> None:
        """Count time during which nobody else could run."""
        self._spent += seconds

    async def give_way(self) -> None:
        """Let others run; once this plugin took too long, until they had as long as it did since it gave way last."""
        if self._spent <= BURST:
            await asyncio.sleep(0)
            return
        spent, self._spent = self._spent, 0.0
        await asyncio.sleep(max(0.0, 2 * spent - (time.perf_counter() - self._since)))
        self._since = time.perf_counter()


@types.coroutine
def timed(work: Coroutine[Any, Any, Answer], spend: Callable[[float], None]) -> Generator[Any, Any, Answer]:
    """Await `work`; `spend` is told of each stretch during which it held the loop."""
    thrown: BaseException | None = None
    while True:
        began = time.perf_counter()
        try:
            awaited = work.send(None) if thrown is None else work.throw(thrown)
        except StopIteration as done:
            answer: Answer = done.value
            return answer
        finally:
            spend(time.perf_counter() - began)
        thrown = None
        try:
            yield awaited
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is thrown where `work` waits
            thrown = error
