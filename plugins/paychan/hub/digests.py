"""What the channel's parties sign (EIP-712), computed by hand for speed: digests, signatures, recovery.

The domain binds chain and contract, every message the channel id. Signatures are 65 bytes with a low s, as the contract
demands; nothing else is ever accepted, so that a signature has one verdict here and there.
"""

from __future__ import annotations

from hashlib import sha256

from coincurve import PrivateKey, PublicKey
from eth_utils.crypto import keccak

HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_DOMAIN = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_VOUCHER = keccak(b"Voucher(bytes32 channel,address payer,uint64 nonce,uint256 amount,bytes32 order)")
_WITHDRAWAL = keccak(b"Withdrawal(bytes32 channel,uint256 total,uint256 deadline)")
_FINAL = keccak(b"Final(bytes32 channel,uint256 sent,uint256 received)")
_LOGIN = keccak(b"Login(address owner,bytes32 challenge)")


def order_of(counterparty: str, value: int) -> bytes:
    """Return what a voucher names as its purpose: whom (or from whom) and how much, 32 bytes."""
    return sha256(b"l2proxy paychan order" + bytes.fromhex(counterparty[2:]) + _word(value)).digest()


class Domain:
    """One contract on one chain: every digest starts from it."""

    def __init__(self, chain_id: int, contract: str) -> None:
        names = keccak(b"l2proxy paychan") + keccak(b"1")
        self._prefix = b"\x19\x01" + keccak(_DOMAIN + names + _word(chain_id) + _address(contract))

    def voucher(self, channel: bytes, payer: str, nonce: int, amount: int, order: bytes) -> bytes:
        """Digest of a cumulative payment promise."""
        return self._digest(_VOUCHER + channel + _address(payer) + _word(nonce) + _word(amount) + order)

    def withdrawal(self, channel: bytes, total: int, deadline: int) -> bytes:
        """Digest of the hub's consent to take money out."""
        return self._digest(_WITHDRAWAL + channel + _word(total) + _word(deadline))

    def final(self, channel: bytes, sent: int, received: int) -> bytes:
        """Digest of an agreed close."""
        return self._digest(_FINAL + channel + _word(sent) + _word(received))

    def login(self, owner: str, challenge: bytes) -> bytes:
        """Digest by which a user shows that it holds the channel's state key."""
        return self._digest(_LOGIN + _address(owner) + challenge)

    def _digest(self, content: bytes) -> bytes:
        return bytes(keccak(self._prefix + keccak(content)))


class Key:
    """The hub's signing key."""

    def __init__(self, secret: bytes) -> None:
        self._key = PrivateKey(secret)
        self.secret = secret
        self.address = _address_of(self._key.public_key)

    def sign(self, digest: bytes) -> bytes:
        """Return r, s, v: 65 bytes, low s, v 27 or 28."""
        signature = self._key.sign_recoverable(digest, hasher=None)
        return signature[:64] + bytes([signature[64] + 27])


def recover(digest: bytes, signature: bytes) -> str | None:
    """Return the lower-case address that signed, or None for what the contract would refuse."""
    if len(signature) != 65 or signature[64] not in (27, 28):
        return None
    if int.from_bytes(signature[32:64], "big") > HALF_ORDER:
        return None
    try:
        public = PublicKey.from_signature_and_message(signature[:64] + bytes([signature[64] - 27]), digest, hasher=None)
    except Exception:  # noqa: BLE001 - coincurve raises its own and plain exceptions for numbers off the curve
        return None
    return _address_of(public)


def _address_of(key: PublicKey) -> str:
    return "0x" + bytes(keccak(key.format(compressed=False)[1:]))[-20:].hex()


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def _address(value: str) -> bytes:
    return bytes(12) + bytes.fromhex(value[2:])
