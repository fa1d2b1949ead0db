"""What was approved and is in doubt: asked again before anything more of it is signed (hardening.md 13).

After a restored backup, for a store that is not known to be the newest, after another version of the plugin: what the owner
agreed to then may have been done since, or would be done by other code now. Until a plugin's store was looked at after the
start nothing of it is signed. Kept in memory: whoever doubts says so again at the next start.
"""

from __future__ import annotations

from collections.abc import Callable

from proxy.host.installed import InstalledPlugin
from proxy.host.operation_records import Operation

RESTORED = "restored: {}; what is asked here may have been sent already: look at the account's transactions first"
OTHER_CODE = "plugin_code: another version of the plugin runs than the one that asked for this"


class Doubts:
    """Knows whose stores were not looked at yet, and which operations have to be asked again, and why."""

    def __init__(self, installed: Callable[[str], InstalledPlugin | None]) -> None:
        self._installed = installed
        self._unlooked: set[str] = set()
        self._doubted: dict[str, str] = {}

    def hold(self, plugin_id: str) -> None:
        """Have a plugin's operations wait until its store was looked at."""
        self._unlooked.add(plugin_id)

    def is_of_other_code(self, operation: Operation) -> bool:
        """Tell whether another version of the plugin stands there than the one that asked."""
        plugin = self._installed(operation.plugin)
        return plugin is not None and plugin.enabled and plugin.digest != operation.code

    def looked(self, plugin_id: str) -> None:
        """The store was looked at."""
        self._unlooked.discard(plugin_id)

    def add(self, operation: Operation, warning: str) -> None:
        """Have an operation asked again before it signs anything more."""
        if not operation.over:
            self._doubted[operation.id] = warning

    def holds(self, operation: Operation) -> bool:
        """Tell whether it has to wait; a plugin that is not hosted is not looked at, and refused by its rights."""
        if operation.plugin not in self._unlooked:
            return False
        plugin = self._installed(operation.plugin)
        return plugin is not None and plugin.enabled

    def take(self, operation: Operation) -> str:
        """Return why it has to be asked again, empty: it has not; said once."""
        return self._doubted.pop(operation.id, "")

    def adopt(self, operation: Operation, warning: str) -> None:
        """Bind an operation that is asked again for other code to that code."""
        plugin = self._installed(operation.plugin)
        if warning == OTHER_CODE and plugin is not None:
            operation.code = plugin.digest
