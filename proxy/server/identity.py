"""Who asks, from what the transport says: Host, Origin, bearer token. Never from params.

First thing every HTTP door does with a request, before its route, its method or its body are looked at, and before a
WebSocket upgrade. Pure: header values in, an `Identity` or a `Turned` away out. A token's text must never leave this
module except to `Tokens.verify` (security.md 2, 3, 5; hardening.md 5, 6; rpc.md, "Listeners" and "Identity").
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from middleware.errors import InvalidRequest, RpcError, Unauthorized, shorten
from middleware.waist import ANONYMOUS, Origin


class TokenIdentity(Protocol):
    """What a valid token stands for."""

    @property
    def name(self) -> str:
        """The token's name."""

    @property
    def origin(self) -> str | None:
        """The one web origin it may be used from; None: from no page."""


class Tokens(Protocol):
    """The bearer tokens in force."""

    def verify(self, token: str) -> TokenIdentity | None:
        """Return what `token` stands for now; None when unknown, expired or revoked. In constant time."""


class NoTokens:
    """No token is in force: for a door that takes none."""

    def verify(self, token: str) -> TokenIdentity | None:
        """Return None."""
        return None


class Turned(Exception):
    """A request turned away at the door: HTTP status and JSON-RPC error; `page`: the web origin that may read why."""

    def __init__(self, status: int, error: RpcError, *, guess: bool = False, page: str | None = None) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error
        self.guess = guess  # a token that failed: such answers are delayed and come one after another
        self.page = page


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks. `page`: the Origin header, to be echoed; `holds` tells whether it still holds (a token may be revoked)."""

    origin: Origin
    page: str | None = None
    holds: Callable[[], bool] = field(default=lambda: True, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request head says of who asks, no token verified yet: the same head always claims the same."""

    page: str | None
    token: str | None = field(default=None, repr=False)


LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")

_ORIGIN = re.compile(r"([a-z][a-z0-9-]*)://([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,256}")
_ABSOLUTE = re.compile(r"http://([^/?#]*)(.*)", re.IGNORECASE)


def host_names(port: int, added: Iterable[str] = ()) -> frozenset[str]:
    """Return the exact Host headers a listener on `port` answers to; `added`: `[listen] hosts`, with or without a port."""
    names = [*LOOPBACK_NAMES, *(name for name in added if not _has_port(name))]
    ready = [name for name in added if _has_port(name)]
    bare = names if port == 80 else []  # clients leave the default port out
    return frozenset([*(f"{name}:{port}" for name in names), *ready, *bare])


def _has_port(name: str) -> bool:
    return re.search(r"(?:^|[^:]|\]):[0-9]+$", name) is not None and (not name.startswith("[") or "]:" in name)


def claim(
    hosts: Sequence[str], origins: Sequence[str], target: str, authorizations: Sequence[str], names: frozenset[str]
) -> Claim:
    """Return what a head claims: the values of its Host, Origin and Authorization headers and its request target.

    Both lanes judge by this alone, in this order. Raise 403 for Host and Origin, 404 for another path, 401 for a header
    that holds no token.
    """
    check_host(hosts, names)
    page = page_of(origins)
    try:
        return Claim(page, token_in(path_of(target, names), authorizations))
    except Turned as turned:
        turned.page = page if turned.status == 404 else None
        raise


def check_content(types: Sequence[str], encodings: Sequence[str]) -> None:
    """Raise 415 unless the body is said to be plain JSON, once: a form needs no preflight (security.md 4)."""
    kind, _, parameters = (types[0] if len(types) == 1 else "").partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise Turned(415, InvalidRequest("Content-Type must be application/json"))
    if any(encoding.lower() != "identity" for encoding in encodings):
        raise Turned(415, InvalidRequest("a compressed body is not read"))


def path_of(target: str, names: frozenset[str]) -> str:
    """Return the path of a request target. Its absolute form must name this listener, as the Host must (RFC 9112, 3.2.2)."""
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        return target
    check_host((absolute[1],), names)
    return absolute[2] if absolute[2].startswith("/") else "/" + absolute[2]


def check_host(values: Sequence[str], names: frozenset[str]) -> None:
    """Raise 403 unless there is exactly one Host header and it is one of `names`."""
    if len(values) == 1 and values[0] in names:
        return
    said = (
        f"Host {shorten(values[0])!r} is not a name"
        if len(values) == 1 and values[0]
        else "the Host header is not a name"
    )
    raise Turned(403, InvalidRequest(f"{said} of this listener; names are added under [listen] hosts in the config"))


def page_of(values: Sequence[str]) -> str | None:
    """Return the web origin that asks, None without an Origin header. Raise 403 for anything but one canonical origin."""
    if not values:
        return None
    if len(values) == 1 and is_web_origin(values[0]):
        return values[0]
    said = f"Origin {shorten(values[0])!r}" if len(values) == 1 else "more than one Origin"
    raise Turned(403, Unauthorized(f"{said} is not served: a page must have an origin like https://app.example"))


def is_web_origin(text: str) -> bool:
    """Tell whether `text` is a canonical `scheme://host[:port]`: lower-case, no default port, no path (hardening.md 5)."""
    match = _ORIGIN.fullmatch(text) if len(text) <= 300 else None
    if match is None or ".." in match[2]:
        return False
    if match[2].startswith("["):
        try:
            if str(ipaddress.IPv6Address(match[2][1:-1])) != match[2][1:-1]:
                return False
        except ValueError:
            return False
    port = int(match[3]) if match[3] else None
    return port is None or (port <= 65535 and port != _DEFAULT_PORTS.get(match[1]))


def token_in(path: str, authorizations: Sequence[str]) -> str | None:
    """Return the token of a request, None without one. Raise 404 for another path, 401 for a header that is none."""
    found = []
    route = path.partition("?")[0]
    if route != "/":
        if not route.startswith("/") or not _TOKEN.fullmatch(route[1:]):
            raise Turned(404, InvalidRequest("there is nothing at this path; JSON-RPC is served at / and /<token>"))
        found.append(route[1:])
    for value in authorizations:
        scheme, _, text = value.partition(" ")
        if scheme.lower() != "bearer" or not _TOKEN.fullmatch(text.strip(" ")):
            raise _bad_token()
        found.append(text.strip(" "))
    if len(set(found)) > 1 or len(authorizations) > 1:
        raise _bad_token()
    return found[0] if found else None


def identify(page: str | None, token: str | None, tokens: Tokens) -> Identity:
    """Return who asks. Raise 401 for a token not in force, or used from a page it was not made for (hardening.md 6)."""
    if token is None:
        return Identity(Origin.web(page), page) if page is not None else Identity(ANONYMOUS)
    known = tokens.verify(token)
    if known is None or (page is not None and page != known.origin):
        raise _bad_token()
    name = known.name

    def holds() -> bool:
        now = tokens.verify(token)
        return now is not None and now.name == name

    return Identity(Origin.token(name), page, holds)


def _bad_token() -> Turned:
    reason = "the token is not valid here: it is unknown, expired, revoked, or made for another origin"
    return Turned(401, Unauthorized(reason, "l2proxy token new NAME"), guess=True)
