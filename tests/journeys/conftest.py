"""A real daemon process for a test: started by its command, reached through its doors."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proxy.demo.party import Party
from proxy.demo.processes import Process
from proxy.wallet.keystore import Keystore
from proxy.wallet.phrases import new_phrase
from tests.conftest import TEST_PHRASE


class Daemon:
    """A running daemon and what its ready line said."""

    def __init__(self, process: Process, data: Path) -> None:
        self.process = process
        self.data = data
        self.ready = process.ready

    @property
    def url(self) -> str:
        return str(self.ready["dapp"])

    @property
    def said(self) -> str:
        """Everything it wrote on standard error so far."""
        return self.process.log.read_text()


@contextlib.asynccontextmanager
async def run_daemon(data: Path, *options: str | Path) -> AsyncIterator[Daemon]:
    """Run `l2proxy run --json --port 0 …` on `data`; it must end well."""
    command = [sys.executable, "-m", "proxy", "run", "--json", "--port", "0", "--data", data, *options]
    process = await Process.start("the daemon", command, data.with_name(f"{data.name}.log"))
    try:
        yield Daemon(process, data)
    finally:
        code = await process.stop()
    assert code == 0, process.log.read_text()


@pytest.fixture(autouse=True)
def quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the keystores of the journeys with a derivation that costs nothing: each start of a daemon would pay a second for it.

    The demo command, its refusals and tests/wallet keep the real one.
    """

    async def init(party: Party, phrase: Path | None) -> None:
        party.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        party.password.touch(mode=0o600)
        party.password.write_text("the password of a test\n")
        words = phrase.read_text().strip() if phrase is not None else new_phrase()
        keystore = Keystore(party.data / "keystore.json", scrypt_n=16)
        party.address = keystore.create(words, "the password of a test", imported=phrase is not None).address

    monkeypatch.setattr(Party, "init", init)


@pytest.fixture
async def alice(short_tmp: Path) -> Party:
    """A user with the test phrase, no daemon yet."""
    party = Party("Alice", short_tmp / "alice")
    phrase = short_tmp / "phrase"
    phrase.write_text(TEST_PHRASE)
    await party.init(phrase)
    return party


def decoded(body: bytes) -> Any:
    return json.loads(body)
