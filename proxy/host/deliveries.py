"""What the proxy tells a plugin: in order, one in flight per lane, and again until it is answered (plugin.md).

A lane is one kind or one watch. Whoever produces (watches, hub, schedule, operations) awaits `deliver`, which returns once
the plugin has answered: across crashes, restarts and back-off. An item in flight at two crashes, or that is answered badly again
and again, is set aside, loudly, so that one poisonous message cannot stop everything behind it (hardening.md 23).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from middleware.errors import LimitExceeded, PluginTimeout
from proxy.host.calls import Deadlines, WallTime
from proxy.host.channel import AnsweredError, Channel, ChannelEnded

log = logging.getLogger("l2proxy.host")

SECONDS = 60.0  # of wall time for one answer
ATTEMPTS = 3  # answers with an error before an item is set aside
CRASHES = 2  # of the plugin while it is in flight, likewise
PAUSES = (0.5, 2.0)  # seconds before it is tried again


@dataclass(frozen=True)
class _Failure:
    why: str
    crashed: bool = False


class Deliveries:
    """The deliveries to one plugin. `channel` waits for the running plugin, `hung` ends one that does not answer."""

    def __init__(
        self,
        plugin_id: str,
        channel: Callable[[], Awaitable[Channel]],
        hung: Callable[[str], None],
        say: Callable[[str], None],
        *,
        aside: Callable[[str], None] = lambda _: None,
        pauses: tuple[float, ...] = PAUSES,
        seconds: float = SECONDS,
    ) -> None:
        self._plugin_id = plugin_id
        self._channel = channel
        self._hung = hung
        self._say, self._aside = say, aside
        self._pauses = pauses
        self._seconds = seconds
        self._lanes: dict[str, asyncio.Lock] = {}
        self._times: set[WallTime] = set()
        self._deadlines = Deadlines()

    async def deliver(self, lane: str, method: str, params: dict[str, Any]) -> bool:
        """Return True once it is answered, False when it was set aside. Raises PluginUnavailable for good ends."""
        async with self._lanes.setdefault(lane, asyncio.Lock()):
            failures = crashes = 0
            while failures < ATTEMPTS and crashes < CRASHES:
                if failures:
                    await asyncio.sleep(self._pauses[min(failures, len(self._pauses)) - 1])
                failure = await self._try(method, params)
                if failure is None:
                    return True
                failures += 1
                crashes += failure.crashed
                self._say(f"{method} was not answered well: {failure.why}")
            why = f"{CRASHES} crashes" if crashes >= CRASHES else f"{failures} attempts"
            self._say(f"{method} was set aside after {why}; the plugin has missed it")
            self._aside(f"a {method} delivery was set aside after {why}; the plugin has missed it")
            log.warning("plugin %s: a %s delivery was set aside after %s", self._plugin_id, method, why)
            return False

    async def reachable(self) -> None:
        """Return once the plugin runs. Raises PluginUnavailable for good ends."""
        await self._channel()

    def __len__(self) -> int:
        """Return how many deliveries are in flight."""
        return sum(lock.locked() for lock in self._lanes.values())

    def forget(self, lane: str) -> None:
        """Drop an idle lane that is not needed any more."""
        lock = self._lanes.get(lane)
        if lock is not None and not lock.locked():
            del self._lanes[lane]

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Let the time of everything in flight stand still: the plugin waits for the owner."""
        with contextlib.ExitStack() as stack:
            for time in self._times:
                stack.enter_context(time.paused())
            yield

    async def _try(self, method: str, params: dict[str, Any]) -> _Failure | None:
        channel = await self._channel()
        time = WallTime(self._plugin_id, self._seconds, self._deadlines)
        self._times.add(time)
        try:
            await channel.request(method, params, time)
        except AnsweredError as error:
            return _Failure(error.message[:200])
        except ChannelEnded as error:
            return _Failure(f"the plugin {error}", crashed=True)
        except LimitExceeded as error:
            return _Failure(error.message)
        except PluginTimeout as error:
            self._hung(f"did not answer {method} within {self._seconds:g} s")
            return _Failure(error.message, crashed=True)
        finally:
            self._times.discard(time)
        return None
