"""Every wei accounted for, from the chain alone.

Reads each block since the journey began and sums what an account sent, received and burnt as gas. What the daemon says
about operations is not used here: this is the independent check of it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from proxy.demo.client import Client


class WrongWei(Exception):
    """A balance on L1 is not what it must be."""


@dataclass
class Flow:
    """What one account's own transactions moved, in wei."""

    gas: int = 0
    sent: int = 0
    transactions: int = 0


@dataclass
class Audit:
    """The transactions of some blocks, by sender (lower-case address)."""

    flows: dict[str, Flow] = field(default_factory=lambda: defaultdict(Flow))
    failed: list[str] = field(default_factory=list)

    @classmethod
    async def of_blocks(cls, client: Client, first: int, last: int) -> Audit:
        """Read blocks first..last with their receipts."""
        audit = cls()
        for number in range(first, last + 1):
            block = await client.request("eth_getBlockByNumber", [hex(number), True])
            for transaction in block["transactions"]:
                receipt = await client.request("eth_getTransactionReceipt", [transaction["hash"]])
                audit._add(transaction, receipt)
        return audit

    def _add(self, transaction: dict[str, Any], receipt: dict[str, Any]) -> None:
        flow = self.flows[transaction["from"].lower()]
        flow.gas += int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
        flow.transactions += 1
        if receipt["status"] == "0x1":
            flow.sent += int(transaction["value"], 16)
        else:
            self.failed.append(transaction["hash"])


@dataclass(frozen=True)
class Balance:
    """One line of the closing table: what an account had, must have and has."""

    name: str
    address: str
    before: int
    gas: int
    must: int
    has: int

    def check(self) -> None:
        """Raise `WrongWei` unless the account has what it must have."""
        if self.must != self.has:
            raise WrongWei(
                f"{self.name} ({self.address}) must have {self.must} wei and has {self.has}: {self.has - self.must:+d} wei"
            )


async def balance(client: Client, address: str) -> int:
    """Return the balance of `address` in wei."""
    return int(await client.request("eth_getBalance", [address, "latest"]), 16)


def ether(wei: int) -> str:
    """Return `wei` in ETH for people, exact."""
    sign = "-" if wei < 0 else ""
    whole, rest = divmod(abs(wei), 10**18)
    return f"{sign}{whole}.{rest:018d}".rstrip("0").rstrip(".") + " ETH"
