"""The py-evm virtual machine the embedded L1 runs: Prague rules, with a record of what storage was touched.

Deliberate additions to py-evm, no changes of its rules: the record (for eth_createAccessList), and one correction of the gas a receipt
reports (see `finalize_gas_used`).
"""

from __future__ import annotations

from eth.abc import ComputationAPI, SignedTransactionAPI
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.prague.state import PragueState, PragueTransactionExecutor
from eth_typing import Address

MAX_INITCODE_SIZE = 49_152
"""EIP-3860: longest creation code in bytes."""


class EmbeddedState(PragueState):
    """State that can record the addresses and storage slots a transaction touches."""

    touched: dict[bytes, set[int]] | None = None

    def mark_address_warm(self, address: Address) -> None:
        """Mark warm (EIP-2929) and record."""
        super().mark_address_warm(address)
        if self.touched is not None:
            self.touched.setdefault(address, set())

    def mark_storage_warm(self, address: Address, slot: int) -> None:
        """Mark warm (EIP-2929) and record."""
        super().mark_storage_warm(address, slot)
        if self.touched is not None:
            self.touched.setdefault(address, set()).add(slot)


class EmbeddedVM(PragueVM):
    """Prague with EmbeddedState."""

    _state_class = EmbeddedState

    @classmethod
    def finalize_gas_used(cls, transaction: SignedTransactionAPI, computation: ComputationAPI) -> int:
        """Report the gas that was charged.

        py-evm charges `used - refund + floor` but bounds the refund of the receipt by a fifth of `used + floor` (EIP-7623); where both
        bite, its receipt names less gas than the sender paid.
        """
        used = transaction.gas - computation.get_gas_remaining()
        refund = cls.calculate_net_gas_refund(used, computation.get_gas_refund())
        return used - refund + computation.data_floor_gas


def least_gas(transaction: SignedTransactionAPI) -> int:
    """Return the gas below which a transaction is invalid: intrinsic gas, or the calldata floor of EIP-7623."""
    floor = PragueTransactionExecutor.calc_data_floor_gas(transaction, 0, 0)
    return max(transaction.intrinsic_gas, floor)
