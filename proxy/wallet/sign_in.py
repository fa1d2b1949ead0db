"""Sign-in with Ethereum: is the text a site wants signed a sign-in, and for that very site? (EIP-4361, security.md 12)

A page that gets a sign-in for another domain signed can log in there as the owner. Texts that look like a sign-in without
being a strict one are treated as one: the other domain's server may be lenient too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from middleware.errors import shorten
from middleware.waist import Origin, OriginKind

_FIRST_LINE = re.compile(
    r"\s*(?:(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*)://)?(?P<domain>\S+)\s+wants\s+you\s+to\s+sign\s+in\s+with\s+your"
    r"\s+ethereum\s+account",
    re.IGNORECASE,
)
_ADDRESS_LINE = re.compile(r"^\s*(0x[0-9a-fA-F]{40})\s*$", re.MULTILINE)
_CHAIN_LINE = re.compile(r"^\s*Chain ID:\s*(\d{1,20})\s*$", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SignIn:
    """What a sign-in text claims; None where it does not say."""

    scheme: str | None
    domain: str
    address: str | None
    chain_id: int | None


def parse(data: bytes) -> SignIn | None:
    """Return the claims of a sign-in text, None for any other text or bytes."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    match = _FIRST_LINE.match(text)
    if match is None:
        return None
    address, chain = _ADDRESS_LINE.search(text), _CHAIN_LINE.search(text)
    return SignIn(
        match["scheme"].lower() if match["scheme"] else None,
        match["domain"].lower(),
        address[1] if address else None,
        int(chain[1]) if chain else None,
    )


def warnings_of(sign_in: SignIn, origin: Origin, account: str, chain_id: int) -> tuple[str, ...]:
    """Return what speaks against signing this sign-in for `origin`; every one rejects unless the owner insists."""
    found = []
    if origin.kind is not OriginKind.WEB:
        found.append(
            f"sign_in_not_a_site: a sign-in for {_quoted(sign_in.domain)} is asked by {origin}, which is no web page"
        )
    elif not _is_for(sign_in, origin.name):
        found.append(f"sign_in_domain: this logs in at {_quoted(sign_in.domain)}, but {origin} asks for it")
    if sign_in.address is not None and sign_in.address.lower() != account.lower():
        found.append(f"sign_in_account: the text names account {sign_in.address}, the signature would be {account}'s")
    if sign_in.chain_id is not None and sign_in.chain_id != chain_id:
        found.append(f"sign_in_chain: the text names chain {sign_in.chain_id}, this proxy serves {chain_id}")
    return tuple(found)


def _is_for(sign_in: SignIn, origin: str) -> bool:
    parts = urlsplit(origin)
    if sign_in.scheme is not None and sign_in.scheme != parts.scheme:
        return False
    return sign_in.domain == parts.netloc.lower()


def _quoted(domain: str) -> str:
    return shorten(domain, 64)
