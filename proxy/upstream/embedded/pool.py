"""Transactions accepted but not mined yet, per sender and nonce.

With automine it holds only what waits for an earlier nonce; with automine off, everything. `node` adds and removes; nothing here checks
validity (that is `admission`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from eth.abc import SignedTransactionAPI

from proxy.upstream.embedded.errors import refused

_BUMP_PERCENT = 10


class Pool:
    """Waiting transactions; at most one for a sender and nonce."""

    def __init__(self, waiting: Iterable[SignedTransactionAPI] = ()) -> None:
        self._senders: dict[bytes, dict[int, SignedTransactionAPI]] = {}
        for transaction in waiting:
            self.add(transaction)

    def find(self, transaction: bytes) -> SignedTransactionAPI | None:
        """Return a waiting transaction by hash."""
        return next((waiting for waiting in self if waiting.hash == transaction), None)

    def __iter__(self) -> Iterator[SignedTransactionAPI]:
        for nonces in self._senders.values():
            yield from nonces.values()

    def add(self, transaction: SignedTransactionAPI) -> None:
        """Add a transaction, or replace the one of the same nonce.

        A replacement must raise both fees by a tenth, as in go-ethereum; else NodeError -32000.
        """
        nonces = self._senders.setdefault(transaction.sender, {})
        old = nonces.get(transaction.nonce)
        if old is not None and not _outbids(transaction, old):
            raise refused("replacement transaction underpriced")
        nonces[transaction.nonce] = transaction

    def remove(self, transaction: SignedTransactionAPI) -> None:
        """Remove what waits at a transaction's sender and nonce: it or a rival can no longer be mined."""
        nonces = self._senders.get(transaction.sender, {})
        nonces.pop(transaction.nonce, None)
        if not nonces:
            self._senders.pop(transaction.sender, None)

    def next_nonce(self, sender: bytes, mined: int) -> int:
        """Return the first nonce from `mined` on that nothing waits at."""
        nonces = self._senders.get(sender, {})
        while mined in nonces:
            mined += 1
        return mined

    def executable(self, nonce_of: Callable[[bytes], int]) -> Iterator[SignedTransactionAPI]:
        """Yield what could be mined now, each sender's from its next nonce upwards without a gap."""
        for sender, nonces in list(self._senders.items()):
            nonce = nonce_of(sender)
            while nonce in nonces:
                yield nonces[nonce]
                nonce += 1


def _outbids(new: SignedTransactionAPI, old: SignedTransactionAPI) -> bool:
    def enough(offered: int, before: int) -> bool:
        return offered * 100 >= before * (100 + _BUMP_PERCENT) and offered > before

    return enough(new.max_fee_per_gas, old.max_fee_per_gas) and (
        enough(new.max_priority_fee_per_gas, old.max_priority_fee_per_gas)
    )
