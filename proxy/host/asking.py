"""What a running plugin is asked for sites: an action, and its state as one origin sees it.

Between `plugins`, which knows all of them, and the channel of one. Permission was decided before; what may have changed while a call
waited is checked again when its turn comes (hardening.md 18).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

from middleware.errors import InvalidParams, PluginFailed, PluginTimeout, PluginUnavailable, RpcError, Unauthorized
from middleware.invocation import Invocation
from middleware.waist import Origin
from proxy.host.abi_values import check_fields
from proxy.host.background import Background
from proxy.host.channel import AnsweredError, Channel, ChannelEnded
from proxy.host.failures import failed
from proxy.host.hosting import Hosted
from proxy.host.installed import ActionSpec
from proxy.host.late_answers import LateAnswers
from proxy.host.ports import Ports
from proxy.host.state import Published, States, resolve, view

STATE_SECONDS = 30.0


class Asking:
    """Asks hosted plugins. `clock` is wall time, for deadlines."""

    def __init__(self, ports: Ports, states: States, background: Background, clock: Callable[[], float]) -> None:
        self._ports, self._states, self._clock = ports, states, clock
        self.late = LateAnswers(background)

    async def invoke(
        self, hosted: Hosted, spec: ActionSpec, params: dict[str, Any], origin: Origin, key: str | None
    ) -> dict[str, Any] | None:
        """Return the declared results of an action by name; raises as `Plugins.invoke`."""
        plugin_id, action = spec.plugin, spec.name
        hosted.invokes += 1
        try:
            call = hosted.calls.at_once(origin)
            if call is None:
                call = await hosted.calls.begin(origin, lambda: self._still_may(origin, plugin_id, action))
            try:
                await hosted.check_files()
                channel = hosted.life.live or await self._channel(hosted)
                asked = {
                    "call": call.id,
                    "action": action,
                    "params": params,
                    "origin": str(origin),
                    "deadline": int(self._clock() + self._ports.limits.plugin_call),
                }
                if key is None:
                    return await _concluded(hosted, spec, channel.request("invoke", asked, call.time))
                asked["idempotencyKey"] = key
                invocation = Invocation(plugin_id, action, params, key)
                concluded = functools.partial(_concluded, hosted, spec)
                return await self.late.ask(channel, asked, call.time, origin, invocation, concluded)
            finally:
                hosted.calls.end(call)
        except RpcError:
            hosted.errors += 1
            raise

    async def get_state(self, hosted: Hosted, path: str | None, fresh: bool, origin: Origin) -> dict[str, Any]:
        """Return `{plugin, revision, block, state}` as this origin sees it; `path` is a JSON Pointer.

        With `fresh`, or before anything was published, the plugin is asked and its answer published to this origin;
        null says that what it published holds, perhaps in a life before this one.
        """
        plugin_id = hosted.plugin.id
        resolve({}, path)
        published = self._states.get(plugin_id)
        if fresh or published is None or not published.known_to(origin):
            published = await self._asked_state(hosted, origin)
        state = resolve(view(published, origin), path)
        return {"plugin": plugin_id, "revision": hex(published.revision), "block": hex(published.block), "state": state}

    async def _channel(self, hosted: Hosted) -> Channel:
        if hosted.life.waits_for_unlock:  # nobody knows when that comes: the caller is not kept until it gives up
            raise Unauthorized("the wallet is locked", "l2proxy unlock")
        seconds = self._ports.limits.plugin_call
        try:
            async with asyncio.timeout(seconds):
                return await hosted.life.channel()
        except TimeoutError:
            why = f"is {hosted.life.status.value}"
            raise PluginUnavailable(hosted.plugin.id, f"{why} and did not begin to answer in {seconds:g} s") from None

    async def _asked_state(self, hosted: Hosted, origin: Origin) -> Published:
        plugin_id = hosted.plugin.id
        channel = await self._channel(hosted)
        try:
            async with asyncio.timeout(STATE_SECONDS):
                state = await channel.request("getLayer2State", {"origin": str(origin)})
        except TimeoutError:
            raise PluginTimeout(plugin_id, STATE_SECONDS) from None
        except AnsweredError as error:
            raise failed(plugin_id, error) from None
        except ChannelEnded as error:
            raise PluginUnavailable(plugin_id, f"crashed while it was asked: it {error}") from None
        head = self._ports.l1.blocks.head
        try:
            block = 0 if head is None else head.number
            return await self._states.answered(plugin_id, origin, block, hosted.store.turns, state)
        except InvalidParams as error:
            raise _unfit(hosted, "what getLayer2State returned is no state", error) from None

    def _still_may(self, origin: Origin, plugin_id: str, action: str) -> None:
        if self._ports.signer.locked:
            raise Unauthorized("the wallet is locked", "l2proxy unlock")
        if not self._ports.permissions.may_invoke(origin, plugin_id, action):
            raise Unauthorized(f"{origin} may no longer invoke this action")


async def _concluded(hosted: Hosted, spec: ActionSpec, answer: Awaitable[Any]) -> dict[str, Any] | None:
    """Return the declared results of an invoke that was asked; raise what its caller hears."""
    plugin_id = hosted.plugin.id
    try:
        return _result(spec, await answer)
    except AnsweredError as error:
        raise failed(plugin_id, error) from None
    except ChannelEnded as error:
        raise PluginUnavailable(plugin_id, f"crashed while it was asked: it {error}", "unknown") from None
    except InvalidParams as error:
        raise _unfit(hosted, f"what {spec.name} returned is not what it declares", error) from None


def _result(spec: ActionSpec, answer: Any) -> dict[str, Any] | None:
    """Return the answer in canonical form; raise InvalidParams when it is not what the manifest declares."""
    if not spec.returns:
        return None
    return check_fields(spec.returns, answer if isinstance(answer, dict) else "nothing of it", "result")


def _unfit(hosted: Hosted, what: str, error: InvalidParams) -> PluginFailed:
    """Tell the author in the log what is wrong with an answer; return what the site hears of it: that something is."""
    hosted.blame(f"{what}: {error.message}")
    return PluginFailed(hosted.plugin.id, -32603, f"{what}: see `l2proxy plugin logs {hosted.plugin.id}`")
