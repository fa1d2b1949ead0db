"""Names of origins as the owner writes them on the command line and as they stand on disk, and back.

The door establishes who asks; here the same names are only read and checked: `https://app.example`, `token:ci`, `socket`,
`plugin:paychan`. Header text never becomes one of the latter three: those words are no web origin (hardening.md 5).
"""

from __future__ import annotations

import ipaddress
import re

from middleware.waist import SOCKET, Origin, OriginKind

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WEB = re.compile(r"([a-z][a-z0-9.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::([1-9][0-9]{0,4}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class BadOrigin(ValueError):
    """The text names no origin; the message says what is wrong with it."""


def parse_origin(text: str) -> Origin:
    """Return the origin `text` names, as the owner writes it; raise `BadOrigin` with one sentence otherwise."""
    if text == "socket":
        return SOCKET
    kind, colon, name = text.partition(":")
    if colon and kind in ("token", "plugin"):
        if NAME.fullmatch(name) is None:
            raise BadOrigin(f"{text!r} is no {kind}: a name has 1 to 64 of A-Z a-z 0-9 . _ -")
        return Origin.token(name) if kind == "token" else Origin.plugin(name)
    return parse_web_origin(text)


def parse_web_origin(text: str) -> Origin:
    """Return the page `text` names if it can be connected; raise `BadOrigin` otherwise."""
    match = _WEB.fullmatch(text)
    if match is None:
        raise BadOrigin(
            f"{text!r} is no origin: expected scheme://host or scheme://host:port in lower case, without a path"
            " (or socket, or token:NAME)"
        )
    scheme, host, port = match.groups()
    if (port is not None and int(port) in (_DEFAULT_PORTS.get(scheme), 0)) or int(port or 0) > 65535:
        raise BadOrigin(
            f"{text!r} is no origin a browser sends: leave out the scheme's own port, others are below 65536"
        )
    if scheme == "http" and not _loopback_host(host):
        raise BadOrigin(f"{text!r} cannot be connected: without TLS anyone on the way can pose as it; use https")
    return Origin.web(text)


def is_loopback(origin: Origin) -> bool:
    """Tell whether a web origin is a page served from this machine."""
    match = _WEB.fullmatch(origin.name)
    return origin.kind is OriginKind.WEB and match is not None and _loopback_host(match[2])


def host_of(origin: Origin) -> str:
    """Return the host of a web origin (its name where it has none), for limits that count hosts."""
    match = _WEB.fullmatch(origin.name)
    return match[2] if match is not None else origin.name


def _loopback_host(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
