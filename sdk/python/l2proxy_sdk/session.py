"""What the proxy asks, dispatched to the plugin object: start, invoke, getLayer2State, deliveries, lock, stop.

Stands between the channel and the author's class. It must never let a traceback, a path or a local value out: a caller
gets the author's ActionError, the proxy's own refusal, or one plain sentence; the cause goes to the plugin's log.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

from . import failures, values
from .actions import Call
from .errors import ActionError, ChannelClosed, HostError, NotReady, ValueMismatch
from .host import Host, serving
from .peer import FAILED, Failure, Lines, Peer, Writer
from .plugin import Plugin
from .records import Operation, StartInfo


class Session:
    """One plugin object on one channel, from `start` to `stop`."""

    def __init__(self, plugin: Plugin, lines: Lines, writer: Writer) -> None:
        self.plugin = plugin
        self.peer = Peer(lines, writer, self._handle)
        self.host = Host(self.peer)
        self.stopped = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        plugin.attach(self.host)
        self._methods: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
            "start": self._start,
            "invoke": self._invoke,
            "getLayer2State": self._get_layer2_state,
            "block": self._block,
            "reorg": self._reorg,
            "logs": self._logs,
            "hub": self._hub,
            "operation": self._operation,
            "scheduled": self._scheduled,
            "lock": self._lock,
            "unlock": self._unlock,
            "stop": self._stop,
        }

    async def run(self) -> None:
        """Serve until the proxy closes the channel or `stop` was answered."""
        serving_task = asyncio.create_task(self.peer.serve())
        stopping = asyncio.create_task(self.stopped.wait())
        try:
            await asyncio.wait({serving_task, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if serving_task.done():
                await serving_task
        finally:
            for task in (serving_task, stopping, *self._background):
                task.cancel()
            await asyncio.gather(serving_task, stopping, *self._background, return_exceptions=True)

    async def _handle(self, method: str, params: dict[str, Any]) -> Any:
        handler = self._methods.get(method)
        if handler is None:
            raise Failure({"code": -32601, "message": f"no method {method}"})
        try:
            return await handler(params)
        except ActionError as error:
            raise Failure(_shown(error)) from None
        except HostError as error:
            raise Failure({"code": error.code, "message": error.message}) from None
        except NotReady:
            message = "the plugin is still reading the newest state from its hub and L1; try again"
            raise Failure({"code": -32603, "message": message, "spent": False}) from None
        except ChannelClosed:
            raise Failure(FAILED) from None
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # the channel ends, and this with it
            failures.show(error)  # the author awaited something that was cancelled
            raise Failure(FAILED) from None
        except Exception as error:  # noqa: BLE001 - the author's code may raise anything; it is logged, the caller gets one sentence
            failures.show(error)
            raise Failure(FAILED) from None

    async def _start(self, params: dict[str, Any]) -> dict[str, Any]:
        info = StartInfo.from_wire(params)
        self.plugin.introduce(info)
        await self.plugin.start(info)
        if type(self.plugin).start is Plugin.start:  # it has nothing to resynchronise
            self._later(self.host.ready())
        return {"actions": self.plugin.actions()}

    async def _invoke(self, params: dict[str, Any]) -> Any:
        name = params.get("action")
        action = self.plugin.declared_actions().get(name) if isinstance(name, str) else None
        if action is None:
            raise ActionError(-32602, f"the plugin has no action {name}", spent=False)
        try:
            arguments = values.decode_fields(action.params, params.get("params") or {}, action.name)
        except ValueMismatch as error:
            raise ActionError(-32602, str(error), spent=False) from None
        call = str(params.get("call", ""))
        if action.call_param is not None:
            deadline, key = params.get("deadline"), params.get("idempotencyKey")
            until = float(values.quantity(deadline)) if isinstance(deadline, str) else float(deadline or 0)
            arguments[action.call_param] = Call(call, str(params.get("origin", "")), until, key)
        with serving(call):
            result = await getattr(self.plugin, action.name)(**arguments)
        if not action.returns:
            if result is not None:
                raise ValueMismatch(f"{action.name} result", "None, since it declares no returns", result)
            return None
        return values.encode_fields(action.returns, result, f"{action.name} result")

    async def _get_layer2_state(self, params: dict[str, Any]) -> Any:
        return await self.plugin.get_layer2_state(params.get("path"), str(params.get("origin", "")))

    async def _block(self, params: dict[str, Any]) -> dict[str, Any]:
        number, timestamp = values.quantity(params["number"]), values.quantity(params["timestamp"])
        await self.plugin.on_block(number, params["hash"], timestamp)
        return {}

    async def _reorg(self, params: dict[str, Any]) -> dict[str, Any]:
        await self.plugin.on_reorg(_number(params["from"]), _number(params["to"]))
        return {}

    async def _logs(self, params: dict[str, Any]) -> dict[str, Any]:
        await self.plugin.on_logs(str(params["watch"]), params["logs"], bool(params.get("removed", False)))
        return {}

    async def _hub(self, params: dict[str, Any]) -> dict[str, Any]:
        event = params["event"]
        if event == "open":
            await self.plugin.on_hub_open()
        elif event == "close":
            await self.plugin.on_hub_close(params.get("code"), params.get("reason"))
        elif "base64" in params:
            await self.plugin.on_hub_message(base64.b64decode(params["base64"]))
        else:
            await self.plugin.on_hub_message(params["text"])
        return {}

    async def _operation(self, params: dict[str, Any]) -> dict[str, Any]:
        await self.plugin.on_operation(Operation.from_wire(params))
        return {}

    async def _scheduled(self, params: dict[str, Any]) -> dict[str, Any]:
        await self.plugin.on_scheduled(str(params["id"]), params.get("data"), bool(params.get("missed", False)))
        return {}

    async def _lock(self, _params: dict[str, Any]) -> dict[str, Any]:
        await self.plugin.on_lock()
        return {}

    async def _unlock(self, _params: dict[str, Any]) -> dict[str, Any]:
        await self.plugin.on_unlock()
        return {}

    async def _stop(self, _params: dict[str, Any]) -> dict[str, Any]:
        await self.plugin.stop()
        asyncio.get_running_loop().call_soon(self.stopped.set)  # after the answer is written
        return {}

    def _later(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        task = asyncio.create_task(run())
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _shown(error: ActionError) -> dict[str, Any]:
    shown: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.data is not None:
        shown["data"] = error.data
    if not error.spent:
        shown["spent"] = False
    return shown


def _number(place: Any) -> int:
    """Return the block number of a number or of `{number, hash}`."""
    return values.quantity(place["number"] if isinstance(place, dict) else place)
