"""What is on disk about invocations: idempotency keys, and that a plugin is about to be asked.

`begin` writes the key and the budget's amount in one batch before the plugin is asked; `finish` writes what came of it.
Whatever is begun and not finished is unknown, also after a crash. Keys stay 30 days, 10,000 for each origin, and are never
evicted early (hardening.md 15).
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from middleware.errors import LimitExceeded, RpcError
from middleware.idempotency import Recorded
from middleware.invocation import Invocation
from middleware.waist import Origin, Result
from proxy.authority.budgets import Budgets
from proxy.storage import Batch, Space

KEPT = 30 * 86400  # seconds
MOST_KEYS = 10_000


class _Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    digest: str
    at: float
    result: str | None = None
    error: dict[str, Any] | None = None


class Invocations:
    """The records of one chain."""

    def __init__(self, space: Space, budgets: Budgets, clock: Callable[[], float] = time.time) -> None:
        self._space, self._budgets, self._clock = space, budgets, clock
        self._latest = 0.0
        self._keys: Counter[str] = Counter()
        aged = []
        entries = [(key, msgspec.convert(json.loads(value), _Entry)) for key, value in space.scan()]
        self._latest = max((entry.at for _, entry in entries), default=0.0)
        for key, entry in entries:
            if self._old(entry):
                aged.append(key)
            else:
                self._keys[_origin_of(key)] += 1
        space.write(delete=aged)

    def find(self, origin: Origin, key: str) -> Recorded | None:
        """Return what is recorded under a key of `origin`; None: nothing."""
        value = self._space.get(_key(origin, key))
        if value is None:
            return None
        entry = msgspec.convert(json.loads(value), _Entry)
        if self._old(entry):
            self._delete(origin, key)
            return None
        if entry.result is not None:
            return Recorded(entry.digest, Result(entry.result.encode()))
        if entry.error is not None:
            return Recorded(
                entry.digest, RpcError(entry.error["code"], entry.error["message"], entry.error.get("data"))
            )
        return Recorded(entry.digest, None)

    def check_room(self, origin: Origin) -> None:
        """Raise `LimitExceeded` if `origin` may have no further key."""
        if self._keys[str(origin)] >= MOST_KEYS:
            self._sweep(origin)
        if self._keys[str(origin)] >= MOST_KEYS:
            raise LimitExceeded(
                "idempotency_keys", f"{MOST_KEYS} idempotency keys of the last 30 days are kept; use fewer"
            )

    def begin(self, origin: Origin, invocation: Invocation, digest: str) -> None:
        """Write that the plugin is asked now, with what it costs; on disk when this returns."""
        batch = Batch()
        self._budgets.record(batch, invocation.call)
        if invocation.key is not None:
            new = self._space.get(_key(origin, invocation.key)) is None
            batch.put(self._space, _key(origin, invocation.key), _written(_Entry(digest, self._now())))
            self._keys[str(origin)] += new
        self._space.database.commit(batch)

    def finish(self, origin: Origin, invocation: Invocation, digest: str, answer: Result | RpcError) -> None:
        """Write the outcome. Called again for an answer that came late, it replaces what was unknown."""
        if invocation.key is None:
            return
        entry = (
            _Entry(digest, self._now(), error=answer.to_json())
            if isinstance(answer, RpcError)
            else _Entry(digest, self._now(), result=answer.json.decode())
        )
        self._space.write({_key(origin, invocation.key): _written(entry)})

    def forget(self, origin: Origin, invocation: Invocation) -> None:
        """Undo `begin`: the plugin was not asked after all."""
        if invocation.key is not None:
            self._delete(origin, invocation.key)

    def _sweep(self, origin: Origin) -> None:
        prefix = str(origin).encode() + b"\0"
        aged = [key for key, value in self._space.scan(prefix) if self._old(msgspec.convert(json.loads(value), _Entry))]
        self._space.write(delete=aged)
        self._keys[str(origin)] -= len(aged)

    def _delete(self, origin: Origin, key: str) -> None:
        self._space.write(delete=[_key(origin, key)])
        self._keys[str(origin)] -= 1

    def _old(self, entry: _Entry) -> bool:
        return self._now() - entry.at > KEPT

    def _now(self) -> float:
        self._latest = max(self._latest, self._clock())
        return self._latest


def _key(origin: Origin, key: str) -> bytes:
    return f"{origin}\0{key}".encode("utf-8", "surrogatepass")


def _origin_of(key: bytes) -> str:
    return key.partition(b"\0")[0].decode()


def _written(entry: _Entry) -> bytes:
    return json.dumps(msgspec.to_builtins(entry)).encode()
