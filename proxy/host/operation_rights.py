"""May a plugin move money now, this way? Asked when it wishes, when the owner answers, and before each step is signed.

Between the wish and the signature a plugin may be removed, changed or disabled, a grant taken, a gateway moved, the wallet
locked; none of these may let anything through (hardening.md 18). Nothing is stored or sent here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from middleware.errors import Unauthorized
from proxy.host.installed import Gateway, InstalledPlugin
from proxy.host.operation_caps import refuse_over_cap
from proxy.host.operation_ports import Accounts
from proxy.host.operation_records import Operation, Step

OWN_KEY = 0
"""The index of the account below the plugin's path that pays for `send`."""


class Rights:
    """Knows what is installed and what is locked. `installed` returns a plugin as it is now, `records_of` its operations."""

    def __init__(
        self,
        installed: Callable[[str], InstalledPlugin | None],
        accounts: Accounts,
        records_of: Callable[[str], Iterable[Operation]],
    ) -> None:
        self._installed = installed
        self._accounts = accounts
        self._records_of = records_of

    @property
    def locked(self) -> bool:
        """Tell whether the main accounts cannot sign."""
        return self._accounts.locked

    def refuse(self, plugin: InstalledPlugin, kind: str) -> None:
        """Raise `Unauthorized` unless the plugin may ask for this kind of operation now."""
        if not plugin.enabled:
            raise Unauthorized(f"{plugin.id} is disabled: {plugin.why_disabled}")
        if kind == "transfer" and "transfer" not in plugin.grants:
            raise Unauthorized(f"{plugin.id} was not granted transfer", f"l2proxy plugin info {plugin.id}")
        if kind != "transfer" and "gateway" not in plugin.grants:
            raise Unauthorized(f"{plugin.id} was not granted its gateway", f"l2proxy plugin info {plugin.id}")
        if kind == "send":
            self._refuse_own_key(plugin)
            return
        if plugin.owner not in self._accounts.addresses():
            raise Unauthorized(f"{plugin.owner}, the owner of {plugin.id}, is no account of this wallet")
        if self.locked:
            raise Unauthorized("the accounts are locked", "l2proxy unlock")

    def check(self, operation: Operation) -> None:
        """Raise `Unauthorized` unless all that is still to be signed may be."""
        if operation.ending is not None:
            # What is left takes an allowance back: right also for a plugin that is gone.
            if operation.owner not in self._accounts.addresses():
                raise Unauthorized(f"{operation.owner} is no account of this wallet any more")
            if self.locked:
                raise Unauthorized("the accounts are locked", "l2proxy unlock")
            return
        self.refuse(self._plugin(operation), operation.kind)
        for step in operation.unsent():
            self.gateway_of(operation, step)
        self.refuse_over_cap(operation)

    def refuse_over_cap(self, operation: Operation) -> None:
        """Raise `Unauthorized` for more than the owner lets be inside the plugin's gateways (hardening.md 16)."""
        if caps := self._plugin(operation).caps:
            others = [one for one in self._records_of(operation.plugin) if one.id != operation.id]
            refuse_over_cap(operation, caps, others)

    def gateway_of(self, operation: Operation, step: Step) -> Gateway | None:
        """Return the gateway whose code an approval of the step counts for, None where it needs none.

        Raise `Unauthorized` where the plugin or its gateway is not what it was when it asked.
        """
        if step.gateway is None or operation.ending is not None:
            return None
        gateway = self.gateway_named(operation, step.gateway)
        place = step.args[0] if step.is_allowance and step.args else step.to
        if gateway.address != place:
            raise Unauthorized(f"the gateway {step.gateway} is not the approved one any more")
        return gateway

    def gateway_named(self, operation: Operation, name: str) -> Gateway:
        """Return a gateway of the operation's plugin. Raise `Unauthorized` where it is gone."""
        gateway = self._plugin(operation).gateway(name)
        if gateway is None:
            raise Unauthorized(f"the gateway {name} is not the approved one any more")
        return gateway

    def may_sign(self, operation: Operation) -> bool:
        """Tell whether the lock lets the operation's next step be signed now."""
        if not self.locked:
            return True
        plugin, step = self._installed(operation.plugin), operation.next_step()
        if operation.kind != "send" or plugin is None or step is None or step.gateway is None:
            return False
        gateway = plugin.gateway(step.gateway)
        watches = plugin.manifest.permissions.watch_while_locked
        return watches and gateway is not None and step.function in gateway.dispute

    def _plugin(self, operation: Operation) -> InstalledPlugin:
        plugin = self._installed(operation.plugin)
        if plugin is None or plugin.digest != operation.code or plugin.owner != operation.owner:
            raise Unauthorized(f"{operation.plugin} was removed or changed since it asked for this")
        return plugin

    def _refuse_own_key(self, plugin: InstalledPlugin) -> None:
        if not plugin.path or "keys" not in plugin.grants:
            raise Unauthorized(f"{plugin.id} has no own key to send with: it was not granted keys")
        if self.locked and not plugin.manifest.permissions.watch_while_locked:
            raise Unauthorized(
                f"the accounts are locked, and the manifest of {plugin.id} does not ask for watch_while_locked",
                "l2proxy unlock",
            )
