"""The record of every transaction signed with a main account, on disk before the transaction is first sent.

One record a nonce: whoever holds the nonce, the signed bytes, whether the node took them. From it `transactions` gives
each transaction its nonce, so that one nonce is never used for two things unknowingly (hardening.md 21, security.md 23).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import msgspec

from proxy.storage import Batch, Space

DAPP = ""
"""Holder of a nonce that no operation owns: a dapp's `eth_sendTransaction`."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed transaction. `holder`: the operation that owns the nonce, or `DAPP`; `sent`: the node has taken it once.

    `over`: the operation's transaction that the owner let this one of a dapp take the place of; either may be mined.
    """

    sender: str
    nonce: int
    hash: str
    raw: str
    holder: str
    sent: bool = False
    over: Signed | None = None


class Ledger:
    """Signed transactions that may still be mined, by account and nonce."""

    def __init__(self, space: Space) -> None:
        self._space = space

    def put(self, signed: Signed, batch: Batch) -> None:
        """Add the record to a batch; it takes the place of an earlier one at the same nonce."""
        batch.put(self._space, _key(signed.sender, signed.nonce), msgspec.json.encode(asdict(signed)))
        if signed.nonce >= self.used(signed.sender):
            batch.put(self._space, _top(signed.sender), b"%d" % (signed.nonce + 1))

    def used(self, sender: str) -> int:
        """Return the nonce after the highest that ever stood here, 0 for none: what L1 may count without a stranger's doing."""
        found = self._space.get(_top(sender))
        return 0 if found is None else int(found)

    def write(self, signed: Signed, also: Batch | None = None) -> None:
        """Put the record on disk, together with the writes in `also`."""
        batch = also if also is not None else Batch()
        self.put(signed, batch)
        self._space.database.commit(batch)

    def mark_sent(self, signed: Signed) -> None:
        """Note that the node took it."""
        if self.at(signed.sender, signed.nonce) == signed:
            self.write(replace(signed, sent=True))

    def release(self, sender: str, nonce: int, batch: Batch) -> None:
        """Free a nonce whose transaction is final, or was never taken by a node, in a batch."""
        batch.delete(self._space, _key(sender, nonce))

    def drop(self, signed: Signed) -> None:
        """Free the nonce of a transaction, unless another holds it by now; what it was to replace holds it again."""
        present = self.at(signed.sender, signed.nonce)
        if present is None or present.hash != signed.hash:
            return
        if present.over is not None:
            self.write(present.over)
        else:
            self._space.write(delete=[_key(signed.sender, signed.nonce)])

    def at(self, sender: str, nonce: int) -> Signed | None:
        """Return the record at a nonce."""
        found = self._space.get(_key(sender, nonce))
        return None if found is None else msgspec.json.decode(found, type=Signed)

    def of(self, sender: str) -> Iterator[Signed]:
        """Yield the records of an account in the order of their nonces."""
        for _, value in self._space.scan(_prefix(sender)):
            yield msgspec.json.decode(value, type=Signed)


def _prefix(sender: str) -> bytes:
    return sender.lower().encode() + b"/"


def _top(sender: str) -> bytes:
    return b"top/" + sender.lower().encode()


def _key(sender: str, nonce: int) -> bytes:
    return _prefix(sender) + f"{nonce:016x}".encode()
