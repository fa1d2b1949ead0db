"""The transaction object of eth_call, eth_estimateGas and eth_createAccessList, and the state overrides beside it.

Source: execution-apis GenericTransaction; go-ethereum's TransactionArgs and StateOverride. Unknown members are ignored, as nodes do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from eth.abc import StateAPI
from eth_typing import Address

from proxy.upstream.embedded.errors import NodeError, invalid_params
from proxy.upstream.embedded.params import address, data, hash32, quantity, shown, storage_slot, uint64

AccessList = tuple[tuple[Address, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Call:
    """A message to execute without a signature; amounts in wei, `gas` None for as much as a block holds, `to` empty to create."""

    sender: Address
    to: Address
    gas: int | None
    max_fee: int
    tip: int
    value: int
    data: bytes
    access_list: AccessList

    @property
    def free(self) -> bool:
        """Tell whether the caller named no price; then no base fee is asked and no balance needed for gas."""
        return self.max_fee == 0


def call(value: Any) -> Call:
    """Read a transaction object. Raises NodeError -32602 naming the member."""
    given = _object(value)
    max_fee, tip = _fees(given)
    return Call(
        sender=Address(_member(given, "from", address, bytes(20))),
        to=Address(_member(given, "to", address, b"")),
        gas=_member(given, "gas", uint64, None),
        max_fee=max_fee,
        tip=tip,
        value=_member(given, "value", quantity, 0),
        data=_data(given),
        access_list=_member(given, "accessList", _access_list, ()),
    )


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise invalid_params(f"expected an object, got {shown(value)}")
    return value


def _member(given: Mapping[str, Any], name: str, decode: Callable[[Any], Any], default: Any) -> Any:
    value = given.get(name)
    if value is None:
        return default
    try:
        return decode(value)
    except NodeError as error:
        raise invalid_params(f"{name}: {error.message}") from None


def _fees(given: Mapping[str, Any]) -> tuple[int, int]:
    price = _member(given, "gasPrice", quantity, None)
    max_fee = _member(given, "maxFeePerGas", quantity, None)
    tip = _member(given, "maxPriorityFeePerGas", quantity, None)
    if price is not None:
        if max_fee is not None or tip is not None:
            raise invalid_params("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified")
        return price, price
    if max_fee is not None and (tip or 0) > max_fee:
        raise invalid_params(f"maxFeePerGas ({max_fee:#x}) < maxPriorityFeePerGas ({tip:#x})")
    return (max_fee or 0), (tip or 0) if max_fee else 0


def _data(given: Mapping[str, Any]) -> bytes:
    old, new = _member(given, "data", data, None), _member(given, "input", data, None)
    if old is not None and new is not None and old != new:
        raise invalid_params('both "data" and "input" are set and not equal; use "input"')
    return bytes(new if new is not None else old or b"")


def _access_list(value: Any) -> AccessList:
    return tuple(_access_entry(_object(entry)) for entry in _array(value))


def _access_entry(entry: Mapping[str, Any]) -> tuple[Address, tuple[int, ...]]:
    keys = _member(entry, "storageKeys", _array, [])
    return Address(address(entry.get("address"))), tuple(int.from_bytes(hash32(key), "big") for key in keys)


def _array(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise invalid_params(f"expected an array, got {shown(value)}")
    return value


Overrides = Callable[[StateAPI], None]


def overrides(value: Any) -> Overrides:
    """Read a state override set ({address: {balance?, nonce?, code?, state?, stateDiff?}}) into an edit of the state."""
    edits = [_override(Address(address(key)), _object(entry)) for key, entry in _object(value).items()]

    def apply(state: StateAPI) -> None:
        for edit in edits:
            edit(state)

    return apply


def _override(account: Address, entry: Mapping[str, Any]) -> Overrides:
    balance, nonce = _member(entry, "balance", quantity, None), _member(entry, "nonce", uint64, None)
    code = _member(entry, "code", data, None)
    whole, part = _member(entry, "state", _slots, None), _member(entry, "stateDiff", _slots, {})
    if whole is not None and part:
        raise invalid_params(f"account 0x{account.hex()} has both 'state' and 'stateDiff'")

    def apply(state: StateAPI) -> None:
        if balance is not None:
            state.set_balance(account, balance)
        if nonce is not None:
            state.set_nonce(account, nonce)
        if code is not None:
            state.set_code(account, code)
        if whole is not None:
            state.delete_storage(account)
        for slot, content in (part if whole is None else whole).items():
            state.set_storage(account, slot, content)

    return apply


def _slots(value: Any) -> dict[int, int]:
    return {storage_slot(key): int.from_bytes(hash32(content), "big") for key, content in _object(value).items()}
