"""L1 transactions of one set of keys: prepared with upper bounds, given one nonce, on disk, then sent.

One object for the main accounts, another with a ledger of its own for the plugins' own keys. `eth_sendTransaction` and the host's operations both go through here. Between `prepare` and `sign` stands the owner's
approval, which is bound to `Prepared.digest`; this module must never be called past it. The signed bytes are on disk
before the node sees them, and sending is repeatable: the same bytes can be mined once only (hardening.md 13, 21).
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from middleware.amounts import ether
from middleware.errors import Disconnected, InvalidParams, Refused, RpcError
from proxy.storage import Batch
from proxy.wallet.fees import Market, Wanted, balance_of, bound_gas, check_gas, fees_and_balance, market_of
from proxy.wallet.l1_port import L1
from proxy.wallet.ledger import DAPP, Ledger, Signed
from proxy.wallet.prepared import AccessList, Prepared
from proxy.wallet.recovery import keccak

VALID_SECONDS = 600  # from preparation to the first broadcast (hardening.md 13)


class Signer(Protocol):
    """Whoever holds the keys: the keyring, or `own_keys` for plugins."""

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
        self._lines: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
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
        fee_growth: int = 0,
        later: bool = False,
    ) -> Prepared:
        """Return the transaction with bounds of gas and fee. Raise the node's error if it would revert now.

        Raise an error of code -32000 when the account cannot pay it, `InvalidParams` for a nonce or fee that cannot be.
        `gas`: taken as the limit instead of an estimate. `fee_growth`: the fee may grow to this many times the present
        one where the transaction is stuck; 0: it is sent once, at a fee that lasts. `later`: who can pay is asked then.
        """
        if nonce is not None:
            await self._check_nonce(sender, nonce)
        fees, balance = await fees_and_balance(self._l1, sender, wanted or Wanted())
        if balance < value and not later:
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
        if fee_growth:
            prepared = _growing(prepared, await market_of(self._l1), fee_growth)
        if balance < prepared.cost_bound and not later:
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

        `replaces`: the transaction of ours that the approved one takes the place of, by its nonce; no other is replaced. An
        operation's own one is replaced by the same with a higher fee, whose approval stands since the first.

        Raise `Unauthorized` while locked, `Expired` after `valid_until`, `InvalidParams` for a nonce that is taken.
        """
        async with self._turns[prepared.sender]:
            if prepared.nonce is None:
                nonce = await self._next_nonce(prepared.sender)
            else:
                nonce = await self._check_nonce(prepared.sender, prepared.nonce)
                self._refuse_to_replace_another(prepared.sender, nonce, replaces)
            if self._clock() > prepared.valid_until and not _same_operation(holder, replaces):
                raise Expired
            if prepared.chain_id != self._l1.chain_id:
                raise Disconnected(f"this was prepared for chain {prepared.chain_id}, the node is on another one")
            raw = self._signer.sign_transaction(prepared.sender, prepared.transaction(nonce))
            signed = Signed(
                prepared.sender,
                nonce,
                "0x" + keccak(raw).hex(),
                "0x" + raw.hex(),
                holder,
                over=_under(replaces) if holder == DAPP else None,
            )
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
        async with self.in_line(prepared.sender):
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

    def in_line(self, sender: str) -> asyncio.Lock:
        """Return what is held from a signature to the end of its first sending, so that no nonce is left out.

        One that the node refuses frees its nonce; had the next one been signed meanwhile, it would wait behind a gap.
        """
        return self._lines[sender]

    async def mend(self, sender: str, nonce: int) -> bool:
        """Send again what the node has forgotten of the account's transactions before this nonce: they hold it up.

        Return whether there was any.
        """
        mended = False
        latest = await self.count(sender, "latest")
        for signed in list(self._ledger.of(sender)):
            is_before = latest <= signed.nonce < nonce and (signed.sent or signed.holder != DAPP)
            if is_before and not await self.is_known(signed.hash):
                try:
                    await self.send(signed)
                except Disconnected:
                    raise
                except RpcError:
                    continue  # whoever owns it looks after it
                mended = True
        return mended

    async def gap(self, sender: str, nonce: int) -> int | None:
        """Return the nonce below this one that no transaction uses, ours or in the node's pool; None where there is none."""
        following = await self.count(sender, "pending")
        return following if following < nonce and self._ledger.at(sender, following) is None else None

    async def is_known(self, transaction_hash: str) -> bool:
        """Tell whether the node has the transaction, pending or mined."""
        return await self._l1.call("eth_getTransactionByHash", transaction_hash) is not None

    async def count(self, sender: str, block: str) -> int:
        """Return the account's number of transactions at `block` (a tag or quantity)."""
        return int(await self._l1.call("eth_getTransactionCount", sender, block), 16)

    def held(self, sender: str, nonce: int) -> Signed | None:
        """Return the transaction of ours that holds a nonce."""
        return self._ledger.at(sender, nonce)

    async def held_by(self, sender: str, nonce: int, holder: str) -> Signed | None:
        """Return an operation's transaction at its nonce; None while one that the owner let replace it may be mined."""
        async with self._turns[sender]:
            present = self._ledger.at(sender, nonce)
            if present is not None and present.holder == DAPP and present.hash not in self._present:
                if not await self.is_known(present.hash):
                    self._ledger.drop(present)
                present = self._ledger.at(sender, nonce)
        return present if present is not None and present.holder == holder else None

    async def priced(self, prepared: Prepared) -> Prepared:
        """Return it with the fee that the market asks now, within its bound. Raise `Refused` where that is too little.

        Raise an error of code -32000 when the account cannot pay it.
        """
        market, balance = await asyncio.gather(market_of(self._l1), balance_of(self._l1, prepared.sender))
        priced = prepared.priced(market)
        if priced.max_fee < market.least:
            raise Refused(f"the base fee, {market.least} wei per gas, is above what was approved, {priced.max_fee}")
        needed = priced.value + priced.gas * priced.max_fee
        if balance < needed:
            raise _too_poor(prepared.sender, balance, needed)
        return priced

    async def dearer(self, attempt: Prepared, nonce: int, *, if_too_low: bool = False) -> Prepared | None:
        """Return a stuck transaction with a fee that replaces it at its nonce, None where its approval allows none.

        `if_too_low`: only where no block takes the present one.
        """
        market = await market_of(self._l1)
        if if_too_low and attempt.max_fee >= market.least:
            return None
        dearer = attempt.dearer(market)
        return None if dearer is None else replace(dearer, nonce=nonce)

    async def estimate(self, prepared: Prepared) -> int:
        """Return the gas the transaction would need now. Raise the node's error if it would revert."""
        call = _call(prepared.sender, prepared.to, prepared.value, prepared.data, prepared.access_list)
        return int(await self._l1.call("eth_estimateGas", call), 16)

    @staticmethod
    def restore(fields: dict[str, Any]) -> Prepared:
        """Return what `Prepared.to_json` wrote."""
        return Prepared.from_json(fields)

    def used(self, sender: str) -> int:
        """Return the nonce after the highest that this account's transactions were given here, 0 for none."""
        return self._ledger.used(sender)

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
            if self._ledger.at(sender, signed.nonce) is not None:  # also what the dropped one was to replace
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
        return nonce

    def _refuse_to_replace_another(self, sender: str, nonce: int, replaces: Signed | None) -> None:
        present = self._ledger.at(sender, nonce)
        if present is None or (replaces is not None and present.hash == replaces.hash):
            return
        if present.holder != DAPP:
            raise InvalidParams(
                "nonce", f"a nonce that no pending operation owns; this one is operation {present.holder}'s", hex(nonce)
            )
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


def _growing(prepared: Prepared, market: Market, growth: int) -> Prepared:
    """Return it at the market's price, which may grow to `growth` times what a block takes now."""
    bound = growth * (market.least + market.tip)
    return replace(prepared, max_fee=min(market.price, bound), max_fee_bound=bound)


def _same_operation(holder: str, replaces: Signed | None) -> bool:
    return holder != DAPP and replaces is not None and replaces.holder == holder


def _under(replaced: Signed | None) -> Signed | None:
    """Return the operation's transaction that stays under a dapp's one."""
    return replaced.over if replaced is not None and replaced.holder == DAPP else replaced


def _too_poor(sender: str, balance: int, needed: int) -> RpcError:
    return RpcError(
        -32000,
        f"insufficient funds for gas * price + value: {sender} has {ether(balance)}, this takes up to {ether(needed)}",
        {"balance": hex(balance), "needed": hex(needed)},
    )
