"""The node: the one owner of chain, pool and clock, and every change of them.

Called from one worker thread, one request at a time (`dispatch`), so nothing here locks. An accepted transaction is mined at once into a
block of its own unless automine is off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from eth.abc import SignedTransactionAPI, StateAPI
from eth.vm.forks.london.headers import calculate_expected_base_fee_per_gas
from eth_typing import Address

from proxy.upstream.embedded import admission
from proxy.upstream.embedded.chain import Built, Chain, Sealed
from proxy.upstream.embedded.clock import Clock
from proxy.upstream.embedded.errors import refused, unknown_block
from proxy.upstream.embedded.evm import EmbeddedVM
from proxy.upstream.embedded.genesis import create_chain
from proxy.upstream.embedded.params import BlockRef
from proxy.upstream.embedded.pool import Pool


@dataclass(frozen=True)
class Snapshot:
    """What evm_revert puts back."""

    number: int
    state_root: bytes
    pool: Pool
    clock: Clock


class Node:
    """A development L1 without keys."""

    def __init__(self, fund: Mapping[bytes, int]) -> None:
        self.chain = Chain(create_chain(fund))
        self.pool = Pool()
        self.clock = Clock()
        self.automine = True
        self._snapshots: dict[int, Snapshot] = {}
        self._next_snapshot = 0

    # What is asked

    def sealed(self, ref: BlockRef) -> Sealed | None:
        """Return the block meant; for "pending" the block that would be mined now."""
        if ref != "pending":
            return self.chain.find(ref)
        built = self._build()
        return self.chain.view(built.block, built.receipts)

    def vm(self, ref: BlockRef, *, free: bool = False) -> EmbeddedVM:
        """Return a machine with the state after a block; see Chain.vm_after for `free`.

        Raises NodeError -32000 for an unknown block.
        """
        if ref == "pending" and any(self._executable()):
            return self._build().vm
        sealed = self.chain.find(ref)
        if sealed is None:
            raise unknown_block()
        return self.chain.vm_after(sealed, free=free)

    def state(self, ref: BlockRef) -> StateAPI:
        """Return the state after a block. Raises NodeError -32000 for an unknown block."""
        return self.vm(ref).state

    def next_base_fee(self) -> int:
        """Return the base fee of the next block, in wei per gas (EIP-1559)."""
        return int(calculate_expected_base_fee_per_gas(self.chain.head.header))

    # What changes the chain

    def submit(self, raw: bytes) -> bytes:
        """Take a signed transaction, mine it if automine is on, and return its hash.

        Raises NodeError as `admission` says, and -32000 "already known" for one seen before.
        """
        transaction = admission.decode(raw)
        if self.chain.locate(transaction.hash) or self.pool.find(transaction.hash):
            raise refused("already known")
        header = self.chain.head.header
        admission.check(transaction, self.state("latest"), header.gas_limit, self.next_base_fee())
        self.pool.add(transaction)
        if self.automine:
            self._mine_each()
            self._expect_gone(transaction)
        return transaction.hash

    def _expect_gone(self, transaction: SignedTransactionAPI) -> None:
        """Refuse a transaction whose turn it is but that the EVM does not execute, rather than leave it waiting for ever."""
        if transaction in self._executable():
            self.pool.remove(transaction)
            raise refused(f"transaction not executable: {self._build_one(transaction).left_out[0]}")

    def _mine_each(self) -> None:
        """Mine one block per executable transaction until none is left; one mined may make the next executable."""
        while built := next((found for found in map(self._build_one, self._executable()) if found.receipts), None):
            self._seal(built)

    def _build_one(self, transaction: SignedTransactionAPI) -> Built:
        return self.chain.build([transaction], self._next_timestamp())

    def mine(self, blocks: int = 1, interval: int = 0) -> None:
        """Mine blocks, the first with all that waits; `interval` seconds apart where given."""
        for position in range(blocks):
            if interval and position:
                self.clock.exact = self.chain.head.header.timestamp + interval
            self._seal(self._build())

    def _executable(self) -> list[SignedTransactionAPI]:
        state = self.chain.vm_after(self.chain.head).state
        return list(self.pool.executable(lambda sender: state.get_nonce(Address(sender))))

    def _next_timestamp(self) -> int:
        return self.clock.next_timestamp(self.chain.head.header.timestamp)

    def _build(self) -> Built:
        return self.chain.build(self._executable(), self._next_timestamp())

    def _seal(self, built: Built) -> None:
        sealed = self.chain.append(built)
        self.clock.sealed(sealed.header.timestamp)
        for transaction in sealed.block.transactions:
            self.pool.remove(transaction)

    def edit_state(self, edit: Callable[[StateAPI], None]) -> None:
        """Change the newest state without a block."""
        self.chain.edit_state(edit)

    # Snapshots

    def snapshot(self) -> int:
        """Remember everything and return the snapshot's number, counted from 0."""
        head = self.chain.head
        number = self._next_snapshot
        self._snapshots[number] = Snapshot(head.number, head.state_root, Pool(self.pool), replace(self.clock))
        self._next_snapshot += 1
        return number

    def revert(self, number: int) -> bool:
        """Go back to a snapshot, which is used up by it together with all later ones; False if there is none."""
        snapshot = self._snapshots.get(number)
        if snapshot is None:
            return False
        self.chain.rewind(snapshot.number, snapshot.state_root)
        self.pool = snapshot.pool
        self.clock = snapshot.clock
        self._snapshots = {kept: value for kept, value in self._snapshots.items() if kept < number}
        return True
