"""What subscriptions need of the services behind them; `app` hands in the real ones (architecture.md, "Who may import whom")."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from middleware.waist import Origin


class L1(Protocol):
    """Where L1 subscriptions come from."""

    async def subscribe(
        self, params: list[Any], deliver: Callable[[msgspec.Raw], None]
    ) -> Callable[[], Awaitable[None]]:
        """Hand results to `deliver`; return how to stop."""


class Permissions(Protocol):
    """What origins hold."""

    def is_connected(self, origin: Origin) -> bool:
        """Tell whether `origin` is no page, or one the owner connected."""

    def may_read_state(self, origin: Origin, plugin: str) -> bool:
        """Tell whether `origin` may read what this plugin publishes."""

    def accounts(self, origin: Origin) -> tuple[str, ...]:
        """Return the accounts `origin` may see."""

    def on_revoked(self, callback: Callable[[Origin], None]) -> None:
        """Call back after anything was taken from an origin."""


class States(Protocol):
    """What plugins publish."""

    async def get_state(self, plugin_id: str, path: str | None, fresh: bool, origin: Origin) -> dict[str, Any]:
        """Return the l2_getState object as `origin` sees it."""

    def on_state_change(self, callback: Callable[[str, int, Origin | None], None]) -> None:
        """Call back with (plugin, revision, origin or None for all) after each publication."""


class Operations(Protocol):
    """Deposits and withdrawals."""

    def get(
        self, plugin_id: str, operation_id: str | None = None, /, origin: Origin | None = None
    ) -> list[dict[str, Any]]:
        """Return the operations as `origin` sees them."""

    def on_change(self, callback: Callable[[str, dict[str, Any]], None]) -> None:
        """Call back with (plugin, operation) after each change."""
