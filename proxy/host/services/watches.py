"""`layer1.watch` and `layer1.unwatch`: what happens on L1, told without a gap (plugin.md).

The rows of the host's table and the life of the watches; how one follows the chain stands in `watching`. A watch and its
place in the chain are on disk: after any stop it goes on where the plugin last answered.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Coroutine, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from middleware.errors import Disconnected, InvalidParams, LimitExceeded
from proxy.host.abi_values import check_address, check_integer
from proxy.host.background import Background
from proxy.host.deliveries import Deliveries
from proxy.host.ports import L1
from proxy.host.provider import Asker, HostMethod, Params
from proxy.host.services.store_turns import Turns
from proxy.host.services.watching import Told, Watch, WatchRecord
from proxy.storage import Batch, Space, StorageError

MAX_WATCHES = 64
MAX_NAME = 64
MAX_ADDRESSES = 256
MAX_ALTERNATIVES = 64  # of one topic

_NAME = re.compile(r"[\x21-\x7e]{1,64}")


class LogFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As `eth_getLogs` takes it, without a range."""

    address: str | list[str] | None = None
    topics: list[str | list[str] | None] = msgspec.field(default_factory=list)


class WatchParams(Params, frozen=True, kw_only=True):
    """Blocks, logs or both; `from`: the first block of interest, absent: from the next one on."""

    name: str
    blocks: bool = False
    logs: LogFilter | None = None
    confirmations: Annotated[int, Meta(ge=0, le=10_000)] = 0
    from_: Any = msgspec.field(name="from", default=None)


class Unwatch(Params, frozen=True, kw_only=True):
    """The name given to `layer1.watch`."""

    name: str


class Watches:
    """The watches of one plugin, written in its turns."""

    def __init__(
        self,
        plugin_id: str,
        space: Space,
        turns: Turns,
        l1: L1,
        deliveries: Deliveries,
        background: Background,
    ) -> None:
        self._plugin_id = plugin_id
        self._space = space
        self._turns = turns
        self._l1 = l1
        self._deliveries = deliveries
        self._background = background
        self._running: dict[str, tuple[Watch, asyncio.Task[None]]] = {}
        self._changing = asyncio.Lock()

    def methods(self) -> Mapping[str, HostMethod]:
        """Return the rows of the host's table."""
        return {
            "layer1.watch": HostMethod("layer1", WatchParams, self.watch),
            "layer1.unwatch": HostMethod("layer1", Unwatch, self.unwatch),
        }

    def resume(self) -> None:
        """Go on with every watch on disk."""
        for key, value in list(self._space.scan(b"w")):
            name, record = key[1:].decode(), msgspec.json.decode(value, type=WatchRecord)
            if record.told:  # they lay in the record once
                self._space.database.commit(self._rows(name, record, record.told, []))
            rows = [msgspec.json.decode(row, type=Told) for _, row in self._space.scan(_told_key(name))]
            self._follow(name, msgspec.structs.replace(record, told=rows))

    def poke(self) -> None:
        """Look again: the head has changed."""
        for watch, _ in self._running.values():
            watch.poke()

    async def watch(self, params: WatchParams, _: Asker) -> dict[str, Any]:
        """Set a watch. The same one again goes on where it is; another under its name replaces it."""
        await self._to_its_end(self._set(params.name, self._record(params)))
        return {}

    async def unwatch(self, params: Unwatch, _: Asker) -> dict[str, Any]:
        """End a watch; one that is not there is no error."""
        await self._to_its_end(self._set(params.name, None))
        return {}

    async def _to_its_end(self, change: Coroutine[Any, Any, Exception | None]) -> None:
        """Do it also when its asker goes: what runs and what is on disk must not part."""
        error = await asyncio.shield(self._background.start(change, f"a change of the watches of {self._plugin_id}"))
        if error is not None:
            raise error

    async def _set(self, name: str, record: WatchRecord | None) -> Exception | None:
        """Return why it was not done."""
        async with self._changing:
            present = self._running.get(name)
            if present is None and record is None:
                return None
            if present is not None and record is not None and present[0].record.same_as(record):
                return None
            if present is None and len(self._running) >= MAX_WATCHES:
                return LimitExceeded("watches", f"a plugin has at most {MAX_WATCHES} watches")
            if present is not None:
                self._end(name, *present)
            try:
                await self._turns.read(lambda: self._replace(name, record))
            except StorageError as error:
                if present is not None:  # it stands as it did
                    self._follow(name, present[0].record)
                return error
            if record is not None:
                self._follow(name, record)
            return None

    def _record(self, params: WatchParams) -> WatchRecord:
        if _NAME.fullmatch(params.name) is None:
            raise InvalidParams("name", f"1 to {MAX_NAME} printable ASCII characters", params.name)
        if not params.blocks and params.logs is None:
            raise InvalidParams("params", "blocks, logs or both", "neither")
        asked = None if params.from_ is None else check_integer(params.from_, "from", "uint64")
        if asked is None:
            head = self._l1.blocks.head
            if head is None:
                raise Disconnected("no L1 block is known yet; name the block with `from`")
            begin = head.number + 1 - params.confirmations
        else:
            begin = asked
        logs = None if params.logs is None else _filter(params.logs)
        return WatchRecord(params.blocks, logs, params.confirmations, asked, max(0, begin), [], max(0, begin))

    def _follow(self, name: str, record: WatchRecord) -> None:
        watch = Watch(name, record, self._l1, self._deliveries, functools.partial(self._save, name))
        task = self._background.start(watch.run(), f"watch {name} of {self._plugin_id}")
        self._running[name] = (watch, task)

    async def _save(self, name: str, record: WatchRecord, told: list[Told], gone: list[int]) -> None:
        await self._turns.write(self._rows(name, record, told, gone))

    def _rows(self, name: str, record: WatchRecord, told: list[Told], gone: list[int]) -> Batch:
        put = {_told_key(name, block.number): msgspec.json.encode(block) for block in told}
        put[_key(name)] = msgspec.json.encode(msgspec.structs.replace(record, told=[]))
        return self._space.batch(put, [_told_key(name, number) for number in gone])

    def _replace(self, name: str, record: WatchRecord | None) -> None:
        """Write a new watch, or none, in the place of the one before and of all it was told; in the thread of the turns."""
        put = {} if record is None else {_key(name): msgspec.json.encode(record)}
        self._space.write(put, [_key(name), *(key for key, _ in self._space.scan(_told_key(name)))])

    def _end(self, name: str, watch: Watch, task: asyncio.Task[None]) -> None:
        """Let it write nothing any more: what it wrote before has its turn before what follows."""
        del self._running[name]
        watch.ended = True
        if not watch.telling:  # what is being told is left to be answered; nothing follows it
            task.cancel()


def _key(name: str) -> bytes:
    return b"w" + name.encode()


def _told_key(name: str, number: int | None = None) -> bytes:
    """Return the key of a block that was told, without `number` what all of them begin with."""
    return b"t" + name.encode() + b"\0" + (b"" if number is None else number.to_bytes(8, "big"))


def _filter(given: LogFilter) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if given.address is not None:
        rows = [given.address] if isinstance(given.address, str) else given.address
        if len(rows) > MAX_ADDRESSES:
            raise LimitExceeded("watch_addresses", f"a watch names at most {MAX_ADDRESSES} addresses")
        found["address"] = [check_address(row, f"logs.address[{index}]") for index, row in enumerate(rows)]
    if len(given.topics) > 4:
        raise InvalidParams("logs.topics", "at most 4 topics", f"{len(given.topics)}")
    found["topics"] = [_topic(topic, f"logs.topics[{index}]") for index, topic in enumerate(given.topics)]
    return found


def _topic(topic: str | list[str] | None, where: str) -> Any:
    if isinstance(topic, list):
        if len(topic) > MAX_ALTERNATIVES:
            raise LimitExceeded("watch_topics", f"a topic has at most {MAX_ALTERNATIVES} alternatives")
        return [_topic(row, where) for row in topic]
    if topic is not None and re.fullmatch(r"0x[0-9a-fA-F]{64}", topic, re.ASCII) is None:
        raise InvalidParams(where, "null, 32 bytes as 0x data, or a list of them", topic)
    return topic
