"""Keystores of the journeys, with a derivation that costs nothing: each start of a daemon would pay a second for it."""

from __future__ import annotations

from pathlib import Path

from proxy.demo.party import Party
from proxy.wallet.keystore import Keystore
from proxy.wallet.phrases import new_phrase


async def quick_init(party: Party, phrase: Path | None) -> None:
    """Do what `Party.init` does, in this process."""
    party.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    party.password.touch(mode=0o600)
    party.password.write_text("the password of a test\n")
    words = phrase.read_text().strip() if phrase is not None else new_phrase()
    keystore = Keystore(party.data / "keystore.json", scrypt_n=16)
    party.address = keystore.create(words, "the password of a test", imported=phrase is not None).address
