"""Reads typed data that is to be signed, for plugins and for dapps alike, without holding anybody up (hardening.md 28).

64 KiB within all limits can keep the library that hashes it busy for seconds: what is not small is read in a worker process
with a second for it. Nothing is signed here.
"""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

import msgspec

from middleware.errors import InvalidParams
from proxy.host.services.worker import Worker

Typed_co = TypeVar("Typed_co", covariant=True)

SMALL = 2048  # bytes that are read at once: 30 ms at the very worst


class Reads(Protocol[Typed_co]):
    """Checks typed data and hashes it."""

    def parse_typed(self, value: Any) -> Typed_co:
        """Return checked typed data. Raise `InvalidParams`."""


class TypedReading(Generic[Typed_co]):
    """Reads typed data with a worker of its own or another's."""

    def __init__(self, crypto: Reads[Typed_co], worker: Worker) -> None:
        self._crypto, self._worker = crypto, worker

    async def read(self, value: Any) -> Typed_co:
        """Return checked typed data, an object or its JSON text. Raise `InvalidParams`, also for what takes too long."""
        try:
            size = len(value) if isinstance(value, str) else len(msgspec.json.encode(value))
        except (TypeError, ValueError, RecursionError):
            raise InvalidParams("typedData", "an EIP-712 object", "another value") from None
        if size <= SMALL:
            return self._crypto.parse_typed(value)
        typed: Typed_co = await self._worker.run(_parse, self._crypto, value)
        return typed

    def close(self) -> None:
        """End the worker."""
        self._worker.close()


def _parse(crypto: Reads[Typed_co], value: Any) -> Typed_co:
    return crypto.parse_typed(value)
