"""L1 transactions of the main accounts: prepared with upper bounds, given one nonce, on disk, then sent.

`eth_sendTransaction` and the host's operations both go through here. Between `prepare` and `sign` stands the owner's
approval, which is bound to `Prepared.digest`; this module must never be called past it. The signed bytes are on disk
before the node sees them, and sending is repeatable: the same bytes can be mined once only (hardening.md 13, 21).
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Protocol

from middleware.amounts import ether
from middleware.errors import Disconnected, InvalidParams, Refused, RpcError
from proxy.storage import Batch
from proxy.wallet.fees import Wanted, bound_gas, check_gas, fees_and_balance
from proxy.wallet.l1_port import L1
from proxy.wallet.ledger import DAPP, Ledger, Signed
from proxy.wallet.prepared import AccessList, Prepared
from proxy.wallet.recovery import keccak

VALID_SECONDS = 600  # from preparation to the first broadcast (hardening.md 13)


class Signer(Protocol):
    """The keyring, as far as transactions need it."""

    def sign_transaction(self, address: str, transaction: dict[str, Any]) -> bytes:
        """Return the signed bytes; raise `Unauthorized` while locked."""


class Expired(Refused):
    """4001: the approval came too late; what was prepared is not valid any more."""

    def __init__(self) -> None:
        super().__init__("the approved transaction was not sent in time and is not valid any more; ask again")


class Transactions:
    """Prepares, signs and sends transactions; gives each account one sequence of nonces."""

    def __init__(self, l1: L1, signer: Signer, ledger: Ledger, clock: Callable[[], float] = time.time) -> None:
        self._l1 = l1
        self._signer = signer
        self._ledger = ledger
        self._clock = clock
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._present: set[str] = set()  # hashes of dapps' transactions on their way to the node right now

    async def prepare(
        self,
        sender: str,
        to: str | None,
        value: int = 0,
        data: bytes = b"",
        *,
        gas: int | None = None,
        wanted: Wanted | None = None,
        nonce: int | None = None,
        access_list: AccessList = (),
        valid_seconds: float = VALID_SECONDS,
    ) -> Prepared:
        """Return the transaction with bounds of gas and fee. Raise the node's error if it would revert now.

        Raise an error of code -32000 when the account cannot pay it, `InvalidParams` for a nonce or fee that cannot be.
        `gas`: taken as the limit instead of an estimate.
        """
        if nonce is not None:
            await self._check_nonce(sender, nonce)
        fees, balance = await fees_and_balance(self._l1, sender, wanted or Wanted())
        if balance < value:
            raise _too_poor(sender, balance, value)
        if gas is not None:
            check_gas(gas, fees.gas_limit)
        else:
            gas = await bound_gas(self._l1, _call(sender, to, value, data, access_list), fees.gas_limit)
        prepared = Prepared(
            chain_id=self._l1.chain_id,
            sender=sender,
            to=to,
            value=value,
            data=data,
            gas=gas,
            max_fee=fees.max_fee,
            tip=fees.tip,
            valid_until=int(self._clock() + valid_seconds),
            nonce=nonce,
            access_list=access_list,
        )
        if balance < prepared.cost_bound:
            raise _too_poor(sender, balance, prepared.cost_bound)
        return prepared

    async def sign(
        self,
        prepared: Prepared,
        holder: str = DAPP,
        also: Callable[[Batch, Signed], None] | None = None,
        replaces: Signed | None = None,
    ) -> Signed:
        """Give the transaction its nonce, sign it and put it on disk; `also` adds writes to the same atomic batch.

        `replaces`: the transaction of ours that the approved one takes the place of, by its nonce; no other is replaced.

        Raise `Unauthorized` while locked, `Expired` after `valid_until`, `InvalidParams` for a nonce that is taken.
        """
        async with self._turns[prepared.sender]:
            if prepared.nonce is None:
                nonce = await self._next_nonce(prepared.sender)
            else:
                nonce = await self._check_nonce(prepared.sender, prepared.nonce)
                self._refuse_to_replace_another(prepared.sender, nonce, replaces)
            if self._clock() > prepared.valid_until:
                raise Expired
            if prepared.chain_id != self._l1.chain_id:
                raise Disconnected(f"this was prepared for chain {prepared.chain_id}, the node is on another one")
            raw = self._signer.sign_transaction(prepared.sender, prepared.transaction(nonce))
            signed = Signed(prepared.sender, nonce, "0x" + keccak(raw).hex(), "0x" + raw.hex(), holder)
            batch = Batch()
            if also is not None:
                also(batch, signed)
            self._ledger.write(signed, batch)
            if holder == DAPP:
                self._present.add(signed.hash)
            return signed

    async def send(self, signed: Signed) -> None:
        """Send the bytes; fine as well when the node knows them already.

        Raise `Disconnected` when it is unknown whether they arrived, the node's error when it refuses them.
        """
        try:
            await self._l1.call("eth_sendRawTransaction", signed.raw)
        except Disconnected:
            raise
        except RpcError:
            if not await self.is_known(signed.hash):
                raise

    async def execute(self, prepared: Prepared, replaces: Signed | None = None) -> str:
        """Sign and send a dapp's transaction; return its hash once the node has it.

        One that the node refuses gives its nonce back. One whose sending ended in `Disconnected` keeps it only as long
        as the node knows it: the next transaction then takes the same nonce, so that at most one of both is ever mined.
        """
        signed = await self.sign(prepared, replaces=replaces)
        try:
            await self.send(signed)
            self._ledger.mark_sent(signed)
        except Disconnected as error:
            raise Disconnected(f"{error.message}; whether transaction {signed.hash} arrived is unknown") from error
        except RpcError:
            self._ledger.drop(signed)
            raise
        finally:
            self._present.discard(signed.hash)
        return signed.hash

    async def is_known(self, transaction_hash: str) -> bool:
        """Tell whether the node has the transaction, pending or mined."""
        return await self._l1.call("eth_getTransactionByHash", transaction_hash) is not None

    async def count(self, sender: str, block: str) -> int:
        """Return the account's number of transactions at `block` (a tag or quantity)."""
        return int(await self._l1.call("eth_getTransactionCount", sender, block), 16)

    def held(self, sender: str, nonce: int) -> Signed | None:
        """Return the transaction of ours that holds a nonce."""
        return self._ledger.at(sender, nonce)

    async def estimate(self, prepared: Prepared) -> int:
        """Return the gas the transaction would need now. Raise the node's error if it would revert."""
        call = _call(prepared.sender, prepared.to, prepared.value, prepared.data, prepared.access_list)
        return int(await self._l1.call("eth_estimateGas", call), 16)

    @staticmethod
    def restore(fields: dict[str, Any]) -> Prepared:
        """Return what `Prepared.to_json` wrote."""
        return Prepared.from_json(fields)

    def release(self, sender: str, nonce: int, batch: Batch) -> None:
        """Free a nonce in a batch, for a transaction that is final or was never taken."""
        self._ledger.release(sender, nonce, batch)

    async def _next_nonce(self, sender: str) -> int:
        """Return the lowest nonce that neither the node's pool nor a transaction of ours uses."""
        latest, pending = await asyncio.gather(self.count(sender, "latest"), self.count(sender, "pending"))
        held = set()
        for signed in list(self._ledger.of(sender)):
            if await self._is_over(signed, latest, pending):
                self._ledger.drop(signed)
            else:
                held.add(signed.nonce)
        nonce = pending
        while nonce in held:
            nonce += 1
        return nonce

    async def _is_over(self, signed: Signed, latest: int, pending: int) -> bool:
        """Tell whether a dapp's transaction is mined or gone, so that it holds its nonce no longer."""
        if signed.holder != DAPP or signed.hash in self._present:
            return False
        return signed.nonce < latest or (signed.nonce >= pending and not await self.is_known(signed.hash))

    async def _check_nonce(self, sender: str, nonce: int) -> int:
        latest = await self.count(sender, "latest")
        if nonce < latest:
            raise InvalidParams("nonce", f"the next nonce or a pending one, {hex(latest)} or higher", hex(nonce))
        holder = self._ledger.at(sender, nonce)
        if holder is not None and holder.holder != DAPP:
            raise InvalidParams(
                "nonce", f"a nonce that no pending operation owns; this one is operation {holder.holder}'s", hex(nonce)
            )
        return nonce

    def _refuse_to_replace_another(self, sender: str, nonce: int, replaces: Signed | None) -> None:
        present = self._ledger.at(sender, nonce)
        if present is not None and (replaces is None or present.hash != replaces.hash):
            raise InvalidParams(
                "nonce", "a nonce that no transaction took since the owner was asked", f"{hex(nonce)}, {present.hash}'s"
            )


def _call(sender: str, to: str | None, value: int, data: bytes, access_list: AccessList) -> dict[str, Any]:
    call: dict[str, Any] = {"from": sender, "value": hex(value), "data": "0x" + data.hex()}
    if to is not None:
        call["to"] = to
    if access_list:
        call["accessList"] = [{"address": address, "storageKeys": list(keys)} for address, keys in access_list]
    return call


def _too_poor(sender: str, balance: int, needed: int) -> RpcError:
    return RpcError(
        -32000,
        f"insufficient funds for gas * price + value: {sender} has {ether(balance)}, this takes up to {ether(needed)}",
        {"balance": hex(balance), "needed": hex(needed)},
    )
