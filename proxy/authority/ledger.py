"""Amounts spent within a rolling window, for budgets and for rules.

Every amount has a name it counts under and an id of its own, so that exactly one use can be given back. Amounts are held
in memory from the moment they are reserved and lie on disk before anything is done with them; `store` adds them to the
caller's batch, so that an amount and the record of its use are written together or not at all. Time is the latest ever
seen: a clock set back refills nothing (hardening.md 15).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from proxy.storage import Batch, Space

_LATEST = b"latest"
_ENTRY = b"e"


class _Entry(msgspec.Struct, frozen=True):
    at: float
    amount: str  # decimal: amounts exceed 64 bits


class _Account:
    """What counts under one name, oldest first."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[float, int]] = {}
        self.total = 0


class Ledger:
    """The amounts of one space. Names and ids hold no NUL."""

    def __init__(self, space: Space, clock: Callable[[], float] = time.time) -> None:
        self._space, self._clock = space, clock
        self._accounts: dict[str, _Account] = {}
        self._stored: set[tuple[str, str]] = set()
        self._aged: list[bytes] = []
        latest = space.get(_LATEST)
        self._latest = 0.0 if latest is None else float(latest)
        loaded = [(key, msgspec.json.decode(value, type=_Entry)) for key, value in space.scan(_ENTRY)]
        for key, entry in sorted(loaded, key=lambda item: item[1].at):
            name, _, use = key[len(_ENTRY) :].decode().partition("\0")
            self._put(name, use, entry.at, int(entry.amount))
            self._stored.add((name, use))

    def spent(self, name: str, period: float | None) -> tuple[int, int]:
        """Return (sum, number) of what counts under `name` within the last `period` seconds (None: ever).

        What is older is forgotten: a longer period asked later begins with what this one still knew.
        """
        account = self._accounts.get(name)
        if account is None:
            return 0, 0
        if period is not None:
            self._age(name, account, self.now() - period)
        return account.total, len(account.entries)

    def has(self, name: str, use: str) -> bool:
        """Tell whether a use counts under `name`."""
        account = self._accounts.get(name)
        return account is not None and use in account.entries

    def hold(self, name: str, use: str, amount: int) -> None:
        """Count `amount` under `name` from now on; a use that is counted already stays as it is."""
        account = self._accounts.get(name)
        if account is None or use not in account.entries:
            self._put(name, use, self.now(), amount)

    def store(self, batch: Batch, name: str, use: str) -> None:
        """Add what `hold` counted to `batch`, with what has aged out."""
        at, amount = self._accounts[name].entries[use]
        batch.put(self._space, _key(name, use), msgspec.json.encode(_Entry(at, str(amount))))
        batch.put(self._space, _LATEST, repr(self._latest).encode())
        for key in self._aged:
            batch.delete(self._space, key)
        self._aged.clear()
        self._stored.add((name, use))

    def give_back(self, name: str, use: str) -> None:
        """Count a use no more."""
        account = self._accounts.get(name)
        if account is None or use not in account.entries:
            return
        if (name, use) in self._stored:
            self._space.write(delete=[_key(name, use)])
        self._drop(account, name, use)

    def now(self) -> float:
        """Return the latest time ever seen, unix seconds."""
        self._latest = max(self._latest, self._clock())
        return self._latest

    def _put(self, name: str, use: str, at: float, amount: int) -> None:
        account = self._accounts.setdefault(name, _Account())
        account.entries[use] = (at, amount)
        account.total += amount

    def _age(self, name: str, account: _Account, until: float) -> None:
        old = []
        for use, (at, _) in account.entries.items():
            if at > until:
                break
            old.append(use)
        for use in old:
            if (name, use) in self._stored:
                self._aged.append(_key(name, use))
            self._drop(account, name, use)

    def _drop(self, account: _Account, name: str, use: str) -> None:
        _, amount = account.entries.pop(use)
        account.total -= amount
        self._stored.discard((name, use))
        if not account.entries:
            self._accounts.pop(name, None)


def _key(name: str, use: str) -> bytes:
    return _ENTRY + name.encode() + b"\0" + use.encode()
