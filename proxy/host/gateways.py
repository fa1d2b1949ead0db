"""Is a gateway what it says: a contract of the plugin's own, not a token, and the code the owner approved? (hardening.md 20)

Asked at install and before each step of an operation. "Gateway only" is worth nothing if the attacker chooses a token as
the gateway, or a function that moves what other contracts hold; both are refused, owner overrides included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Protocol

from eth_utils.crypto import keccak

from middleware.errors import Disconnected, InvalidParams, RpcError, Unauthorized
from proxy.host.installed import Gateway
from proxy.storage import Space

_FORBIDDEN_NAMES = frozenset(
    {
        *("transfer", "transferFrom", "approve", "increaseAllowance", "permit", "setApprovalForAll"),
        *("multicall", "execute", "executeBatch", "aggregate", "aggregate3", "aggregate3Value", "tryAggregate"),
        *("blockAndAggregate", "tryBlockAndAggregate"),
    }
)
_SAFE_TRANSFER = re.compile(r"safe\w*TransferFrom", re.ASCII)
_STANDARD = (
    *("transfer(address,uint256)", "transferFrom(address,address,uint256)", "approve(address,uint256)"),
    *("increaseAllowance(address,uint256)", "setApprovalForAll(address,bool)"),
    "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)",
    "permit(address,address,uint256,uint256,bool,uint8,bytes32,bytes32)",
    *("safeTransferFrom(address,address,uint256)", "safeTransferFrom(address,address,uint256,bytes)"),
    "safeTransferFrom(address,address,uint256,uint256,bytes)",
    "safeBatchTransferFrom(address,address,uint256[],uint256[],bytes)",
    *("multicall(bytes[])", "multicall(uint256,bytes[])", "multicall(bytes32,bytes[])"),
    *("execute(address,uint256,bytes)", "execute(bytes,bytes[])", "execute(bytes,bytes[],uint256)"),
    *("execute(bytes32,bytes)", "aggregate((address,bytes)[])"),
)
_IMPLEMENTATION = "0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc"  # EIP-1967
_BEACON = "0xa3f0ad74e5423aebfd80d3ef4346578335a9a72aeaee59ff6cb3582b35133d50"  # EIP-1967
_NOBODY = "11" * 20
_UNANSWERED = (-32005, -32601, -32602, 429)  # the node did not run the probe; nothing is known


class NodeCalls(Protocol):
    """The pinned node."""

    async def call(self, method: str, *params: Any) -> Any:
        """Return the decoded result; raise the node's error, or `Disconnected`."""


def selector(signature: str) -> bytes:
    """Return the first four bytes of the signature's Keccak-256."""
    return bytes(keccak(text=signature)[:4])


_FORBIDDEN_SELECTORS = frozenset(selector(signature) for signature in _STANDARD)
_PROBES = {
    "allowance(address,address)": "0x" + selector("allowance(address,address)").hex() + 2 * ("00" * 12 + _NOBODY),
    "isApprovedForAll(address,address)": "0x"
    + selector("isApprovedForAll(address,address)").hex()
    + 2 * ("00" * 12 + _NOBODY),
}


def refuse_functions(signatures: Iterable[str]) -> None:
    """Raise `Unauthorized` for a function by which a gateway could move what is not its own; overloads and selector
    twins of the known ones included.
    """
    for signature in signatures:
        name = signature.partition("(")[0]
        if name in _FORBIDDEN_NAMES or _SAFE_TRANSFER.fullmatch(name) or selector(signature) in _FORBIDDEN_SELECTORS:
            raise Unauthorized(
                f"a gateway function may not be {signature}: by it other contracts' money could be moved"
            )


class Gateways:
    """Checks gateways against the chain; remembers the code that was approved, by address."""

    def __init__(self, l1: NodeCalls, space: Space) -> None:
        self.node = l1
        self._space = space

    async def check(self, gateway: Gateway) -> None:
        """Check a gateway for install and remember its code. Raise `Unauthorized`, `InvalidParams`, or `Disconnected`."""
        await self.refuse_unfit(gateway)
        code = await self.code_hash(gateway.address)
        self._space.write(put={gateway.address.lower().encode(): code.encode()})

    async def refuse_unfit(self, gateway: Gateway) -> None:
        """Raise `Unauthorized` for forbidden functions and for a contract that answers like a token."""
        refuse_functions((*gateway.deposit, *gateway.withdraw, *gateway.dispute))
        for signature, data in _PROBES.items():
            if await self._answers(gateway.address, data):
                raise Unauthorized(
                    f"{gateway.address} answers {signature}: it is a token, and no token can be a gateway"
                )

    async def approved_code(self, gateway: Gateway) -> str:
        """Return the hash of the code the owner approved; at the first sight of a gateway that is the present one."""
        key = gateway.address.lower().encode()
        known = self._space.get(key)
        if known is None:
            await self.check(gateway)
            known = self._space.get(key)
        return (known or b"").decode()

    async def code_hash(self, address: str) -> str:
        """Return the hash of the contract's code and, behind an EIP-1967 proxy or beacon, of the implementation's.

        Raise `InvalidParams` where there is no contract.
        """
        code = await self._code(address)
        if not code:
            raise InvalidParams("gateway", f"a contract; {address} has no code on this chain", "an empty account")
        implementation = await self._implementation(address)
        behind = await self._code(implementation) if implementation is not None else b""
        return "0x" + bytes(keccak(keccak(code) + (implementation or "").encode() + keccak(behind))).hex()

    async def _answers(self, address: str, data: str) -> bool:
        try:
            answer = await self.node.call("eth_call", {"to": address, "data": data}, "latest")
        except Disconnected:
            raise
        except RpcError as error:
            if error.code in _UNANSWERED:
                raise  # not known is not fine
            return False
        return isinstance(answer, str) and len(answer) >= 2 + 64

    async def _code(self, address: str) -> bytes:
        code = await self.node.call("eth_getCode", address, "latest")
        return bytes.fromhex(code[2:]) if isinstance(code, str) else b""

    async def _implementation(self, address: str) -> str | None:
        if (named := await self._stored(address, _IMPLEMENTATION)) is not None:
            return named
        beacon = await self._stored(address, _BEACON)
        if beacon is None:
            return None
        call = {"to": beacon, "data": "0x" + selector("implementation()").hex()}
        try:
            return _address_in(await self.node.call("eth_call", call, "latest")) or beacon
        except Disconnected:
            raise
        except RpcError as error:
            if error.code in _UNANSWERED:
                raise
            return beacon  # it names none, so what stands there is all there is

    async def _stored(self, address: str, slot: str) -> str | None:
        return _address_in(await self.node.call("eth_getStorageAt", address, slot, "latest"))


def _address_in(word: Any) -> str | None:
    """Return the address in a word of storage, None where it is empty."""
    number = int(word[:66], 16) if isinstance(word, str) and word not in ("0x", "") else 0
    return f"0x{number & ((1 << 160) - 1):040x}" if number else None
