"""A transaction as the owner approves it: everything but the signature, with upper bounds of gas and fee.

Made by `transactions.prepare`, shown in a question, bound by its digest, signed exactly as it stands (security.md 11).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from middleware.amounts import ether
from middleware.questions import digest_of
from proxy.wallet.fees import Market

AccessList = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One transaction to be. Amounts in wei, `gas` and `max_fee` (per gas) are upper bounds, `valid_until` unix seconds.

    `to` None: a contract is created. `tip` None: a legacy gas price. `nonce` None: the account's next one. `max_fee_bound`:
    how far `max_fee` may grow where the transaction has to be sent again with a higher fee; None: it may not.
    """

    chain_id: int
    sender: str
    to: str | None
    value: int
    data: bytes
    gas: int
    max_fee: int
    tip: int | None
    valid_until: int
    nonce: int | None = None
    access_list: AccessList = ()
    max_fee_bound: int | None = None

    @property
    def fee_bound(self) -> int:
        """The most the fee can be, in wei."""
        return self.gas * (self.max_fee_bound or self.max_fee)

    @property
    def cost_bound(self) -> int:
        """The most that leaves the account, in wei: value and fee."""
        return self.value + self.fee_bound

    @property
    def value_text(self) -> str:
        """The value for people."""
        return ether(self.value)

    @property
    def fee_text(self) -> str:
        """The upper bound of the fee for people."""
        return ether(self.fee_bound)

    @property
    def digest(self) -> str:
        """What an approval is bound to: SHA-256 over all that will run."""
        return digest_of(self.to_json())

    def priced(self, market: Market) -> Prepared:
        """Return it with the fee the market asks now, no lower than before and within what was approved."""
        bound = self.max_fee_bound
        if bound is None:
            return self
        max_fee = min(bound, max(self.max_fee, market.price))
        tip = None if self.tip is None else min(max(self.tip, market.tip), max_fee)
        return replace(self, max_fee=max_fee, tip=tip)

    def dearer(self, market: Market) -> Prepared | None:
        """Return it with a fee that replaces the present one in a node's pool, None where what was approved allows none.

        Nodes take a replacement that pays a tenth more in both fees (geth, reth, anvil); an eighth is offered.
        """
        bound = self.max_fee_bound or self.max_fee
        tip = None if self.tip is None else max(_eighth_more(self.tip), market.tip)
        price = (market.base or 0) * 5 // 4 + tip if tip is not None else market.tip
        max_fee = min(bound, max(_eighth_more(self.max_fee), price))
        if tip is not None:
            tip = min(tip, max_fee)
        if not _replaces(max_fee, self.max_fee) or (tip is not None and not _replaces(tip, self.tip or 0)):
            return None
        return replace(self, max_fee=max_fee, tip=tip)

    def to_json(self) -> dict[str, Any]:
        """Return everything that is approved, as JSON; quantities as `0x` text, `validUntil` in unix seconds."""
        fields: dict[str, Any] = {
            "chainId": hex(self.chain_id),
            "from": self.sender,
            "to": self.to,
            "value": hex(self.value),
            "data": "0x" + self.data.hex(),
            "gas": hex(self.gas),
            "feeBound": hex(self.fee_bound),
            "nonce": None if self.nonce is None else hex(self.nonce),
            "accessList": [{"address": address, "storageKeys": list(keys)} for address, keys in self.access_list],
            "validUntil": self.valid_until,
        }
        if self.tip is None:
            fields["gasPrice"] = hex(self.max_fee)
        else:
            fields["maxFeePerGas"], fields["maxPriorityFeePerGas"] = hex(self.max_fee), hex(self.tip)
        if self.max_fee_bound is not None:
            fields["maxFeePerGasBound"] = hex(self.max_fee_bound)
        return fields

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Prepared:
        """Return what `to_json` wrote (read back from our own disk)."""
        legacy = "gasPrice" in fields
        return cls(
            chain_id=int(fields["chainId"], 16),
            sender=fields["from"],
            to=fields["to"],
            value=int(fields["value"], 16),
            data=bytes.fromhex(fields["data"][2:]),
            gas=int(fields["gas"], 16),
            max_fee=int(fields["gasPrice" if legacy else "maxFeePerGas"], 16),
            tip=None if legacy else int(fields["maxPriorityFeePerGas"], 16),
            valid_until=fields["validUntil"],
            nonce=None if fields["nonce"] is None else int(fields["nonce"], 16),
            access_list=tuple((entry["address"], tuple(entry["storageKeys"])) for entry in fields["accessList"]),
            max_fee_bound=int(fields["maxFeePerGasBound"], 16) if "maxFeePerGasBound" in fields else None,
        )

    def transaction(self, nonce: int) -> dict[str, Any]:
        """Return the fields to sign: EIP-1559 where there is a tip, else EIP-2930 with an access list, else EIP-155."""
        fields: dict[str, Any] = {
            "chainId": self.chain_id,
            "nonce": nonce,
            "to": self.to if self.to is not None else b"",
            "value": self.value,
            "data": self.data,
            "gas": self.gas,
        }
        entries = [{"address": address, "storageKeys": list(keys)} for address, keys in self.access_list]
        if self.tip is not None:
            fields |= {"type": 2, "maxFeePerGas": self.max_fee, "maxPriorityFeePerGas": self.tip, "accessList": entries}
        else:
            fields["gasPrice"] = self.max_fee
            if entries:
                fields |= {"type": 1, "accessList": entries}
        return fields


def _eighth_more(fee: int) -> int:
    return fee + fee // 8 + 1


def _replaces(fee: int, present: int) -> bool:
    """Tell whether a fee is at least a tenth above the present one."""
    return fee * 10 >= present * 11 and fee > present
