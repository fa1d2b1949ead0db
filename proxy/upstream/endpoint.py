"""Where a node with a URL is, and the bare connection to it: TCP or TLS, nothing of any environment or caller in it.

Used by `http` and `ws`, which speak over it themselves: fixed URL, no redirects, no cookies, no proxies of the environment, no header of
any caller (security.md 8). A user name in the URL becomes its `Authorization`, as everywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import quote, unquote_to_bytes

from yarl import URL

from proxy.upstream.failures import Silent, Unreachable

_QUICKACK = getattr(socket, "TCP_QUICKACK", None)  # Linux

_Protocol = TypeVar("_Protocol")  # an asyncio.Protocol by its methods: compiled classes inherit from nothing else


@dataclass(frozen=True, slots=True, repr=False)
class Endpoint:
    """One URL of a node. `target`: path and query as they were written; `head`: the header lines every request begins with."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    target: bytes
    head: bytes


def endpoint(text: str) -> Endpoint:
    """Read an http(s):// or ws(s):// URL that `addresses` has taken."""
    url = URL(text, encoded=True)
    host = _in_ascii(url.host_subcomponent or "")
    secure = url.scheme in ("https", "wss")
    port = url.port or (443 if secure else 80)
    shown = host if port == (443 if secure else 80) else f"{host}:{port}"
    head = b"Host: %b\r\n" % shown.encode("ascii", "replace")
    if url.raw_user is not None or url.raw_password is not None:
        pair = unquote_to_bytes(url.raw_user or "") + b":" + unquote_to_bytes(url.raw_password or "")
        head += b"Authorization: Basic %b\r\n" % b64encode(pair)
    target = quote(url.raw_path_qs or "/", safe="/%:=&?~+!$,;'@()*[]-._|").encode()
    return Endpoint(_in_ascii(url.raw_host or ""), port, ssl.create_default_context() if secure else None, target, head)


def acknowledge(transport: asyncio.Transport) -> None:
    """Acknowledge what has come, at once: a node with Nagle's algorithm sends nothing more before, and the system may take 40 ms for it."""
    carrier = transport.get_extra_info("socket")
    if carrier is not None and _QUICKACK is not None:
        with contextlib.suppress(OSError):  # it has ended: nothing more will come
            carrier.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)


async def connect(to: Endpoint, make: Callable[[], _Protocol], seconds: float) -> _Protocol:
    """Open a connection that `make`'s protocol speaks over. Raise `Unreachable` with the reason, without the address."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            name = to.host if to.tls is not None else None
            _, protocol = await loop.create_connection(
                cast(Any, make), to.host, to.port, ssl=to.tls, server_hostname=name
            )
    except TimeoutError as error:
        raise Silent(f"it did not take the connection within {seconds:g} s") from error
    except (OSError, ValueError) as error:
        raise Unreachable(_refusal(error)) from error
    return cast(_Protocol, protocol)


def _in_ascii(host: str) -> str:
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return host  # no such host can be found, and connecting says so


def _refusal(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its TLS certificate is not trusted"
    if isinstance(error, ssl.SSLError):
        return "it does not speak TLS as asked"
    if isinstance(error, socket.gaierror):
        return "its host name is unknown"
    if isinstance(error, OSError):
        number = error.errno or 0
        return f"it refused the connection ({os.strerror(number)})" if number > 0 else "nothing listens there"
    return f"no connection could be made ({type(error).__name__})"
