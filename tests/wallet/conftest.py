"""The test phrase's keyring, cheap to open, and a chain in memory that knows its accounts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.storage import Database
from proxy.wallet.keyring import Keyring
from proxy.wallet.keystore import Keystore
from tests.conftest import TEST_PHRASE
from tests.wallet.fake_chain import FakeChain

PASSWORD = "correct horse"
OWNER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


@pytest.fixture
def keystore(tmp_path: Path) -> Keystore:
    """A keystore of the test phrase; scrypt so weak that tests are fast."""
    keystore = Keystore(tmp_path / "keystore.json", scrypt_n=16)
    keystore.create(TEST_PHRASE, PASSWORD)
    return keystore


@pytest.fixture
def keyring(keystore: Keystore) -> Keyring:
    """An unlocked keyring."""
    keyring = Keyring(keystore)
    keyring.unlock(PASSWORD)
    return keyring


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database of this test's own."""
    with Database(tmp_path / "chain.db") as database:
        yield database


@pytest.fixture
def chain() -> FakeChain:
    """A chain that mines each transaction at once; the owner has 100 ETH."""
    chain = FakeChain()
    chain.balances[OWNER] = 100 * 10**18
    return chain
