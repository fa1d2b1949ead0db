"""Who asks: canonical origins only, exact hosts only, one token at most."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.waist import OriginKind
from proxy.server.identity import Turned, check_host, host_names, identify, is_web_origin, page_of, token_in
from tests.server.conftest import BOUND, PAGE, TOKEN, Known, TokenBook


@pytest.mark.parametrize(
    "origin",
    [
        *("https://app.example", "http://localhost:3000", "http://127.0.0.1:8080", "http://[::1]:3000", "https://a"),
        *("chrome-extension://abcdefghijklmnop", "moz-extension://0f0e5c1c-1b1a-4d5e-8d2a-000000000000"),
        *("http://app.example", "https://xn--80ak6aa92e.com", "https://a.example:8443", "https://a.example:80"),
    ],
)
def test_canonical_origins(origin: str) -> None:
    assert is_web_origin(origin)


@pytest.mark.parametrize(
    "origin",
    [
        *("", "null", "https://", "https://App.example", "HTTPS://app.example", "https://app.example/", "app.example"),
        *(
            "https://app.example:443",
            "http://localhost:80",
            "https://a:0",
            "https://a:01",
            "https://a:65536",
            "https://a:",
        ),
        *("https://user@app.example", "https://app.example#x", "https://app.example?x", "https://app.example:80:80"),
        *("https://app.example.", "https://.app", "https://a..b", "https://a_b", "https://ä.example", "https://a b"),
        *("https://a,https://b", "https://a https://b", "https://[::1", "https://[0:0::1]", "https://[::1]x", "*"),
        *("file://", "https://a\n", "\thttps://a", "https://a\x00", "https://-a", "https://a-", "https://" + "a" * 400),
        *("javascript:alert(1)", "data:text/html,x", "https:app.example", "https:///app.example"),
    ],
)
def test_what_is_no_origin(origin: str) -> None:
    assert not is_web_origin(origin)
    with pytest.raises(Turned) as turned:
        page_of([origin])
    assert turned.value.status == 403


def test_two_origins_are_none() -> None:
    with pytest.raises(Turned):
        page_of([PAGE, PAGE])
    assert page_of([]) is None


@given(st.text(max_size=60) | st.from_regex(r"[a-z]{1,6}://[a-z0-9.:\[\]-]{0,20}"))
def test_an_origin_is_of_the_few_characters_allowed(text: str) -> None:
    if is_web_origin(text):
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789.:/[]-")


def test_host_names() -> None:
    names = host_names(8645, ["box.lan", "box.lan:9999", "[fe80::1]"])
    assert names == {"127.0.0.1:8645", "localhost:8645", "[::1]:8645", "box.lan:8645", "box.lan:9999", "[fe80::1]:8645"}
    assert "localhost" in host_names(80)
    for values in (
        [],
        [""],
        ["127.0.0.1"],
        ["127.0.0.1:8645", "127.0.0.1:8645"],
        ["LOCALHOST:8645"],
        ["localhost.:8645"],
    ):
        with pytest.raises(Turned, match="hosts"):
            check_host(values, names)
    check_host(["localhost:8645"], names)


@pytest.mark.parametrize(
    ("path", "headers", "token"),
    [
        ("/", [], None),
        ("/?x=1", [], None),
        (f"/{TOKEN}", [], TOKEN),
        ("/", [f"Bearer {TOKEN}"], TOKEN),
        ("/", [f"bearer  {TOKEN} "], TOKEN),
        (f"/{TOKEN}?x", [f"Bearer {TOKEN}"], TOKEN),
    ],
)
def test_where_a_token_may_stand(path: str, headers: list[str], token: str | None) -> None:
    assert token_in(path, headers) == token


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        *(
            (path, [], 404)
            for path in ("", "*", "//", "/a/b", f"/{TOKEN}/", "/a.b", "/%41", "http://127.0.0.1/", "/é", "/a=b")
        ),
        *(("/", [text], 401) for text in ("", "Bearer", "Bearer ", f"Basic {TOKEN}", "Bearer a b", "Bearer é", TOKEN)),
        (f"/{BOUND}", [f"Bearer {TOKEN}"], 401),
        ("/", [f"Bearer {TOKEN}", f"Bearer {TOKEN}"], 401),
        ("/", ["Bearer " + "a" * 300], 401),
    ],
)
def test_what_is_no_token(path: str, headers: list[str], status: int) -> None:
    with pytest.raises(Turned) as turned:
        token_in(path, headers)
    assert turned.value.status == status
    assert TOKEN not in str(turned.value)


def test_a_token_and_a_page() -> None:
    tokens = TokenBook({TOKEN: Known("free"), BOUND: Known("bound", PAGE)})
    assert str(identify(None, None, tokens).origin) == "anonymous"
    assert str(identify(PAGE, None, tokens).origin) == PAGE
    assert str(identify(None, TOKEN, tokens).origin) == "token:free"
    assert str(identify(None, BOUND, tokens).origin) == "token:bound"
    bound = identify(PAGE, BOUND, tokens)
    assert (bound.origin.kind, bound.page) == (OriginKind.TOKEN, PAGE)
    for page, token in ((PAGE, TOKEN), ("https://evil.example", BOUND), (None, "x")):
        with pytest.raises(Turned) as turned:
            identify(page, token, tokens)
        assert turned.value.status == 401
    assert TOKEN not in repr(identify(None, TOKEN, tokens))


def test_an_identity_holds_while_its_token_does() -> None:
    tokens = TokenBook({TOKEN: Known("free")})
    identity = identify(None, TOKEN, tokens)
    assert identity.holds()
    tokens.known[TOKEN] = Known("another")
    assert not identity.holds()
    del tokens.known[TOKEN]
    assert not identity.holds()
