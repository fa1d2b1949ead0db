"""What the proxy tells a plugin: in order, one in flight per lane, and again until it is answered (plugin.md).

A lane is one kind or one watch. Whoever produces (watches, hub, schedule, operations) awaits `deliver`, which returns once
the plugin has answered: across crashes, restarts and back-off. An item that fails again and again is set aside, loudly, so
that one poisonous message cannot stop everything behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from middleware.errors import LimitExceeded, PluginTimeout
from proxy.host.calls import WallTime
from proxy.host.channel import AnsweredError, Channel, ChannelEnded

log = logging.getLogger("l2proxy.host")

SECONDS = 60.0  # of wall time for one answer
ATTEMPTS = 3  # answers with an error, or crashes, before an item is set aside
PAUSES = (0.5, 2.0)  # seconds before it is tried again


class Deliveries:
    """The deliveries to one plugin. `channel` waits for the running plugin, `hung` ends one that does not answer."""

    def __init__(
        self,
        plugin_id: str,
        channel: Callable[[], Awaitable[Channel]],
        hung: Callable[[str], None],
        say: Callable[[str], None],
        *,
        pauses: tuple[float, ...] = PAUSES,
        seconds: float = SECONDS,
    ) -> None:
        self._plugin_id = plugin_id
        self._channel = channel
        self._hung = hung
        self._say = say
        self._pauses = pauses
        self._seconds = seconds
        self._lanes: dict[str, asyncio.Lock] = {}
        self._times: set[WallTime] = set()

    async def deliver(self, lane: str, method: str, params: dict[str, Any]) -> bool:
        """Return True once it is answered, False when it was set aside. Raises PluginUnavailable for good ends."""
        async with self._lanes.setdefault(lane, asyncio.Lock()):
            for attempt in range(ATTEMPTS):
                if attempt:
                    await asyncio.sleep(self._pauses[min(attempt, len(self._pauses)) - 1])
                failure = await self._try(method, params)
                if failure is None:
                    return True
                self._say(f"{method} was not answered well: {failure}")
            self._say(f"{method} was set aside after {ATTEMPTS} attempts; the plugin has missed it")
            log.warning("plugin %s: a %s delivery was set aside after %d attempts", self._plugin_id, method, ATTEMPTS)
            return False

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

    async def _try(self, method: str, params: dict[str, Any]) -> str | None:
        channel = await self._channel()
        time = WallTime(self._plugin_id, self._seconds)
        self._times.add(time)
        try:
            async with time.running():
                await channel.request(method, params)
        except AnsweredError as error:
            return error.message[:200]
        except ChannelEnded as error:
            return f"the plugin {error}"
        except LimitExceeded as error:
            return error.message
        except PluginTimeout as error:
            self._hung(f"did not answer {method} within {self._seconds:g} s")
            return error.message
        finally:
            self._times.discard(time)
        return None
