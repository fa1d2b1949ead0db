"""What the wallet needs of the L1 node; `upstream` has it, `app` hands it over."""

from __future__ import annotations

from typing import Any, Protocol


class L1(Protocol):
    """The pinned node."""

    @property
    def chain_id(self) -> int:
        """The chain id."""

    async def call(self, method: str, *params: Any) -> Any:
        """Return the decoded result; raise the node's error as `RpcError`, or `Disconnected`."""
