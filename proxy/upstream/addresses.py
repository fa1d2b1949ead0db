"""Where an L1 node listens: a URL or socket path of the config, read once and strictly.

First step of the upstream: `L1` parses every entry of `[l1] urls` here. What is shown of an address never holds its userinfo, path or
query, because keys of hosted nodes stand there (hardening.md 19). "dev" is no address: the application replaces it by the socket of the
embedded L1 before anything comes here.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

_SCHEMES = {"http", "https", "ws", "wss"}
_HOST_AND_PORT = re.compile(r"[A-Za-z0-9.-]+:\d{1,5}/?")


class BadAddress(ValueError):
    """An entry of `[l1] urls` or `--l1` is no address; the message is one sentence for the owner."""


class Kind(enum.Enum):
    """How a node is spoken to."""

    HTTP = "HTTP"
    WS = "WebSocket"
    IPC = "unix socket"


@dataclass(frozen=True, slots=True)
class Address:
    """One L1 node. `target` is the full URL or socket path and a secret; `shown` is what may be said of it."""

    kind: Kind
    target: str
    shown: str
    local: bool

    def __repr__(self) -> str:
        return f"Address({self.shown})"


def parse(text: str) -> Address:
    """Read `text`: http(s)://, ws(s):// or the path of a unix socket. Raise `BadAddress`."""
    text = text.strip()
    if "://" not in text:
        return _socket(text)
    parts = _split(text)
    if parts.scheme not in _SCHEMES:
        raise BadAddress(
            f"{shown(text)}: an L1 address is http(s)://, ws(s)://, a socket path or dev, not {parts.scheme}://"
        )
    if not parts.hostname or any(c.isspace() or not c.isprintable() for c in text):
        raise BadAddress(f"{shown(text)} is not a URL of an L1 node: it names no host or holds blanks")
    kind = Kind.HTTP if parts.scheme.startswith("http") else Kind.WS
    return Address(kind, text, shown(text), _is_loopback(parts.hostname))


def shown(text: str) -> str:
    """Return `text` without userinfo, path and query, as it may be told to anyone; a socket path becomes "a unix socket"."""
    if "://" not in text:
        return "a unix socket"
    try:
        parts = urlsplit(text)
        port = f":{parts.port}" if parts.port is not None else ""
        host = parts.hostname or ""
    except ValueError:
        return "a malformed URL"
    scheme = re.sub(r"[^a-z0-9+.-]", "", parts.scheme)
    host = "".join(c for c in host if c.isprintable() and not c.isspace())
    return f"{scheme}://{f'[{host}]' if ':' in host else host}{port}"


def _socket(text: str) -> Address:
    if not text:
        raise BadAddress("an L1 address is empty; give http(s)://, ws(s)://, a socket path or dev")
    if _HOST_AND_PORT.fullmatch(text):
        raise BadAddress(f"{text} lacks its scheme; did you mean http://{text}?")
    if text == "dev":
        raise BadAddress("dev is the embedded L1 and starts with the daemon; it has no address of its own")
    return Address(Kind.IPC, str(Path(text).expanduser()), "a unix socket", local=True)


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise BadAddress(f"{shown(text)} is not a URL: {error}") from error
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
