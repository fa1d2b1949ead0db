"""What an origin may hold, as data: capabilities with their caveats, as EIP-2255 objects and as they lie on disk.

Authority is the presence of a value: a grant names its plugins, actions and accounts one by one, nothing means "all"
(rpc.md, "Permissions"). Pure data; `permissions.py` keeps it, `requests.py` reads what origins ask for.
"""

from __future__ import annotations

from typing import Any

import msgspec

L2_INVOKE = "l2_invoke"
L2_GET_STATE = "l2_getState"
ETH_ACCOUNTS = "eth_accounts"
CAPABILITIES = (ETH_ACCOUNTS, L2_INVOKE, L2_GET_STATE)


class Budget(msgspec.Struct, frozen=True):
    """At most `amount` of `asset` ("ETH" in wei, or a token's address) within any `period` seconds."""

    asset: str
    amount: int
    period: int

    def to_json(self) -> dict[str, Any]:
        """Return the wire form: the amount as a quantity."""
        return {"asset": self.asset, "amount": hex(self.amount), "period": self.period}


class Invocations(msgspec.Struct, frozen=True):
    """What may be invoked of one plugin: actions by name, until `expires` (unix seconds, None: no end)."""

    actions: tuple[str, ...]
    budget: Budget | None = None
    expires: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the caveat's value for this plugin."""
        shown: dict[str, Any] = {"actions": list(self.actions)}
        if self.budget is not None:
            shown["budget"] = self.budget.to_json()
        if self.expires is not None:
            shown["expires"] = self.expires
        return shown


class Stamp(msgspec.Struct, frozen=True):
    """Identity and date (unix seconds) of one granted capability."""

    id: str
    date: int


class Holdings(msgspec.Struct, frozen=True):
    """Everything one origin holds; an empty part is a capability it does not hold."""

    accounts: tuple[str, ...] = ()
    invoke: dict[str, Invocations] = {}
    state: tuple[str, ...] = ()
    stamps: dict[str, Stamp] = {}

    def empty(self) -> bool:
        """Tell whether nothing is held."""
        return not (self.accounts or self.invoke or self.state)

    def capabilities(self) -> tuple[str, ...]:
        """Return the names of what is held."""
        held = {ETH_ACCOUNTS: self.accounts, L2_INVOKE: self.invoke, L2_GET_STATE: self.state}
        return tuple(name for name, value in held.items() if value)


def permission_objects(invoker: str, held: Holdings) -> list[dict[str, Any]]:
    """Return `held` as EIP-2255 permission objects of `invoker`."""
    caveats: dict[str, dict[str, Any]] = {
        ETH_ACCOUNTS: {"type": "restrictReturnedAccounts", "value": list(held.accounts)},
        L2_INVOKE: {"type": "plugins", "value": {plugin: held.invoke[plugin].to_json() for plugin in held.invoke}},
        L2_GET_STATE: {"type": "plugins", "value": list(held.state)},
    }
    return [
        {
            "id": held.stamps[name].id,
            "invoker": invoker,
            "parentCapability": name,
            "date": held.stamps[name].date,
            "caveats": [caveats[name]],
        }
        for name in held.capabilities()
    ]
