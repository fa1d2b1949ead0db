"""What the steps of a plan wait for: an event of a gateway, a number of blocks, or a time (rpc.md, "Operation", `waitFor`).

Read strictly when the plan is asked for; looked at again with every block. Counted from the block in which the step before
was mined, so that a restart changes nothing; an event counts once it is as deep as a confirmed transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from middleware.errors import InvalidParams, Unauthorized
from middleware.questions import digest_of
from proxy.host.abi_values import check, check_integer, to_wire
from proxy.host.gateway_abi import find_event, find_function
from proxy.host.gateway_logs import arguments_of, is_plain, topic_of
from proxy.host.installed import Gateway, InstalledPlugin
from proxy.host.operation_ports import L1
from proxy.host.operation_records import Step

MAX_BLOCKS = 10_000_000
MAX_TIME = 1 << 40
SPAN = 10_000  # blocks whose logs are asked for at once

_KINDS = ("event", "blocks", "time")


def read_wait(plugin: InstalledPlugin, given: Any) -> dict[str, Any]:
    """Return a `waitFor` in the one form we write: `{event: {gateway, name, args}}`, `{blocks}` or `{time}`.

    Raise `InvalidParams`, or `Unauthorized` for a gateway that is not the plugin's.
    """
    if not isinstance(given, dict) or len(given) != 1 or next(iter(given)) not in _KINDS:
        raise InvalidParams("waitFor", "one of {event: {gateway, name, args}}, {blocks: N}, {time: T}", given)
    if "blocks" in given:
        return {"blocks": hex(_within(given["blocks"], "waitFor.blocks", MAX_BLOCKS))}
    if "time" in given:
        return {"time": _within(given["time"], "waitFor.time", MAX_TIME)}
    return {"event": _event(plugin, given["event"])}


class Waits:
    """Looks whether a wait is over. `confirmations`: blocks until final; `clock`: unix seconds."""

    def __init__(self, l1: L1, confirmations: Callable[[], int], clock: Callable[[], float]) -> None:
        self._l1, self._confirmations, self._clock = l1, confirmations, clock
        self._read: dict[str, int] = {}  # by event waited for: the first confirmed block whose logs were not read yet

    async def head(self) -> int:
        """Return the number of the newest block."""
        return int(await self._l1.call("eth_blockNumber"), 16)

    async def is_over(self, step: Step, gateway: Gateway | None) -> dict[str, Any] | None:
        """Return what was waited for as arguments by name (`{}`: it has none), None while it has not happened.

        `gateway`: that of the event. Raise `Disconnected`, or the node's error.
        """
        wait, since = step.wait or {}, step.wait_from or 0
        if "blocks" in wait:
            return {} if await self.head() >= since + int(wait["blocks"], 16) else None
        if "time" in wait:
            return {} if await self._is_past(int(wait["time"])) else None
        if gateway is None:
            raise Unauthorized(f"the gateway {wait['event']['gateway']} is not approved any more")
        return await self._happened(wait["event"], gateway, since)

    async def _is_past(self, moment: int) -> bool:
        if self._l1.is_dev and self._clock() >= moment:
            return True  # a developer's node makes no block until it is given a transaction
        block = await self._l1.call("eth_getBlockByNumber", "latest", False)
        return int(block["timestamp"], 16) >= moment

    async def _happened(self, wanted: dict[str, Any], gateway: Gateway, since: int) -> dict[str, Any] | None:
        entry = find_event(gateway.abi, wanted["name"])
        if entry is None:
            raise Unauthorized(f"the gateway's ABI has no event {wanted['name']}")
        final = await self.head() - self._confirmations() + 1
        key = digest_of([gateway.address, since, wanted])
        unread = self._read.get(key, since)
        for start in range(unread if unread <= final + 1 else since, final + 1, SPAN):
            until = min(start + SPAN - 1, final)
            request = {"address": gateway.address, "topics": [topic_of(entry)]}
            request |= {"fromBlock": hex(start), "toBlock": hex(until)}
            for row in await self._l1.call("eth_getLogs", request):
                found = arguments_of(entry["inputs"], row)
                if found is not None and all(found.get(name) == value for name, value in wanted["args"].items()):
                    return found
            self._read[key] = until + 1
        return None


def arguments_from(step: Step, gateway: Gateway, happened: dict[str, Any]) -> dict[str, Any] | None:
    """Return a call's arguments where the event it waited for has one of each name, None otherwise."""
    entry = find_function(gateway.abi, step.function or "")
    names = [declared.get("name") for declared in entry["inputs"]] if entry is not None else []
    if not names or not all(name and name in happened for name in names):
        return None
    return {name: happened[name] for name in names if name}


def _event(plugin: InstalledPlugin, given: Any) -> dict[str, Any]:
    if not isinstance(given, dict) or not {"name"} <= set(given) <= {"gateway", "name", "args"}:
        raise InvalidParams("waitFor.event", "an object of gateway, name and args", given)
    name, wanted = given["name"], given.get("args") or {}
    gateway = plugin.gateway(given.get("gateway")) if isinstance(given.get("gateway"), str | None) else None
    if gateway is None:
        raise Unauthorized(f"{plugin.id} has no gateway of the name waitFor.event gives")
    entry = find_event(gateway.abi, name) if isinstance(name, str) else None
    if entry is None:
        raise InvalidParams("waitFor.event.name", f"an event of gateway {gateway.name}", name)
    if not isinstance(wanted, dict):
        raise InvalidParams("waitFor.event.args", "an object of values by name", wanted)
    plain = {declared["name"]: declared for declared in entry["inputs"] if declared.get("name") and is_plain(declared)}
    args = {}
    for argument, value in wanted.items():
        where = f"waitFor.event.args.{str(argument)[:64]}"
        if argument not in plain:
            raise InvalidParams(where, f"one of {', '.join(plain) or 'none'}", argument)
        args[argument] = to_wire(plain[argument], check(plain[argument], value, where))
    return {"gateway": gateway.name, "name": name, "args": args}


def _within(value: Any, where: str, most: int) -> int:
    number = check_integer(value, where)
    if not 1 <= number <= most:
        raise InvalidParams(where, f"1 to {most}", value)
    return number
