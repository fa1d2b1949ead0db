"""What an eth_getLogs asks for, read strictly and written again for a part of its range.

Used by `log_ranges`. Addresses and topics stay the raw bytes the caller wrote; the ends alone are replaced.
"""

from __future__ import annotations

from dataclasses import dataclass

from middleware.call_params import BY_HASH, BlockName, block_named, items, members

_MEMBERS = frozenset({"address", "topics", "fromBlock", "toBlock"})


@dataclass(frozen=True, slots=True)
class LogQuery:
    """The ends as the caller named them, and the raw rest."""

    first: BlockName
    last: BlockName
    rest: bytes

    @classmethod
    def read(cls, params: bytes) -> LogQuery | None:
        """Return the query of these params; None for one block by its hash, pending logs, and what is spelled oddly."""
        given = items(params)
        asked = members(given[0], _MEMBERS) if given is not None and len(given) == 1 else None
        if asked is None:
            return None
        ends = [asked.get(end, b"") for end in ("fromBlock", "toBlock")]
        first, last = map(block_named, ends)
        if first is None or last is None or BY_HASH in (first, last) or any(end.startswith(b"{") for end in ends):
            return None
        rest = b"".join(b'"%b":%b,' % (name.encode(), asked[name]) for name in ("address", "topics") if name in asked)
        return cls(first, last, rest)

    def params(self, first: int, last: int) -> bytes:
        """Return the raw params for the blocks `first` to `last`."""
        return b'[{%b"fromBlock":"%#x","toBlock":"%#x"}]' % (self.rest, first, last)
