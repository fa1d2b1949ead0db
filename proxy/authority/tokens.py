"""Named bearer tokens: who holds the text may call as `token:<name>`.

A token is 32 random bytes, shown once and kept as SHA-256 (random bytes need no slow hash; security.md 5). What it may
do are permissions of its origin (permissions.py); here stand only its name, the page it is bound to, and its end.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from proxy.authority.origins import NAME
from proxy.storage import Space


class TokenError(ValueError):
    """The token cannot be made or found; the message says why."""


@dataclass(frozen=True)
class TokenIdentity:
    """Whom a token speaks for; `origin`: the only page that may use it (None: programs, which send no Origin)."""

    name: str
    origin: str | None


class Token(msgspec.Struct, frozen=True):
    """A token as it lies on disk. `created` and `expires` are unix seconds."""

    name: str
    digest: str
    created: int
    origin: str | None = None
    expires: int | None = None


class Tokens:
    """The tokens of one data directory."""

    def __init__(self, space: Space, clock: Callable[[], float] = time.time) -> None:
        self._space, self._clock = space, clock
        self._latest = 0.0
        self._revoked: list[Callable[[str], None]] = []
        self._by_name = {key.decode(): msgspec.json.decode(value, type=Token) for key, value in space.scan()}
        self._by_digest = {token.digest: token for token in self._by_name.values()}

    def new(self, name: str, origin: str | None = None, expires_in: int | None = None) -> str:
        """Make a token and return its text, which is kept nowhere. `expires_in`: seconds from now (None: no end)."""
        self.check_new(name)
        now = self._now()
        text = secrets.token_urlsafe(32)
        token = Token(name, _digest(text), int(now), origin, None if expires_in is None else int(now) + expires_in)
        old = self._by_name.get(name)
        self._space.write({name.encode(): msgspec.json.encode(token)})
        if old is not None:
            self._forget(old)
        self._by_name[name] = self._by_digest[token.digest] = token
        return text

    def check_new(self, name: str) -> None:
        """Raise `TokenError` if no token of this name can be made."""
        if NAME.fullmatch(name) is None:
            raise TokenError(f"{name!r} is no name for a token: it has 1 to 64 of A-Z a-z 0-9 . _ -")
        if self.alive(name):
            raise TokenError(f"there is a token {name} already; `l2proxy token revoke {name}` takes it back")

    def check_known(self, name: str) -> None:
        """Raise `TokenError` if there is no token of this name."""
        if name not in self._by_name:
            raise TokenError(f"there is no token {name}; `l2proxy token list` shows all")

    def verify(self, text: str) -> TokenIdentity | None:
        """Return whom `text` speaks for, None if it is no token in force."""
        digest = _digest(text)
        # The look-up compares digests of what the caller sent: its time tells nothing about a stored token.
        token = self._by_digest.get(digest)
        if token is None or not hmac.compare_digest(token.digest, digest) or not self.alive(token.name):
            return None
        return TokenIdentity(token.name, token.origin)

    def alive(self, name: str) -> bool:
        """Tell whether there is a token of this name that has not expired."""
        token = self._by_name.get(name)
        return token is not None and (token.expires is None or token.expires > self._now())

    def all(self) -> list[Token]:
        """Return every token, expired ones included, by name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    def revoke(self, name: str) -> None:
        """Take a token back, at once; raise `TokenError` if there is none."""
        self.check_known(name)
        token = self._by_name[name]
        self._space.write(delete=[name.encode()])
        self._forget(token)
        for callback in self._revoked:
            callback(name)

    def on_revoked(self, callback: Callable[[str], None]) -> None:
        """Call `callback(name)` after a token was revoked: whoever holds its connections closes them."""
        self._revoked.append(callback)

    def _forget(self, token: Token) -> None:
        del self._by_name[token.name], self._by_digest[token.digest]

    def _now(self) -> float:
        self._latest = max(self._latest, self._clock())
        return self._latest


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
