"""An HTTP response is read alike however it arrives, and what can be read in two ways is not read at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.arrival import Keeping, Oversize
from proxy.upstream.http_response import Body, NotHttp, ResponseReader

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def read(stream: bytes, cuts: tuple[int, ...] = (10_000,), *, limit: int = 1000, end: bool = False) -> ResponseReader:
    reader, position, whole = ResponseReader(Keeping(limit)), 0, False
    for index in range(len(stream)):
        piece = stream[position : position + cuts[index % len(cuts)]]
        position += len(piece)
        if whole or not piece:
            break
        whole = reader.feed(piece)
    assert whole or (end and reader.feed_eof())
    return reader


CUTS = st.lists(st.integers(1, 40), min_size=1, max_size=10).map(tuple)


@given(CUTS, st.binary(max_size=300))
def test_with_a_length(cuts: tuple[int, ...], body: bytes) -> None:
    reader = read(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body, cuts)
    assert (reader.status, reader.body, reader.keep_alive, reader.trailing) == (200, body, True, False)


@given(CUTS, st.lists(st.binary(min_size=1, max_size=100), max_size=5), st.sampled_from([b"", b";a=b", b"  "]))
def test_in_chunks(cuts: tuple[int, ...], chunks: list[bytes], extension: bytes) -> None:
    coded = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    for trailer in (b"", b"Expires: never\r\n"):
        reader = read(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n" + trailer + b"\r\n", cuts)
        assert (reader.body, reader.keep_alive, reader.trailing) == (b"".join(chunks), True, False)


@given(CUTS, st.binary(max_size=300))
def test_until_the_connection_ends(cuts: tuple[int, ...], body: bytes) -> None:
    reader = read(HEAD + b"\r\n" + body, cuts, end=True)
    assert (reader.body, reader.keep_alive) == (body, False)


@pytest.mark.parametrize(
    ("lines", "keeps"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200\r\nConnection: keep-alive\r\n", True),
        (b"HTTP/1.1 200 OK\r\nconnection: Close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Encoding: identity\r\n", True),
    ],
)
def test_when_the_connection_may_serve_again(lines: bytes, keeps: bool) -> None:
    reader = read(lines + b"CONTENT-LENGTH:2\r\n\r\n{}")
    assert (reader.body, reader.keep_alive) == (b"{}", keeps)


def test_more_than_one_response_is_noticed() -> None:
    for framing in (b"Content-Length: 2\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"):
        assert read(HEAD + framing + b"HTTP/1.1 200 OK\r\n").trailing


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_some_have_no_body(status: bytes) -> None:
    assert read(b"HTTP/1.1 " + status + b"\r\n\r\n").body == b""


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 2000\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 1500,
        b"\r\n" + b"x" * 1500,
    ],
)
def test_what_is_above_the_limit_ends_early(framing: bytes) -> None:
    reader = ResponseReader(Keeping(1000))
    assert reader.feed(HEAD + framing)
    body: Body = reader.body
    assert isinstance(body, Oversize)
    assert not reader.keep_alive


@pytest.mark.parametrize(
    "stream",
    [
        b"<html>\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 2, 2\r\n\r\n{}",
        HEAD + b"Content-Length : 2\r\n\r\n{}",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        HEAD + b"X: " + b"x" * 70_000,
    ],
)
def test_what_is_no_http_is_refused(stream: bytes) -> None:
    with pytest.raises(NotHttp):
        ResponseReader(Keeping(1000)).feed(stream)
