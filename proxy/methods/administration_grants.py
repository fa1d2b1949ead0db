"""`admin_site*`, `admin_permission*`, `admin_token*`: what the owner grants and takes without being asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from msgspec import Meta

from middleware.questions import digest_of
from middleware.waist import Context, Handler, Origin, OriginKind
from proxy.authority.assembly import Authority
from proxy.authority.capabilities import Holdings, Invocations
from proxy.authority.origins import BadOrigin, parse_origin, parse_web_origin
from proxy.authority.tokens import TokenError
from proxy.methods.admin_params import AdminParams, BadRequest, read

ActionsOf = Callable[[str], Sequence[str] | None]
AddressesOf = Callable[[], Sequence[str]]


class _Allowed(AdminParams, frozen=True, kw_only=True):
    plugin: str
    actions: list[str] | None = None


class _Site(AdminParams, frozen=True, kw_only=True):
    origin: str


class _Grant(AdminParams, frozen=True, kw_only=True):
    origin: str
    allow_plugins: tuple[_Allowed, ...] = ()
    accounts: Annotated[int, Meta(ge=0)] = 0


class _Revoke(AdminParams, frozen=True, kw_only=True):
    target: str
    capability: str | None = None
    plugin: str | None = None


class _NewToken(AdminParams, frozen=True, kw_only=True):
    name: str
    allow_plugins: tuple[_Allowed, ...] = ()
    accounts: Annotated[int, Meta(ge=0)] = 0
    origin: str | None = None
    expires: Annotated[int, Meta(ge=1, le=10**10)] | None = None


class _Token(AdminParams, frozen=True, kw_only=True):
    name: str


def grant_handlers(
    authority: Authority, actions: ActionsOf, addresses: AddressesOf, dapp_url: Callable[[], str]
) -> dict[str, Handler]:
    """Return the methods of sites, permissions and tokens."""
    return {
        **_site_handlers(authority),
        **_permission_handlers(authority, actions, addresses),
        **_token_handlers(authority, actions, addresses, dapp_url),
    }


def _site_handlers(authority: Authority) -> dict[str, Handler]:
    permissions = authority.permissions

    async def site_list(params: Any, context: Context) -> Any:
        return [
            {
                "origin": name,
                "connected": since,
                "permissions": list(permissions.holdings(Origin.web(name)).capabilities()),
            }
            for name, since in permissions.sites()
        ]

    async def site_connect(params: Any, context: Context) -> Any:
        origin = _web(read(params, _Site).origin)
        _record(authority, "site connected", origin=str(origin))
        permissions.connect(origin)
        authority.approvals.settle_connected(origin)
        return {"origin": str(origin), "connected": True}

    async def site_disconnect(params: Any, context: Context) -> Any:
        origin = _origin(read(params, _Site).origin)
        if not permissions.knows(origin):
            raise BadRequest(f"{origin} is not connected; `l2proxy site list` shows what is")
        _record(authority, "site disconnected", origin=str(origin))
        permissions.disconnect(origin)
        return {"origin": str(origin), "connected": False}

    return {"admin_siteList": site_list, "admin_siteConnect": site_connect, "admin_siteDisconnect": site_disconnect}


def _permission_handlers(authority: Authority, actions: ActionsOf, addresses: AddressesOf) -> dict[str, Handler]:
    permissions = authority.permissions

    async def permission_list(params: Any, context: Context) -> Any:
        return [held for origin in permissions.origins() for held in permissions.objects(origin)]

    async def permission_grant(params: Any, context: Context) -> Any:
        asked = read(params, _Grant)
        origin = _origin(asked.origin)
        if origin.kind is OriginKind.PLUGIN:
            raise BadRequest("a plugin gets what it may do at install; `l2proxy plugin info` shows it")
        if origin.kind is OriginKind.TOKEN and not authority.tokens.alive(origin.name):
            raise BadRequest(f"there is no token {origin.name}; make one with `l2proxy token new {origin.name}`")
        added = _scope(asked.allow_plugins, asked.accounts, actions, addresses)
        if added.empty():
            raise BadRequest("nothing is granted; say --allow-plugin or --accounts")
        _record(authority, "permission granted", origin=str(origin), granted=_granted(added))
        permissions.grant(origin, added)
        return permissions.objects(origin)

    async def permission_revoke(params: Any, context: Context) -> Any:
        asked = read(params, _Revoke)
        origin, capability = _target(authority, asked)
        try:
            held = permissions.holds(origin, capability, asked.plugin)
        except ValueError as error:
            raise BadRequest(str(error)) from error
        if not held:
            raise BadRequest(f"{origin} holds nothing of this; `l2proxy permission list` shows what is held")
        _record(authority, "permission revoked", origin=str(origin), capability=capability, plugin=asked.plugin)
        permissions.revoke(origin, capability, asked.plugin)
        return {"origin": str(origin), "left": permissions.objects(origin)}

    return {
        "admin_permissionList": permission_list,
        "admin_permissionGrant": permission_grant,
        "admin_permissionRevoke": permission_revoke,
    }


def _token_handlers(
    authority: Authority, actions: ActionsOf, addresses: AddressesOf, dapp_url: Callable[[], str]
) -> dict[str, Handler]:
    tokens, permissions = authority.tokens, authority.permissions

    async def token_new(params: Any, context: Context) -> Any:
        asked = read(params, _NewToken)
        bound = None if asked.origin is None else str(_web(asked.origin))
        scope = _scope(asked.allow_plugins, asked.accounts, actions, addresses)
        _check(tokens.check_new, asked.name)
        _record(authority, "token made", token=asked.name, bound=bound, granted=_granted(scope), lasts=asked.expires)
        origin = Origin.token(asked.name)
        permissions.disconnect(origin)  # what an expired token of this name held is not inherited
        text = tokens.new(asked.name, bound, asked.expires)
        if not scope.empty():
            permissions.grant(origin, scope)
        return {"name": asked.name, "token": text, "url": f"{dapp_url()}/{text}"}

    async def token_list(params: Any, context: Context) -> Any:
        return [
            {
                "name": token.name,
                "origin": token.origin,
                "created": token.created,
                "expires": token.expires,
                "expired": not tokens.alive(token.name),
                "permissions": permissions.objects(Origin.token(token.name)),
            }
            for token in tokens.all()
        ]

    async def token_revoke(params: Any, context: Context) -> Any:
        name = read(params, _Token).name
        _check(tokens.check_known, name)
        _record(authority, "token revoked", token=name)
        tokens.revoke(name)
        return {"name": name, "revoked": True}

    return {"admin_tokenNew": token_new, "admin_tokenList": token_list, "admin_tokenRevoke": token_revoke}


def _scope(allowed: Sequence[_Allowed], count: int, actions: ActionsOf, addresses: AddressesOf) -> Holdings:
    """Return what the flags grant: the first `count` accounts; of a plugin named alone, its state and all its actions."""
    invoke: dict[str, Invocations] = {}
    state: list[str] = []
    for entry in allowed:
        there = actions(entry.plugin)
        if there is None:
            raise BadRequest(f"plugin {entry.plugin} is not installed; `l2proxy plugin list` shows what is")
        if entry.actions is None:
            state.append(entry.plugin)
        unknown = [name for name in entry.actions or () if name not in there]
        if unknown or (entry.actions is not None and not entry.actions):
            raise BadRequest(
                f"{entry.plugin} has no action {', '.join(unknown) or '(none named)'}; it has {', '.join(there)}"
            )
        named = tuple(there if entry.actions is None else entry.actions)
        before = invoke[entry.plugin].actions if entry.plugin in invoke else ()
        if named:
            invoke[entry.plugin] = Invocations(tuple(dict.fromkeys((*before, *named))))
    owned = addresses()
    if count > len(owned):
        raise BadRequest(f"there are {len(owned)} accounts, not {count}; `l2proxy account new` makes another")
    return Holdings(tuple(owned[:count]), invoke, tuple(state))


def _target(authority: Authority, asked: _Revoke) -> tuple[Origin, str | None]:
    """Return whom and what a revocation is about: the target is an origin, or the id of a permission."""
    for origin in authority.permissions.origins():
        for name, stamp in authority.permissions.holdings(origin).stamps.items():
            if stamp.id == asked.target:
                return origin, name
    return _origin(asked.target), asked.capability


def _check(check: Callable[[str], None], name: str) -> None:
    try:
        check(name)
    except TokenError as error:
        raise BadRequest(str(error)) from error


def _origin(text: str) -> Origin:
    try:
        return parse_origin(text)
    except BadOrigin as error:
        raise BadRequest(str(error)) from error


def _web(text: str) -> Origin:
    try:
        return parse_web_origin(text)
    except BadOrigin as error:
        raise BadRequest(str(error)) from error


def _granted(scope: Holdings) -> dict[str, Any]:
    invoke = {plugin: named.to_json() for plugin, named in scope.invoke.items()}
    return {"accounts": list(scope.accounts), "l2_invoke": invoke, "l2_getState": list(scope.state)}


def _record(authority: Authority, event: str, **what: Any) -> None:
    facts: Mapping[str, Any] = {name: value for name, value in what.items() if value is not None}
    authority.audit.append({"event": event, "source": "owner", "digest": digest_of([event, facts]), **facts})
