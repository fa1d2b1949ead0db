"""The permission link: the first of ours for every call; decides by origin and method alone (rpc.md, "Identity").

What it lets pass, the links and handlers behind may still refuse in detail (which account, which budget); what it stops,
nothing behind ever sees: not the plugin, not the node, not the owner's queue. Permission comes before the plugin, its
actions, the params and the lock, so that none of them can be probed (hardening.md 9). It must never look anything up by
what a caller names: "not installed" and "not permitted" are one error in one time.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol

import msgspec

from middleware.errors import InvalidParams, Unauthorized
from middleware.invocation import NAMES, read_asked
from middleware.methods import EMPTY_FOR_STRANGERS, HANDSHAKE, MethodClass, MethodTable
from middleware.waist import Answer, Context, Next, Origin, OriginKind, Request, result

UnknownSites = Literal["ask", "read", "refuse"]
ACCOUNT_METHODS: Final = frozenset({"eth_sendTransaction", "personal_sign", "eth_signTypedData_v4"})
NEEDS_KEYS: Final = ACCOUNT_METHODS | {"eth_requestAccounts", "l2_invoke"}
FILTERS: Final = frozenset(
    {
        *("eth_subscribe", "eth_unsubscribe", "eth_newFilter", "eth_newBlockFilter", "eth_newPendingTransactionFilter"),
        *("eth_getFilterChanges", "eth_getFilterLogs", "eth_uninstallFilter", "rpc.discover"),
    }
)
"""Served here, and still open to everyone who may read the chain."""
_ANONYMOUS: Final = OriginKind.ANONYMOUS
_HELD: Final = NEEDS_KEYS | {"eth_accounts", "eth_subscribe", "l2_getState", "l2_getDeposits", "l2_getOperations"}
"""What takes more than being connected."""

_ID: Final = re.compile(r"[a-z0-9-]{2,32}")
_ACTION: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class Permissions(Protocol):
    """What origins hold."""

    def is_connected(self, origin: Origin) -> bool:
        """Tell whether `origin` is no page, or one the owner connected."""

    def connectable(self, origin: Origin) -> bool:
        """Tell whether the owner may connect `origin`."""

    def accounts(self, origin: Origin) -> tuple[str, ...]:
        """Return the accounts `origin` may see."""

    def may_invoke(self, origin: Origin, plugin: str, action: str) -> bool:
        """Tell whether `origin` may invoke this action now."""

    def may_read_state(self, origin: Origin, plugin: str) -> bool:
        """Tell whether `origin` may read what this plugin publishes."""

    def plugins(self, origin: Origin) -> frozenset[str]:
        """Return the plugins `origin` is connected to."""


class Owner(Protocol):
    """How the owner hears of an origin."""

    def ask_to_connect(self, origin: Origin) -> bool:
        """Put one "connect this site?" question in the queue; tell whether a new one was."""

    def refused(self, origin: Origin, method: str, reason: str, grant: tuple[str, ...]) -> None:
        """Hear of a refusal, and the words of the command that would grant it."""


class PermissionLink:
    """Lets a call pass, answers `[]` in its place, or refuses it with 4100."""

    def __init__(
        self,
        permissions: Permissions,
        table: MethodTable,
        owner: Owner,
        locked: Callable[[], bool],
        token_alive: Callable[[str], bool],
        loopback: Callable[[Origin], bool],
        unknown_sites: UnknownSites = "ask",
    ) -> None:
        self._permissions, self._table, self._owner = permissions, table, owner
        self._locked, self._token_alive, self._loopback = locked, token_alive, loopback
        self._unknown_sites = unknown_sites
        self._open = frozenset(name for name in table.names() if table.classify(name) is MethodClass.PASS)

    def handles(self, method: str) -> bool:
        """Tell whether this link has anything to say: for every method."""
        return True

    async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
        """Go on, answer `[]`, or raise 4100."""
        answer = self.decide(request, context)
        return await next(request, context) if answer is None else answer

    def decide(self, request: Request, context: Context) -> Answer | None:
        """Return None to go on, `[]` as an answer, or raise 4100. Waits for nobody."""
        origin, method = context.origin, request.method
        kind = origin.kind
        if kind is _ANONYMOUS and method in self._open:
            return None
        if kind is OriginKind.WEB:
            if not self._permissions.is_connected(origin):
                if method in EMPTY_FOR_STRANGERS:
                    return result([])
                self._check_stranger(origin, method)
        elif kind is OriginKind.TOKEN:
            if not self._token_alive(origin.name):
                raise self._told(origin, method, "this token was revoked or has expired", ("token", "new", "NAME"))
        elif kind is OriginKind.PLUGIN:
            self._check_plugin(method)
            return None
        elif kind is not OriginKind.SOCKET:
            if method in EMPTY_FOR_STRANGERS:
                return result([])  # libraries call these at their start (EIP-1102)
            self._check_anonymous(origin, request)
            return None
        self._check_held(origin, request)
        return None

    # -- kinds of origins

    def _check_stranger(self, origin: Origin, method: str) -> None:
        """Let a page the owner has not connected shake hands, and read where the owner says so."""
        if not self._permissions.connectable(origin):
            if method in HANDSHAKE and method not in ("eth_requestAccounts", "wallet_requestPermissions"):
                return
            raise self._told(
                origin, method, f"{origin} cannot be connected: pages come over https, or from this machine"
            )
        if method in HANDSHAKE:
            return
        if self._unknown_sites == "read" and self._loopback(origin) and self._table.is_read(method):
            return
        grant = ("site", "connect", str(origin))
        reason = f"{origin} is not connected to this proxy"
        asked = self._unknown_sites != "refuse" and self._owner.ask_to_connect(origin)
        if not asked:
            self._owner.refused(origin, method, reason, grant)
        if self._unknown_sites != "refuse":
            reason += " and the owner was asked"
        raise Unauthorized(reason, command(*grant))

    def _check_anonymous(self, origin: Origin, request: Request) -> None:
        """Without Origin and token: the chain, nothing of the owner's."""
        kind, method = self._table.classify(request.method), request.method
        if kind in (MethodClass.PASS, MethodClass.BLOCKED, MethodClass.UNKNOWN):
            return
        if method in FILTERS and _layer2_subscription(request) is None:
            return
        reason = f"{method} is served to pages with an Origin and programs with a token"
        raise self._told(origin, method, reason, _token_for(request))

    def _check_plugin(self, method: str) -> None:
        # The host checked the manifest's grant; a plugin has no accounts and invokes nobody.
        if self._table.classify(method) is not MethodClass.PASS:
            raise Unauthorized(f"{method} is not served to plugins")

    # -- what an origin holds

    def _check_held(self, origin: Origin, request: Request) -> None:
        method = request.method
        if method not in _HELD:
            return
        if method == "l2_invoke":
            plugin, action = (self._named(origin, request, place) for place in ("plugin", "action"))
            if not self._permissions.may_invoke(origin, plugin, action):
                raise self.refusal(origin, method, "may not invoke this action", (plugin, action))
        elif method in ("l2_getState", "l2_getDeposits", "l2_getOperations"):
            self._check_state(origin, method, self._named(origin, request, "plugin"), method != "l2_getState")
        elif method == "eth_subscribe":
            try:
                layer2 = _layer2_subscription(request)
            except InvalidParams:
                self._check_connected(origin, method)
                raise
            if layer2 is not None:
                self._check_state(origin, layer2[0], layer2[1], layer2[0] == "l2_operations")
        elif method in ACCOUNT_METHODS and not self._permissions.accounts(origin):
            raise self.refusal(origin, method, "may not use an account", None)
        if (
            method in NEEDS_KEYS or (method == "eth_accounts" and self._permissions.accounts(origin))
        ) and self._locked():
            raise self._told(origin, method, "the wallet is locked", ("unlock",))

    def _named(self, origin: Origin, request: Request, place: str) -> str:
        """Return the plugin or action a call names. Who is connected to no plugin hears 4100 whatever the params are."""
        try:
            return _member(_decoded(request.params), place)
        except InvalidParams:
            self._check_connected(origin, request.method)
            raise

    def _check_connected(self, origin: Origin, method: str) -> None:
        if not self._permissions.plugins(origin):
            raise self.refusal(origin, method, "may not use a plugin", ("", None))

    def _check_state(self, origin: Origin, method: str, plugin: str, accounts: bool) -> None:
        if not self._permissions.may_read_state(origin, plugin):
            raise self.refusal(origin, method, "may not read the state of this plugin", (plugin, None))
        if accounts and not self._permissions.accounts(origin):
            raise self.refusal(origin, method, "may not see an account", None)

    def _told(self, origin: Origin, method: str, reason: str, grant: tuple[str, ...] = ()) -> Unauthorized:
        """Return the 4100 of a call that no permission would help, and tell the owner in the same words."""
        self._owner.refused(origin, method, reason, grant)
        return Unauthorized(reason, command(*grant) if grant else None)

    def refusal(self, origin: Origin, method: str, reason: str, wanted: tuple[str, str | None] | None) -> Unauthorized:
        """Return the 4100 for an origin that lacks a permission, and tell the owner. `wanted`: plugin and action."""
        grant = ("permission", "grant", str(origin), *_flags(wanted))
        self._owner.refused(origin, method, f"it {reason}", grant)
        return Unauthorized(f"{origin} {reason}; wallet_requestPermissions asks the owner for it", command(*grant))


def command(*words: str) -> str:
    """Return the command line `l2proxy WORDS`, quoted for a shell; never names a path."""
    return shlex.join(["l2proxy", *words])


def _token_for(request: Request) -> tuple[str, ...]:
    """Return the words of the command that makes a token for this call; its params may be anything."""
    flags: tuple[str, ...] = ("--accounts", "1")
    try:
        if request.method == "l2_invoke":
            asked = read_asked(request.params)
            flags = _flags((asked.plugin, asked.action))
        elif request.method in ("l2_getDeposits", "l2_getOperations"):
            flags = (*_flags((_plugin(request.params), None)), *flags)
        elif request.method.startswith("l2_"):
            flags = _flags((_plugin(request.params), None))
        elif (layer2 := _layer2_subscription(request)) is not None:
            plugin = _flags((layer2[1], None))
            flags = (*plugin, *flags) if layer2[0] == "l2_operations" else plugin
    except InvalidParams:
        flags = _flags(("", ""))
    return ("token", "new", "NAME", *flags)


def _flags(wanted: tuple[str, str | None] | None) -> tuple[str, ...]:
    """Return the flags that grant `wanted`; names no plugin could have are replaced, they may hold anything."""
    if wanted is None:
        return ("--accounts", "1")
    plugin, action = wanted
    plugin = plugin if _ID.fullmatch(plugin) else "PLUGIN"
    if action is None:
        return ("--allow-plugin", plugin)
    return ("--allow-plugin", f"{plugin}:{action if _ACTION.fullmatch(action) else 'ACTION'}")


def _plugin(params: bytes) -> str:
    return _member(_decoded(params), "plugin")


def _member(given: Any, name: str) -> str:
    """Return `plugin` or `action` of decoded params, by name or by position."""
    place = NAMES.index(name)
    value = given.get(name) if isinstance(given, dict) else None
    if isinstance(given, list) and len(given) > place:
        value = given[place]
    if not isinstance(value, str):
        raise InvalidParams(name, f"the name of {'a plugin' if name == 'plugin' else 'an action'}", value)
    return value


def _layer2_subscription(request: Request) -> tuple[str, str] | None:
    """Return (kind, plugin) if `request` subscribes to something of a plugin. Raises -32602 where it is ambiguous."""
    if request.method != "eth_subscribe" or not (b"l2_" in request.params or b"\\u" in request.params):
        return None  # nothing spells a kind of ours, not even in escapes
    given = _decoded(request.params)
    if isinstance(given, dict) and any(isinstance(value, str) and value.startswith("l2_") for value in given.values()):
        raise InvalidParams("params", 'an array such as ["l2_state", {"plugin": "paychan"}]', given)
    if not isinstance(given, list) or not given or not isinstance(given[0], str) or not given[0].startswith("l2_"):
        return None
    return given[0], _plugin(msgspec.json.encode(given[1] if len(given) > 1 else {}))


def _decoded(params: bytes) -> Any:
    try:
        return msgspec.json.decode(params) if params else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParams("params", "JSON", str(error)) from error
