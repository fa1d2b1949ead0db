"""Recovery phrases (BIP-39): made, checked, turned into a seed. Words never leave in an error; positions do.

hdwallet is imported where it is used (0.2 s). Text is normalised before it is hashed: single spaces, lower case, NFKD.
"""

from __future__ import annotations

import unicodedata

LENGTHS = (12, 15, 18, 21, 24)


class PhraseError(ValueError):
    """The phrase cannot be used; one sentence that quotes no word of it."""


def new_phrase() -> str:
    """Return a new English phrase of 12 words (128 bits from the system's generator)."""
    from hdwallet.mnemonics import BIP39Mnemonic

    return str(BIP39Mnemonic.from_words(words=12, language="english"))


def check_phrase(text: str) -> str:
    """Return the phrase in normal form. Raise `PhraseError` for a wrong count, an unknown word or a wrong checksum."""
    from hdwallet.exceptions import ChecksumError, Error
    from hdwallet.mnemonics import BIP39Mnemonic

    words = [unicodedata.normalize("NFKD", word.lower()) for word in text.split()]
    if len(words) not in LENGTHS:
        raise PhraseError(f"the phrase has {len(words)} words; a BIP-39 phrase has 12, 15, 18, 21 or 24")
    phrase = " ".join(words)
    try:
        BIP39Mnemonic.decode(phrase)
    except ChecksumError:
        raise PhraseError(
            "the checksum of the phrase is wrong: a word is another one or stands at another place"
        ) from None
    except (Error, ValueError):
        raise PhraseError(_unknown_words(words)) from None
    return phrase


def seed(phrase: str) -> bytes:
    """Return the 64-byte seed of a phrase that `check_phrase` returned, without a passphrase."""
    from hdwallet.seeds import BIP39Seed

    return bytes.fromhex(BIP39Seed.from_mnemonic(phrase))


def _unknown_words(words: list[str]) -> str:
    """Name the positions of words that the best fitting language lacks."""
    from hdwallet.mnemonics import BIP39Mnemonic

    best: list[int] = list(range(1, len(words) + 1))
    language = "english"
    for candidate in ["english", *BIP39Mnemonic.languages]:
        known = set(BIP39Mnemonic.normalize(BIP39Mnemonic.get_words_list_by_language(language=candidate)))
        missing = [position for position, word in enumerate(words, 1) if word not in known]
        if len(missing) < len(best):
            best, language = missing, candidate
    shown = ", ".join(str(position) for position in best)
    subject = f"word {shown} of the phrase is" if len(best) == 1 else f"words {shown} of the phrase are"
    return f"{subject} not in the BIP-39 list ({language})"
