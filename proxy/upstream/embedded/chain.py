"""The blocks of the embedded L1: sealed ones in memory, newest last, and the building of the next.

py-evm executes and stores state; which blocks are canonical is decided here alone, so that a snapshot can be restored by shortening a
list. `node` is the only caller that changes anything. Never touches the transaction pool or the clock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast

from eth.abc import BlockAPI, BlockHeaderAPI, MiningChainAPI, ReceiptAPI, SignedTransactionAPI, StateAPI
from eth.chains.base import MiningChain
from eth_utils.exceptions import ValidationError

from proxy.upstream.embedded.evm import EmbeddedVM
from proxy.upstream.embedded.params import BlockRef
from proxy.upstream.embedded.wire import Wire
from proxy.upstream.embedded.wire_receipt import wire_receipts
from proxy.upstream.embedded.wire_transaction import wire_transaction


@dataclass
class Sealed:
    """A block with what it did; `state_root` is the state after it, which a dev method may have edited since."""

    block: BlockAPI
    state_root: bytes
    transactions: list[Wire] = field(default_factory=list)
    receipts: list[Wire] = field(default_factory=list)

    @property
    def header(self) -> BlockHeaderAPI:
        """The header."""
        return self.block.header

    @property
    def number(self) -> int:
        """The height; genesis is 0."""
        return int(self.block.number)


@dataclass(frozen=True)
class Built:
    """A block executed on the head but not part of the chain; `vm` holds the state after it, `left_out` why what is missing is."""

    vm: EmbeddedVM
    block: BlockAPI
    receipts: tuple[ReceiptAPI, ...]
    left_out: tuple[str, ...]


class Chain:
    """The canonical blocks and the state behind each."""

    def __init__(self, evm: MiningChain) -> None:
        self.evm: MiningChainAPI = evm
        genesis = evm.get_canonical_block_by_number(evm.get_canonical_head().block_number)
        self._blocks = [Sealed(genesis, genesis.header.state_root)]
        self._numbers: dict[bytes, int] = {genesis.hash: 0}
        self._places: dict[bytes, tuple[int, int]] = {}

    @property
    def head(self) -> Sealed:
        """The newest block."""
        return self._blocks[-1]

    def find(self, ref: BlockRef) -> Sealed | None:
        """Return the block meant by a tag, number or hash; None when there is none. "pending" means the head here."""
        if isinstance(ref, bytes):
            number = self._numbers.get(ref)
            return None if number is None else self._blocks[number]
        if isinstance(ref, str):
            return self._blocks[0] if ref == "earliest" else self.head
        return self._blocks[ref] if ref < len(self._blocks) else None

    def range(self, first: int, last: int) -> list[Sealed]:
        """Return the blocks from `first` to `last`, both included, as far as they exist."""
        return self._blocks[first : last + 1]

    def locate(self, transaction: bytes) -> tuple[Sealed, int] | None:
        """Return block and index of a mined transaction, by its hash."""
        place = self._places.get(transaction)
        return None if place is None else (self._blocks[place[0]], place[1])

    def vm_after(self, sealed: Sealed, *, free: bool = False) -> EmbeddedVM:
        """Return a machine with the state after a block; `free` sets the base fee to zero, for calls that name no price.

        The machine is the caller's own: what it executes is forgotten with it.
        """
        header = sealed.header.copy(state_root=sealed.state_root)
        return self._vm(header.copy(base_fee_per_gas=0) if free else header)

    def _vm(self, header: BlockHeaderAPI) -> EmbeddedVM:
        return cast(EmbeddedVM, self.evm.get_vm(header))

    def build(self, candidates: Iterable[SignedTransactionAPI], timestamp: int) -> Built:
        """Execute candidates in order on the head; those that are not valid there are left out."""
        header = self.evm.create_header_from_parent(
            self.head.header,
            timestamp=timestamp,
            state_root=self.head.state_root,
            mix_hash=os.urandom(32),
        )
        vm = self._vm(header)
        transactions: list[SignedTransactionAPI] = []
        receipts: list[ReceiptAPI] = []
        left_out: list[str] = []
        for transaction in candidates:
            try:
                receipt, _ = vm.apply_transaction(header, transaction)
            except ValidationError as error:
                left_out.append(str(error))
                continue
            header = vm.add_receipt_to_header(header, receipt)
            transactions.append(transaction)
            receipts.append(receipt)
        block = vm.set_block_transactions_and_withdrawals(vm.get_block(), header, transactions, receipts)
        return Built(vm, block, tuple(receipts), tuple(left_out))

    def append(self, built: Built) -> Sealed:
        """Seal a built block and make it the head."""
        block = built.vm.mine_block(built.block).block
        self.evm.chaindb.persist_header(block.header)
        sealed = self.view(block, built.receipts)
        self._numbers[block.hash] = sealed.number
        for index, transaction in enumerate(block.transactions):
            self._places[transaction.hash] = (sealed.number, index)
        self._blocks.append(sealed)
        return sealed

    def view(self, block: BlockAPI, receipts: tuple[ReceiptAPI, ...]) -> Sealed:
        """Put a block and its receipts into wire form, without adding it to the chain."""
        transactions = [wire_transaction(tx, block.header, index) for index, tx in enumerate(block.transactions)]
        return Sealed(block, block.header.state_root, transactions, wire_receipts(block, receipts))

    def edit_state(self, edit: Callable[[StateAPI], None]) -> None:
        """Change the state after the head without a block, as development tools do."""
        vm = self.vm_after(self.head)
        edit(vm.state)
        vm.state.persist()
        self.head.state_root = vm.state.state_root

    def rewind(self, number: int, state_root: bytes) -> None:
        """Forget every block above `number`, with its transactions, and restore the state after it."""
        for sealed in self._blocks[number + 1 :]:
            del self._numbers[sealed.block.hash]
            for transaction in sealed.block.transactions:
                del self._places[transaction.hash]
        del self._blocks[number + 1 :]
        self.head.state_root = state_root
