"""Sees to it that a phrase is served by one daemon of this user (hardening.md 24): at the start, and when a keystore is made later.

With `--dev` nothing is seen to: a phrase of test money stands in many data directories at once.
"""

from __future__ import annotations

from collections.abc import Callable

from proxy.app.options import StartRefused
from proxy.storage.phrase_lock import PhraseInUse, PhraseLock
from proxy.wallet.keyring import Keyring
from proxy.wallet.keystore import Keystore


def take_phrase(lock: PhraseLock, keystore: Keystore, notice: Callable[[str], None]) -> None:
    """Take the lock of the keystore's phrase, if there is one. Raise `StartRefused` where another daemon serves it."""
    first = next((account.address for account in keystore.accounts() if account.index == 0), None)
    if first is None:
        return
    try:
        lock.take(first)
    except PhraseInUse as error:
        raise StartRefused(str(error)) from error
    except OSError as error:
        notice(f"l2proxy: WARNING: nothing keeps a second daemon from this phrase: {error}")


def take_phrase_when_unlocked(lock: PhraseLock, keyring: Keyring, notice: Callable[[str], None]) -> None:
    """Take it once a keystore made while the daemon runs is unlocked; where another serves the phrase, lock it again."""

    def unlocked() -> None:
        try:
            take_phrase(lock, keyring.keystore, notice)
        except StartRefused as error:
            keyring.lock()
            notice(f"l2proxy: the accounts were locked again: {error}")

    keyring.on_unlock(unlocked)
