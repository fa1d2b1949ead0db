"""The keystore: phrase and keys come back with the password and with nothing else."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from proxy.wallet.key_files import read_key, write_v3
from proxy.wallet.keystore import Keystore, KeystoreError
from proxy.wallet.phrases import PhraseError, check_phrase, new_phrase
from proxy.wallet.sealing import DEFAULT_N, Derivation, SealError, WrongPassword, seal, unseal
from tests.conftest import TEST_PHRASE
from tests.wallet.conftest import OWNER, PASSWORD

ACCOUNT_1 = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
KEY_0 = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"  # anvil prints it for account 0


def test_the_test_phrase_gives_the_accounts_everybody_knows(keystore: Keystore) -> None:
    assert [account.address for account in keystore.accounts()] == [OWNER]
    assert keystore.add_derived(PASSWORD).address == ACCOUNT_1
    assert keystore.private_key(PASSWORD, OWNER).hex() == KEY_0


def test_nothing_secret_lies_in_the_file(keystore: Keystore) -> None:
    text = keystore.path.read_text()
    assert KEY_0 not in text
    assert "junk" not in text
    assert PASSWORD not in text
    assert stat.S_IMODE(keystore.path.stat().st_mode) == 0o600


def test_the_default_cost_is_the_contracts() -> None:
    derivation = Derivation.fresh()
    assert (derivation.n, derivation.r, derivation.p, len(derivation.salt)) == (2**18, 8, 1, 32)
    assert DEFAULT_N == 2**18
    assert Derivation.from_json(derivation.to_json()) == derivation


def test_one_real_key_derivation_seals_and_opens(tmp_path: Path) -> None:
    keystore = Keystore(tmp_path / "keystore.json")
    keystore.create(TEST_PHRASE, PASSWORD)
    assert json.loads(keystore.path.read_text())["kdf"]["n"] == 2**18
    assert Keystore(keystore.path).open(PASSWORD).accounts[0].address == OWNER


@pytest.mark.parametrize("password", ["", "wrong", PASSWORD + " ", PASSWORD.upper()])
def test_another_password_opens_nothing(keystore: Keystore, password: str) -> None:
    with pytest.raises(WrongPassword):
        keystore.open(password)


def test_both_spellings_of_an_accent_are_one_password(tmp_path: Path) -> None:
    keystore = Keystore(tmp_path / "keystore.json", scrypt_n=16)
    keystore.create(TEST_PHRASE, "caf\u00e9")
    assert keystore.open("cafe\u0301").accounts


def test_a_name_is_bound_to_what_it_sealed() -> None:
    key = b"k" * 32
    sealed = seal(key, "phrase", b"secret")
    assert unseal(key, "phrase", sealed) == b"secret"
    with pytest.raises(WrongPassword):
        unseal(key, "imported/0x00", sealed)


def test_existing_keystores_are_left_alone(keystore: Keystore) -> None:
    before = keystore.path.read_bytes()
    with pytest.raises(KeystoreError, match="already"):
        keystore.create(new_phrase(), "other")
    assert keystore.path.read_bytes() == before


def test_imported_keys_come_back(keystore: Keystore) -> None:
    account = keystore.add_imported(PASSWORD, b"\x01" * 32)
    fresh = Keystore(keystore.path)
    assert fresh.private_key(PASSWORD, account.address) == b"\x01" * 32
    assert [entry.address for entry in fresh.accounts()] == [OWNER, account.address]
    with pytest.raises(KeystoreError, match="already"):
        fresh.add_imported(PASSWORD, b"\x01" * 32)
    assert fresh.add_derived(PASSWORD).index == 1


def tampered(document: dict[str, Any], *place: str, value: Any) -> bytes:
    inner: Any = document
    for name in place[:-1]:
        inner = inner[int(name)] if isinstance(inner, list) else inner[name]
    inner[int(place[-1]) if isinstance(inner, list) else place[-1]] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("format",), "other"),
        (("version",), 2),
        (("sealed",), []),
        (("sealed",), {}),
        (("sealed", "phrase"), {}),
        (("sealed", "phrase", "cipher"), "none"),
        (("sealed", "phrase", "nonce"), "00"),
        (("sealed", "phrase", "text"), "zz"),
        (("accounts",), [{"address": ACCOUNT_1, "index": 0}]),
        (("accounts",), [{"address": OWNER, "index": -1}]),
        (("accounts",), [{"address": OWNER, "index": 0.5}]),
        (("accounts",), ["x"]),
        (("kdf", "n"), 2**30),
        (("kdf", "n"), 3),
        (("kdf", "n"), True),
        (("kdf", "r"), 2**20),
        (("kdf", "p"), 10**9),
        (("kdf", "salt"), ""),
        (("kdf", "name"), "pbkdf2"),
    ],
)
def test_a_damaged_or_hostile_file_is_refused_in_one_sentence(
    keystore: Keystore, place: tuple[str, ...], value: Any
) -> None:
    keystore.path.write_bytes(tampered(json.loads(keystore.path.read_text()), *place, value=value))
    with pytest.raises((KeystoreError, WrongPassword)) as caught:
        Keystore(keystore.path).open(PASSWORD)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_the_sealed_text_opens_nothing(keystore: Keystore) -> None:
    document = json.loads(keystore.path.read_text())
    text = bytearray.fromhex(document["sealed"]["phrase"]["text"])
    text[3] ^= 1
    document["sealed"]["phrase"]["text"] = text.hex()
    keystore.path.write_text(json.dumps(document))
    with pytest.raises(WrongPassword):
        Keystore(keystore.path).open(PASSWORD)


def test_no_keystore_says_what_to_do(tmp_path: Path) -> None:
    keystore = Keystore(tmp_path / "keystore.json")
    assert keystore.accounts() == ()
    with pytest.raises(KeystoreError, match="l2proxy init"):
        keystore.open("x")


def test_a_failed_write_leaves_the_old_file(keystore: Keystore, monkeypatch: pytest.MonkeyPatch) -> None:
    before = keystore.path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("proxy.storage.files.os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        keystore.add_derived(PASSWORD)
    assert keystore.path.read_bytes() == before
    assert [path.name for path in keystore.path.parent.iterdir()] == ["keystore.json"]
    assert [account.address for account in keystore.accounts()] == [OWNER]


@pytest.mark.parametrize(
    ("phrase", "said"),
    [
        ("", "0 words"),
        ("test " * 11, "11 words"),
        ("test " * 12, "checksum"),
        ("test test test test test test test test test test test xyzzy", "word 12 of"),
        ("qwerty test test plugh test test test test test test test junk", "words 1, 4 of"),
    ],
)
def test_bad_phrases_are_named_by_position_never_quoted(phrase: str, said: str) -> None:
    with pytest.raises(PhraseError, match=said) as caught:
        check_phrase(phrase)
    for word in ("qwerty", "plugh", "xyzzy", "junk", "test "):
        assert word not in str(caught.value)


def test_phrases_are_read_leniently_and_made_strictly() -> None:
    assert check_phrase("  Test test\ttest test test test test\ntest test test test JUNK ") == TEST_PHRASE
    made = {new_phrase() for _ in range(4)}
    assert len(made) == 4
    assert all(check_phrase(phrase) == phrase and len(phrase.split()) == 12 for phrase in made)


def test_damage_is_not_called_a_wrong_password() -> None:
    with pytest.raises(SealError, match="damaged") as caught:
        unseal(b"k" * 32, "phrase", {"cipher": "AES-256-GCM"})
    assert type(caught.value) is SealError


def test_key_files_of_other_wallets() -> None:
    document = write_v3(bytes.fromhex(KEY_0), "other")
    assert read_key(json.dumps(document), "other").hex() == KEY_0
    with pytest.raises(WrongPassword, match="key file"):
        read_key(json.dumps(document), "wrong")
    with pytest.raises(KeystoreError, match="password"):
        read_key(json.dumps(document), None)
    with pytest.raises(KeystoreError, match="V3"):
        read_key(json.dumps({"version": 3, "crypto": {}}), "other")
