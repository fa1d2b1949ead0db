"""The dapp door against hostile pages (security.md 1-5; hardening.md 5, 6): tables through raw sockets, over every route.

Each row goes as a POST, as a WebSocket upgrade and as a preflight; nothing of it may ever reach a handler.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from proxy.server.door import Door
from proxy.server.http import DappListener
from tests.server.conftest import (
    BOUND,
    CALL,
    JSON,
    PAGE,
    TOKEN,
    Echo,
    HttpAnswer,
    exchange,
    head,
    lane,  # noqa: F401  a fixture
    listening,
    post,
    read_answer,
)

pytestmark = pytest.mark.usefixtures("lane")

ROUTES = ["post", "websocket", "preflight", "get"]
UPGRADE = (
    *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)


async def ask(port: int, route: str, *lines: str, host: str | None = None, path: str = "/") -> HttpAnswer:
    """Send the same header lines by one of the routes."""
    match route:
        case "post":
            data = head(port, JSON, *lines, host=host, path=path, size=len(CALL)) + CALL
        case "websocket":
            data = head(port, *UPGRADE, *lines, host=host, path=path, method="GET")
        case "preflight":
            data = head(port, "Access-Control-Request-Method: POST", *lines, host=host, path=path, method="OPTIONS")
        case _:
            data = head(port, *lines, host=host, path=path, method="GET")
    return await exchange(port, data)


HOSTS = [
    *("evil.example", "evil.example:{port}", "127.0.0.1", "localhost", "127.0.0.1:{other}", "localhost:{other}"),
    *("0.0.0.0:{port}", "[::]:{port}", "127.0.0.2:{port}", "192.168.1.5:{port}", "127.1:{port}", "2130706433:{port}"),
    *(
        "localhost.:{port}",
        "127.0.0.1.:{port}",
        "LOCALHOST:{port}",
        "Localhost:{port}",
        "127.0.0.1:{port}.evil.example",
    ),
    *("localhost:{port}@evil.example", "evil.example#localhost:{port}", "localhost:{port},evil.example", "::1:{port}"),
    *(
        "[::1]",
        "[0:0:0:0:0:0:0:1]:{port}",
        "[::1%25lo]:{port}",
        "localhost:0{port}",
        "localhost:{port}/",
        "http://localhost:{port}",
    ),
    *("app.localhost:{port}", "localhost .:{port}", "\udcff\udcfe:{port}", "127.0.0.1:{port}\tx", "-", ":{port}", " "),
]


@pytest.mark.parametrize("route", ROUTES)
async def test_a_host_that_is_not_ours_is_403_before_anything(route: str) -> None:
    echo = Echo()
    async with listening(echo) as listener:
        for row in HOSTS:
            host = row.format(port=listener.port, other=listener.port + 1)
            answer = await ask(listener.port, route, f"Origin: {PAGE}", host=host)
            assert answer.status == 403, host
            assert "[listen] hosts" in answer.error["message"]
            assert "access-control-allow-origin" not in answer.headers
        for twice in ("Host: evil.example", f"Host: localhost:{listener.port}"):
            assert (await ask(listener.port, route, twice)).status == 403
        for missing in ([], ["Host:"]):
            answer = await ask(listener.port, route, *missing, host="")
            assert answer.status == 403
            assert "[listen] hosts" in answer.error["message"]
    assert echo.seen == []


@pytest.mark.parametrize("route", ROUTES)
async def test_a_host_is_looked_at_before_path_token_and_method(route: str) -> None:
    async with listening(Echo()) as listener:
        for path in ("/", f"/{TOKEN}", "/nothing/here", "/metrics", "/wrong"):
            assert (await ask(listener.port, route, host="evil.example", path=path)).status == 403


async def test_another_name_holds_only_when_the_config_adds_it() -> None:
    async with listening(Echo(), hosts=["box.lan"]) as listener:
        assert (await post(listener.port, host=f"box.lan:{listener.port}")).status == 200
        assert (await post(listener.port, host="box.lan")).status == 403
        assert (await post(listener.port, host=f"x.box.lan:{listener.port}")).status == 403


ORIGINS = [
    *("null", "https://App.example", "https://app.example/", "https://app.example:443", "http://localhost:80", "*"),
    *(
        "https://app.example.",
        "https://user@app.example",
        "https://a.example, https://b.example",
        "app.example",
        "file://",
    ),
    *(
        "https://app.example\tx",
        "HTTPS://app.example",
        "https://app_x.example",
        "https://\udcffx",
        "https://",
        "undefined",
    ),
    *(
        "https://xn--80ak6aa92e.com@evil",
        "https://app.example%00",
        "javascript:alert(1)",
        "https://[::1",
        " ",
        "about:blank",
    ),
]


@pytest.mark.parametrize("route", ROUTES)
async def test_a_malformed_origin_is_403_before_anything(route: str) -> None:
    echo = Echo()
    async with listening(echo) as listener:
        for origin in ORIGINS:
            answer = await ask(listener.port, route, f"Origin: {origin}")
            assert answer.status == 403, origin
            assert answer.error["code"] == 4100
            assert "access-control-allow-origin" not in answer.headers
        for lines in ((f"Origin: {PAGE}", f"Origin: {PAGE}"), (f"Origin: {PAGE}", "Origin: null"), ("Origin:",)):
            assert (await ask(listener.port, route, *lines)).status == 403
        with_token = await ask(listener.port, route, "Origin: null", path=f"/{TOKEN}")
        assert with_token.status == 403
    assert echo.seen == []


async def test_a_page_of_another_local_port_is_a_page_like_any_other() -> None:
    echo = Echo()
    async with listening(echo) as listener:
        for page in ("http://localhost:3000", "http://127.0.0.1:3000", f"http://127.0.0.1:{listener.port}"):
            answer = await post(listener.port, f"Origin: {page}")
            assert (answer.json["result"], answer.headers["access-control-allow-origin"]) == (page, page)


@pytest.mark.parametrize("route", ROUTES)
async def test_a_token_used_from_a_page_it_was_not_made_for(route: str) -> None:
    """A leaked URL token works from no page but its own, and that page does not even learn what came back."""
    echo = Echo()
    async with listening(echo) as listener:
        rows = [
            ((f"Origin: {PAGE}",), f"/{TOKEN}"),
            ((f"Origin: {PAGE}", f"Authorization: Bearer {TOKEN}"), "/"),
            (("Origin: https://evil.example",), f"/{BOUND}"),
            (("Origin: http://app.example",), f"/{BOUND}"),
            (("Origin: https://app.example:8443",), f"/{BOUND}"),
            ((f"Authorization: Bearer {TOKEN}",), f"/{BOUND}"),
            ((f"Authorization: Bearer {TOKEN}", f"Authorization: Bearer {BOUND}"), "/"),
            (("Authorization: Basic dTpw",), "/"),
            (("Authorization:",), "/"),
            ((f"Origin: {PAGE}",), "/" + "C" * 43),
        ]
        for lines, path in rows:
            answer = await ask(listener.port, route, *lines, path=path)
            assert answer.status == 401, (lines, path)
            assert "access-control-allow-origin" not in answer.headers
            assert TOKEN.encode() not in answer.body
            assert BOUND.encode() not in answer.body
    assert echo.seen == []


async def test_answers_to_pages_never_widen_cors() -> None:
    async with listening(Echo()) as listener:
        for page in (PAGE, "https://evil.example", "chrome-extension://abcdefghijklmnop"):
            for route in ("post", "preflight", "get"):
                answer = await ask(listener.port, route, f"Origin: {page}")
                assert answer.headers["access-control-allow-origin"] == page
                assert "Origin" in answer.headers["vary"]
                assert "access-control-allow-credentials" not in answer.headers
                assert "access-control-expose-headers" not in answer.headers


@pytest.mark.parametrize(
    "kind",
    [
        *(
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "text/json",
            "application/jsonp",
            "",
        ),
        *(
            "text/plain; application/json",
            "application/json, text/plain",
            "application/json; charset=utf-16",
            "application",
        ),
        *(
            "application/json; charset=utf-7",
            "application/json; boundary=x",
            "application/vnd.api+json",
            "application/ json",
        ),
    ],
)
async def test_only_json_needs_a_preflight_and_only_json_is_read(kind: str) -> None:
    echo = Echo()
    async with listening(echo) as listener:
        answer = await exchange(listener.port, head(listener.port, f"Content-Type: {kind}", size=len(CALL)) + CALL)
        assert (answer.status, answer.error["code"]) == (415, -32600)
        for lines in ((), (JSON, "Content-Type: text/plain"), (JSON, JSON)):
            twice = await exchange(listener.port, head(listener.port, *lines, size=len(CALL)) + CALL)
            assert twice.status == 415
    assert echo.seen == []


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "OPTIONS", "post", "FOO"]
)
async def test_only_post(method: str) -> None:
    echo = Echo()
    async with listening(echo) as listener:
        path = "/" if method != "CONNECT" else f"127.0.0.1:{listener.port}"
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(head(listener.port, JSON, method=method, path=path, size=len(CALL)) + CALL)
        first = await reader.readline()
        writer.close()
        assert int(first.split()[1]) in (400, 404, 405), first
    assert echo.seen == []


@pytest.mark.parametrize(
    "path", ["/a/b", "/favicon.ico", "//", "/../", "/%2e", "/.", "/" + "a" * 300, "http://127.0.0.1:{port}/a/b"]
)
async def test_other_paths_are_404(path: str) -> None:
    echo = Echo()
    async with listening(echo) as listener:
        for route in ("post", "websocket"):
            answer = await ask(listener.port, route, path=path.format(port=listener.port))
            assert (answer.status, answer.error["code"]) == (404, -32600)
    assert echo.seen == []


@pytest.mark.parametrize("route", ROUTES)
async def test_a_target_of_absolute_form_must_name_this_listener_as_well(route: str) -> None:
    """RFC 9112, 3.2.2: a server takes it, and its authority counts; the Host must be ours all the same."""
    echo = Echo()
    async with listening(echo) as listener:
        for foreign in ("http://evil.example/", "http://127.0.0.1/", f"http://u@127.0.0.1:{listener.port}/"):
            answer = await ask(listener.port, route, f"Origin: {PAGE}", path=foreign)
            assert (answer.status, "access-control-allow-origin" in answer.headers) == (403, False), foreign
        assert echo.seen == []
        ours = f"http://localhost:{listener.port}/{TOKEN}"
        assert (await ask(listener.port, route, host="evil.example", path=ours)).status == 403
        if route == "post":
            assert (await post(listener.port, path=ours)).json["result"] == "token:free"
            assert (await post(listener.port, path=f"http://127.0.0.1:{listener.port}")).json["result"] == "anonymous"


async def test_only_loopback_is_listened_on() -> None:
    async with listening(Echo()) as listener:
        addresses = {opened.getsockname()[0] for server in listener._listening for opened in server.sockets}
        assert addresses <= {"127.0.0.1", "::1"}
        own = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
        for address in own | {"127.0.0.2"}:
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(str(address), listener.port)


async def test_tokens_stay_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with listening(Echo()) as listener:
        await post(listener.port, path=f"/{TOKEN}")
        await post(listener.port, path=f"/{TOKEN}x")
        await post(listener.port, f"Authorization: Bearer {TOKEN}", path=f"/{BOUND}")
        await exchange(listener.port, f"POST /{TOKEN} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".encode())
        await exchange(listener.port, f"POST /{TOKEN}\x01 HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await exchange(listener.port, f"/{TOKEN} what\r\n\r\n".encode())
    assert TOKEN not in caplog.text
    assert BOUND not in caplog.text


async def test_no_answer_tells_what_software_it_is() -> None:
    async with listening(Echo()) as listener:
        for data in (head(listener.port, method="GET"), b"nonsense\r\n\r\n", head(listener.port, JSON, size=2) + b"{}"):
            answer = await exchange(listener.port, data)
            assert answer.headers.get("server", "l2proxy") == "l2proxy"
            assert b"aiohttp" not in answer.body
            assert answer.error["code"] == -32600


async def test_the_dapp_doors_have_no_admin_method(short_tmp: Path) -> None:
    """Who asks over a dapp door is never the owner, whatever it sends."""
    echo = Echo()
    async with listening(echo) as listener:
        assert isinstance(listener._door, Door)
        await post(listener.port, body=CALL.replace(b"who", b"admin_tokenNew"))
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(head(listener.port, JSON, "X-Forwarded-For: 127.0.0.1", "X-Origin: owner", size=len(CALL)) + CALL)
        assert (await read_answer(reader)).json["result"] == "anonymous"
        writer.close()
    assert {str(context.origin) for _, context in echo.seen} == {"anonymous"}


def test_a_listener_cannot_be_told_another_address() -> None:
    """There is no setting that binds anything but loopback."""
    import inspect

    assert list(inspect.signature(DappListener.start).parameters) == ["self", "port"]
