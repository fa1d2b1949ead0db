"""Tokens: shown once, kept as a digest, ended by time and by the owner."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.authority.tokens import TokenError, TokenIdentity, Tokens
from proxy.storage import Database


@pytest.fixture
def tokens(owner: Database, clock: Any) -> Tokens:
    return Tokens(owner.space("tokens"), clock)


def test_a_token_speaks_for_its_name_also_after_a_restart(tokens: Tokens, owner: Database, clock: Any) -> None:
    text = tokens.new("ci", "https://app.example")
    assert len(text) >= 43
    for present in (tokens, Tokens(owner.space("tokens"), clock)):
        assert present.verify(text) == TokenIdentity("ci", "https://app.example")
        assert present.verify(text[:-1]) is None
        assert present.verify("") is None
        assert present.verify("\udcff") is None


def test_the_text_is_kept_nowhere(tokens: Tokens, owner: Database) -> None:
    text = tokens.new("ci")
    kept = b"".join(key + value for key, value in owner.scan(b"", b"\xff"))
    assert text.encode() not in kept


def test_a_token_ends_and_a_clock_set_back_does_not_revive_it(tokens: Tokens, clock: Any) -> None:
    text = tokens.new("ci", expires_in=60)
    clock.now += 59
    assert tokens.verify(text)
    clock.now += 1
    assert tokens.verify(text) is None
    assert not tokens.alive("ci")
    clock.now -= 60
    assert tokens.verify(text) is None
    assert tokens.new("ci") != text
    assert tokens.verify(text) is None


def test_a_revoked_token_is_dead_at_once_and_its_connections_are_told_of(
    tokens: Tokens, owner: Database, clock: Any
) -> None:
    told: list[str] = []
    tokens.on_revoked(told.append)
    text = tokens.new("ci")
    tokens.revoke("ci")
    assert tokens.verify(text) is None
    assert Tokens(owner.space("tokens"), clock).verify(text) is None
    assert told == ["ci"]
    with pytest.raises(TokenError):
        tokens.revoke("ci")


def test_names_are_unique_and_plain(tokens: Tokens) -> None:
    tokens.new("ci")
    for name in ("ci", "", "a b", "a/b", "../x", "x" * 65, "\x1b[2J", "a:b"):
        with pytest.raises(TokenError):
            tokens.new(name)
