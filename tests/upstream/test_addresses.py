"""Which node an entry of the config names, and what of it may be shown."""

from __future__ import annotations

import pytest

from proxy.upstream.addresses import BadAddress, Kind, parse, shown


@pytest.mark.parametrize(
    ("text", "kind", "local"),
    [
        ("http://127.0.0.1:8545", Kind.HTTP, True),
        ("https://mainnet.example/v3/key", Kind.HTTP, False),
        ("ws://localhost:8546", Kind.WS, True),
        ("wss://[::1]:8546/x", Kind.WS, True),
        ("http://127.8.9.1", Kind.HTTP, True),
        ("http://127.0.0.1.example", Kind.HTTP, False),
        ("http://localhost.example", Kind.HTTP, False),
        ("/run/geth/geth.ipc", Kind.IPC, True),
        ("geth.ipc", Kind.IPC, True),
        (" http://127.0.0.1:8545 ", Kind.HTTP, True),
    ],
)
def test_addresses(text: str, kind: Kind, local: bool) -> None:
    address = parse(text)
    assert (address.kind, address.local) == (kind, local)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("localhost:8545", "did you mean http://localhost:8545?"),
        ("127.0.0.1:8545", "did you mean http://127.0.0.1:8545?"),
        ("ftp://host", "not ftp://"),
        ("http://", "names no host"),
        ("http://host:99999", "not a URL"),
        ("http://[::1", "not a URL"),
        ("http://a b/", "blanks"),
        ("dev", "embedded"),
    ],
)
def test_what_is_no_address_says_why(text: str, says: str) -> None:
    with pytest.raises(BadAddress, match=None) as caught:
        parse(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://user:secret@node.example:8545/v3/secret?key=secret#secret", "https://node.example:8545"),
        ("wss://[::1]:1/secret", "wss://[::1]:1"),
        ("/home/owner/secret.ipc", "a unix socket"),
        ("http://user:secret@[::1", "a malformed URL"),
    ],
)
def test_secrets_of_an_address_are_not_shown(text: str, expected: str) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize(
    "text", ["ftp://u:secret@h/secret", "http://u:secret@h:99999/secret", "http://u:secret@/secret"]
)
def test_nor_in_an_error(text: str) -> None:
    with pytest.raises(BadAddress) as caught:
        parse(text)
    assert "secret" not in str(caught.value)


def test_nor_in_its_repr() -> None:
    assert "secret" not in repr(parse("https://u:secret@h/secret"))
