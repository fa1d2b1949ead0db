"""The life of one plugin's process: stopped → starting → running → stopping; crash, back-off, quarantine (plugin.md).

Between the process and everybody who wants to ask the plugin something: they await `channel()` and get the live one. A
crash fails what was in flight and starts the process again, later each time; five in ten minutes quarantine the plugin. Where it has
funds locked on L1 it is quarantined in part: it serves no site and no hub, and is still told of blocks and logs (hardening.md 23).
A plugin nobody needs yet is not started. It must never take another plugin down, and never start one whose keys no unlock has opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import time
from collections.abc import Awaitable, Callable
from typing import Any

from middleware.errors import PluginUnavailable
from proxy.host.channel import AnsweredError, Channel, ChannelEnded, Handler, Notified
from proxy.host.crashes import BACK_OFF, CRASHES, ON_WATCH, Crashes
from proxy.host.plugin_log import PluginLog
from proxy.host.process import PluginProcess
from proxy.host.process_ends import copy_printed, either, how_it_ended, settle
from proxy.host.sandbox.report import Unsandboxed
from proxy.storage import StorageError

__all__ = ["BACK_OFF", "Life", "NotAsInstalled", "Status"]

START_DEADLINE = 30.0  # seconds for `start` to be answered
DISK_AGAIN = 5.0  # seconds until it is started again where its store could not be read or written
STOP_DEADLINE = 3.0  # seconds for `stop` to be answered


class NotAsInstalled(Exception):
    """The plugin's files are not what the owner agreed to; the message says so. Raised by `spawn`."""


Spawn = Callable[[], Awaitable[PluginProcess]]


class Status(enum.Enum):
    """Where a plugin is in its life; the word `l2_plugins` and `plugin list` show."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    LOCKED = "locked"  # waits for the first unlock
    CRASHED = "crashed"  # waits for its next start
    QUARANTINED = "quarantined"
    DISABLED = "disabled"


async def _nothing_locked() -> bool:
    return False


class Life:
    """One plugin's process, again and again until `stop`.

    `introduce` returns the params of `start`; `on_up(answer)` and `on_down()` are called when the plugin begins and ceases
    to answer; `on_quarantine(why)` once, when no further start follows, or none but for its watch: `has_locked` tells whether it
    has a watch to keep. `eager`: it is started without being needed.
    """

    def __init__(
        self,
        plugin_id: str,
        spawn: Spawn,
        handle: Handler,
        notified: Notified,
        introduce: Callable[[], dict[str, Any]],
        output: PluginLog,
        *,
        may_start: asyncio.Event,
        on_up: Callable[[dict[str, Any]], None],
        on_down: Callable[[], None],
        on_quarantine: Callable[[str], None],
        has_locked: Callable[[], Awaitable[bool]] = _nothing_locked,
        eager: bool = True,
        clock: Callable[[], float] = time.time,
        back_off: tuple[float, ...] = BACK_OFF,
        on_watch: tuple[float, ...] = ON_WATCH,
    ) -> None:
        self.plugin_id = plugin_id
        self.status = Status.STOPPED
        self.why = ""
        self._spawn = spawn
        self._handle = handle
        self._notified = notified
        self._introduce = introduce
        self._output = output
        self._may_start = may_start
        self._on_up, self._on_down, self._on_quarantine = on_up, on_down, on_quarantine
        self._has_locked = has_locked
        self._crashes = Crashes(back_off, on_watch, clock)
        self.starts = 0  # processes since the daemon began
        self.watches_only = False  # quarantined, but for its watch
        self._unfit = ""
        self._channel: Channel | None = None
        self._process: PluginProcess | None = None
        self._changed = asyncio.Event()
        self._stop = asyncio.Event()
        self._needed = asyncio.Event()
        if eager:
            self._needed.set()

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return None if self._process is None else self._process.pid

    @property
    def process(self) -> PluginProcess | None:
        """The process, while there is one."""
        return self._process

    @property
    def is_over(self) -> bool:
        """Tell whether it never starts again: its files were found changed, or it was stopped."""
        return bool(self._unfit) or self._stop.is_set()

    @property
    def waits_for_unlock(self) -> bool:
        """Tell whether nothing starts it before the first unlock."""
        return not self._may_start.is_set()

    @property
    def live(self) -> Channel | None:
        """What `channel` would return at once; None where it has to wait, or would refuse."""
        channel = self._channel
        return None if channel is None or channel.ended is not None or self.watches_only else channel

    async def channel(self, *, watch: bool = False) -> Channel:
        """Return the channel of the running plugin, once it runs; starts it. Raises PluginUnavailable when it will not.

        `watch`: for what belongs to its watch, which goes on in quarantine while it has funds locked.
        """
        self._needed.set()
        while True:
            if self.watches_only and not watch:
                raise PluginUnavailable(
                    self.plugin_id, f"is quarantined; `l2proxy plugin info {self.plugin_id}` says why"
                )
            if self._channel is not None and self._channel.ended is None:
                return self._channel
            if self.status in (Status.QUARANTINED, Status.DISABLED, Status.STOPPING):
                hint = f"is {self.status.value}; `l2proxy plugin info {self.plugin_id}` says why"  # the caller may not
                raise PluginUnavailable(self.plugin_id, hint)
            if self._stop.is_set():  # it is never started again: an update or the end of the daemon took its place
                raise PluginUnavailable(self.plugin_id, "was stopped before it could be asked; ask again")
            await self._changed.wait()

    async def run(self) -> None:
        """Start, watch and restart the process until `stop` or quarantine."""
        while not self._stop.is_set():
            if not self._may_start.is_set():
                self._become(Status.LOCKED, "waits for `l2proxy unlock`")
                await either(self._may_start, self._stop)
                continue
            if not self._needed.is_set():
                await either(self._needed, self._stop)
                continue
            try:
                why = await self._live()
            except StorageError as error:
                await self._wait_for_disk(f"waits for the disk: {error}")
                continue
            except NotAsInstalled as error:
                self._unfit = why = str(error)
            except Unsandboxed as error:
                self.disable(f"it would run without a sandbox: {error}; `--allow-unsandboxed {self.plugin_id}` lets it")
                self._output.host(f"the plugin does not run: {self.why}")
                return
            if self._stop.is_set():
                break
            if self._unfit:
                self.disable(self._unfit)
                self._on_quarantine(self.why)
                return
            if not await self._after_crash(why):
                return
        self._become(Status.STOPPED)

    async def stop(self) -> None:
        """Ask it to stop and wait until it has; `run` returns. Safe at any time."""
        self._stop.set()
        while self.status not in (Status.STOPPED, Status.QUARANTINED, Status.DISABLED):
            await self._changed.wait()

    def kill(self, why: str) -> None:
        """End the process at once as if it had crashed."""
        if self._channel is not None:
            self._channel.end(why)
        if self._process is not None:
            self._process.kill()

    def refuse(self, why: str) -> None:
        """End the running process for good: its files are not what the owner agreed to any more."""
        self._unfit = why
        self.kill(why)

    def disable(self, why: str) -> None:
        """Refuse everything from now on: the plugin's files are not what the owner agreed to."""
        self._become(Status.DISABLED, why)

    def _become(self, status: Status, why: str = "") -> None:
        self.status, self.why = status, why
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _after_crash(self, why: str) -> bool:
        self._output.host(f"the plugin {why}")
        self._crashes.add()
        if not self.watches_only and self._crashes.too_many:
            reason = f"{CRASHES} crashes in ten minutes, the last: {why}"
            self.watches_only = self._crashes.on_watch = await self._has_locked()
            if not self.watches_only:
                self._become(Status.QUARANTINED, reason)
                self._on_quarantine(self.why)
                return False
            why = f"{reason}; it has funds locked on L1, so its watch goes on"
            self._on_quarantine(why)
        self._become(Status.CRASHED, why)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._crashes.pause()):
                await self._stop.wait()
        return True

    async def _wait_for_disk(self, why: str) -> None:
        """Wait before the next start; that the disk is full is no crash of the plugin's."""
        self._output.host(f"the plugin {why}")
        self._become(Status.CRASHED, why)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DISK_AGAIN):
                await self._stop.wait()

    async def _live(self) -> str:
        """Run one process from start to end; return why it ended."""
        self._become(Status.STARTING, self.why if self.watches_only else "")
        self.starts += 1
        try:
            self._process = process = await self._spawn()
        except OSError as error:
            return f"cannot be started: {error.strerror}"
        channel = Channel(process.stdout, process.stdin, self._handle, self._notified)
        serving = asyncio.create_task(channel.serve())
        printing = asyncio.create_task(copy_printed(process.stderr, self._output.stderr))
        ending = asyncio.create_task(process.wait())
        try:
            return await self._serve(channel, process, serving, ending)
        finally:
            self._channel = None
            channel.end("was stopped")
            process.kill()
            await settle(serving, printing, ending)
            process.close()
            self._process = None

    async def _serve(
        self,
        channel: Channel,
        process: PluginProcess,
        serving: asyncio.Task[str],
        ending: asyncio.Task[str],
    ) -> str:
        starting = asyncio.create_task(self._begin(channel))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({starting, serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done() and not serving.done():
                if (failure := starting.result()) is not None:
                    return failure
                await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                return await how_it_ended(serving.result(), ending, process, STOP_DEADLINE)
            await self._finish(channel, process)
            return "was stopped"
        finally:
            if self._channel is not None:
                self._channel = None
                self._on_down()
            for task in (starting, stopping):
                task.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)

    async def _begin(self, channel: Channel) -> str | None:
        """Introduce the proxy to the plugin; return what went wrong."""
        try:
            async with asyncio.timeout(START_DEADLINE):
                answer = await channel.request("start", self._introduce())
        except TimeoutError:
            return f"did not answer start within {START_DEADLINE:g} s"
        except AnsweredError as error:
            return f"failed to start: {error.message[:200]}"
        except ChannelEnded as error:
            return str(error)
        if not isinstance(answer, dict):
            return "answered start with something that is no object"
        self._channel = channel
        self._become(Status.RUNNING, self.why if self.watches_only else "")
        self._on_up(answer)
        return None

    async def _finish(self, channel: Channel, process: PluginProcess) -> None:
        self._become(Status.STOPPING)
        try:
            async with asyncio.timeout(STOP_DEADLINE):
                await channel.request("stop", {})
        except (TimeoutError, AnsweredError, ChannelEnded) as error:
            self._output.host(f"stop was not answered well: {str(error)[:200] or 'too late'}")
        await process.finish()
