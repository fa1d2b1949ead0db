"""A gateway of a few instructions, assembled here: takes ETH and says `Deposited`, gives ETH back and says `Released`.

Called with value: Deposited(caller, value). Called without: sends the caller as many wei as its first argument says and
emits Released(caller, amount). It keeps no accounts: enough for what the proxy has to do, and useless for anything else.
"""

from __future__ import annotations

from eth_utils.crypto import keccak


def _event(name: str) -> bytes:
    return keccak(text=f"{name}(address,uint256)")


def _emit(name: str) -> bytes:
    """CALLER, PUSH32 topic, PUSH1 32, PUSH1 0, LOG2, STOP: memory word 0 is the amount."""
    return bytes.fromhex("337f") + _event(name) + bytes.fromhex("60206000a200")


_STORE_VALUE = bytes.fromhex("34600052")  # CALLVALUE, PUSH1 0, MSTORE
_STORE_ARGUMENT = bytes.fromhex("60043580600052")  # PUSH1 4, CALLDATALOAD, DUP1, PUSH1 0, MSTORE
_PAY_CALLER = bytes.fromhex("600060006000600084335af15050")  # CALL(gas, caller, amount, 0, 0, 0, 0), POP, POP
_RELEASE = _STORE_ARGUMENT + _PAY_CALLER + _emit("Released")
_DEPOSIT = bytes.fromhex("5b") + _STORE_VALUE + _emit("Deposited")
_RUNTIME = bytes.fromhex("3460") + bytes([4 + len(_RELEASE)]) + bytes.fromhex("57") + _RELEASE + _DEPOSIT

# PUSH2 size, DUP1, PUSH1 12, PUSH1 0, CODECOPY, PUSH1 0, RETURN
CREATION = bytes.fromhex("61") + len(_RUNTIME).to_bytes(2, "big") + bytes.fromhex("80600c6000396000f3") + _RUNTIME
