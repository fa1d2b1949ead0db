"""The unlocked signer: what it signs others recover, what is locked stays shut, plugin keys lie where they must."""

from __future__ import annotations

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data

from middleware.errors import InvalidParams, Unauthorized
from proxy.wallet.keyring import Keyring
from proxy.wallet.keystore import Keystore
from proxy.wallet.paths import PathError
from proxy.wallet.recovery import hash_message, recover
from tests.conftest import TEST_PHRASE
from tests.wallet.conftest import OWNER, PASSWORD

TYPED = {
    "types": {
        "EIP712Domain": [{"name": "name", "type": "string"}, {"name": "chainId", "type": "uint256"}],
        "Mail": [{"name": "to", "type": "address"}, {"name": "text", "type": "string"}],
    },
    "primaryType": "Mail",
    "domain": {"name": "m", "chainId": 31337},
    "message": {"to": OWNER, "text": "hi"},
}


def test_messages_and_typed_data_are_signed_as_others_sign_them(keyring: Keyring) -> None:
    signature = keyring.sign_message(OWNER, b"hello")
    assert Account.recover_message(encode_defunct(b"hello"), signature=signature) == OWNER
    assert recover(hash_message(b"hello"), signature) == OWNER
    signature = keyring.sign_typed_data(OWNER, TYPED)
    assert Account.recover_message(encode_typed_data(full_message=TYPED), signature=signature) == OWNER


def test_lock_drops_the_main_keys_at_once(keyring: Keyring) -> None:
    events: list[str] = []
    keyring.on_lock(lambda: events.append("lock"))
    keyring.on_unlock(lambda: events.append("unlock"))
    keyring.lock()
    keyring.lock()
    assert keyring.locked
    assert keyring.addresses() == [OWNER]
    for attempt in (
        lambda: keyring.sign_message(OWNER, b""),
        lambda: keyring.sign_digest(OWNER, b"\0" * 32),
        lambda: keyring.sign_typed_data(OWNER, TYPED),
        lambda: keyring.sign_transaction(OWNER, {}),
        lambda: keyring.plugin_account((7002, 0, 0, 0)),
    ):
        with pytest.raises(Unauthorized, match="locked"):
            attempt()
    keyring.unlock(PASSWORD)
    assert keyring.sign_message(OWNER, b"")
    assert events == ["lock", "unlock"]


def test_an_account_of_nobody_signs_nothing(keyring: Keyring) -> None:
    with pytest.raises(Unauthorized, match="no account"):
        keyring.sign_message("0x70997970C51812dc3A010C7d01b50e0d17dc79C8", b"")


def test_plugin_keys_are_bip32s(keyring: Keyring) -> None:
    Account.enable_unaudited_hdwallet_features()
    for path, text in [((7002, 0, 0, 0), "m/7002'/0'/0'/0'"), ((7002, 0, 0, 3, ~4), "m/7002'/0'/0'/3'/4")]:
        expected = Account.from_mnemonic(TEST_PHRASE, account_path=text)
        key = keyring.plugin_account(path)
        assert (key.address, key.path) == (expected.address, text)
        assert keyring.plugin_private_key(path) == "0x" + bytes(expected.key).hex()
        assert key.public_key.startswith("0x04")
        assert len(key.public_key) == 132


def test_an_opened_subtree_goes_on_while_locked_and_no_other(keyring: Keyring) -> None:
    keyring.open_plugin((7002, 0, 0))
    before = keyring.plugin_account((7002, 0, 0, 9))
    keyring.lock()
    assert keyring.plugin_account((7002, 0, 0, 9)) == before
    assert keyring.plugin_account((7002, 0, 0, 10)).path == "m/7002'/0'/0'/10'"
    signature = keyring.sign_plugin_message((7002, 0, 0, 9), b"watch")
    assert recover(hash_message(b"watch"), signature) == before.address
    with pytest.raises(Unauthorized):
        keyring.plugin_account((7002, 0, 1, 0))
    keyring.close_plugin((7002, 0, 0))
    with pytest.raises(Unauthorized):
        keyring.plugin_account((7002, 0, 0, 9))


@pytest.mark.parametrize(
    "path", [(), (7002,), (7002, 0), (44, 60, 0, 0, 0), (44, 60, 0, ~0, ~0), (7002, ~0, 0), (~7002, 0, 0)]
)
def test_main_accounts_cannot_be_reached_by_plugin_paths(keyring: Keyring, path: tuple[int, ...]) -> None:
    for reach in (keyring.plugin_account, keyring.plugin_private_key, keyring.open_plugin):
        with pytest.raises(PathError):
            reach(path)


def test_many_accounts_of_a_plugin_do_not_grow_memory_without_bound(keyring: Keyring) -> None:
    keyring.open_plugin((7002, 0, 0))
    for index in range(10):
        keyring.plugin_account((7002, 0, 0, index))
    assert len(keyring._plugins) <= 4096


def test_nothing_secret_in_a_repr(keystore: Keystore) -> None:
    secrets = keystore.open(PASSWORD)
    keyring = Keyring(keystore)
    keyring.admit(secrets)
    assert "ac0974" not in repr(secrets) + repr(keyring) + repr(secrets.master)


@pytest.mark.parametrize(
    "bad", ["0x", "0x" + "00" * 64, "0x" + "00" * 65, 5, "0x" + "11" * 64 + "1d", "0x" + "11" * 64 + "00"]
)
def test_only_strict_signatures_are_recovered(bad: str) -> None:
    with pytest.raises(InvalidParams):
        recover(b"\x01" * 32, bad)


def test_the_malleable_twin_is_refused(keyring: Keyring) -> None:
    digest = hash_message(b"x")
    signature = keyring.sign_digest(OWNER, digest)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    r, s, v = signature[2:66], int(signature[66:130], 16), int(signature[130:], 16)
    with pytest.raises(InvalidParams, match="lower half"):
        recover(digest, f"0x{r}{order - s:064x}{55 - v:02x}")
    with pytest.raises(InvalidParams, match="32 bytes"):
        recover(digest[1:], signature)
