"""The invocation link: `l2_invoke` params are read once, checked against the declared types, and go on as what was checked.

Stands behind permission (an origin that may not invoke learns nothing about the action) and before idempotency, budget
and approval, which all look at the same checked values. Params go on re-encoded from what was checked (hardening.md 1):
`[plugin, action, params, options]` with canonical values, and in `options` the `call` id this link gives every invocation.
Nothing here may reach the plugin.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
from typing import Any, Protocol

import msgspec

from middleware.errors import InvalidParams, RpcError
from middleware.waist import Answer, Context, Next, Origin, Request

METHOD = "l2_invoke"
NAMES = ("plugin", "action", "params", "options")
MOST_KEY = 256  # characters of an idempotency key


class ActionSpec(Protocol):
    """What an installed plugin's manifest declares of one action. `digest` is that of the plugin's code."""

    @property
    def plugin(self) -> str:
        """The plugin's id."""

    @property
    def name(self) -> str:
        """The action's name."""

    @property
    def spends(self) -> dict[str, str] | None:
        """`{"param": name of a top-level uintN, "asset": "ETH" or a token's address}`; None: it does not say."""

    @property
    def approval(self) -> str:
        """`always`, `policy` or `never`."""

    @property
    def idempotent(self) -> bool:
        """Whether it may be asked twice under one key."""

    @property
    def digest(self) -> str:
        """What changes whenever the plugin's code does."""


class Actions(Protocol):
    """The host's view of actions."""

    def action_spec(self, plugin: str, action: str) -> ActionSpec | None:
        """Return what is declared of an action; None: there is none."""

    def check_params(self, plugin: str, action: str, raw: Any) -> dict[str, Any]:
        """Return `raw` (array or object) as canonical values by declared name; raise `InvalidParams`, or 4100 if unknown."""


class Invocation(msgspec.Struct, frozen=True):
    """One `l2_invoke`. `call` names this invocation among all others ("" before the link gave it one).

    Under an idempotency key the same call keeps its id over restarts, so that its budget counts once.
    """

    plugin: str
    action: str
    params: Any
    key: str | None = None
    call: str = ""


class CheckedRequest(Request, frozen=True, kw_only=True):
    """What this link hands on: `invocation` is what stands in `params`, for the links behind, so that none reads it again."""

    invocation: Invocation


class InvocationLink:
    """Reads and checks the params of `l2_invoke`."""

    def __init__(self, actions: Actions) -> None:
        self._actions = actions

    def handles(self, method: str) -> bool:
        """Tell whether this link has anything to say: for l2_invoke alone."""
        return method == METHOD

    async def __call__(self, request: Request, context: Context, next: Next) -> Answer:  # noqa: A002
        """Go on with checked params. Raises -32602 naming the parameter."""
        asked = read_asked(request.params)
        params = self._actions.check_params(asked.plugin, asked.action, asked.params)
        call = _call_id(context.origin, asked.key)
        options = {"call": call}
        if asked.key is not None:
            options["idempotencyKey"] = asked.key
        written = msgspec.json.encode([asked.plugin, asked.action, params, options])
        invocation = Invocation(asked.plugin, asked.action, params, asked.key, call)
        return await next(CheckedRequest(request.method, written, request.id, invocation=invocation), context)


def read_asked(raw: bytes) -> Invocation:
    """Return what a caller asks for; the values in `params` are unchecked. Raises `InvalidParams`."""
    plugin, action, params, options = _members(raw)
    for name, value in (("plugin", plugin), ("action", action)):
        if not isinstance(value, str):
            raise InvalidParams(name, "a string", value)
    if options is None:
        options = {}
    if not isinstance(options, dict) or not options.keys() <= {"idempotencyKey"}:
        raise InvalidParams("options", 'an object with "idempotencyKey" or nothing', options)
    key = options.get("idempotencyKey")
    if key is not None and not (isinstance(key, str) and 0 < len(key) <= MOST_KEY and "\0" not in key):
        raise InvalidParams("options.idempotencyKey", f"a string of 1 to {MOST_KEY} characters", key)
    return Invocation(plugin, action, [] if params is None else params, key)


def read_checked(request: Request) -> Invocation:
    """Return the invocation that this link wrote into `request`."""
    if isinstance(request, CheckedRequest):
        return request.invocation
    plugin, action, params, options = msgspec.json.decode(request.params)
    return Invocation(plugin, action, params, options.get("idempotencyKey"), options["call"])


def _members(raw: bytes) -> tuple[Any, Any, Any, Any]:
    try:
        given = msgspec.json.decode(raw) if raw else []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParams("params", "JSON", str(error)) from error
    if isinstance(given, dict):
        for name in given:
            if name not in NAMES:
                raise InvalidParams(name, f"only {', '.join(NAMES)}", name)
        given = [given.get(name) for name in NAMES]
    if not isinstance(given, list) or not 2 <= len(given) <= 4:
        raise InvalidParams("params", "[plugin, action, params, options?]", given)
    plugin, action, params, options = (*given, None, None)[:4]
    return plugin, action, params, options


# Together they name a call of this process and no other, without asking the system for each.
_RUN, _calls = secrets.token_hex(8), itertools.count()


def _call_id(origin: Origin, key: str | None) -> str:
    if key is None:
        return f"{_RUN}{next(_calls):016x}"
    return hashlib.sha256(f"{origin}\0{key}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def never_asked(error: RpcError) -> bool:
    """Tell whether `error`, raised behind the record of an invocation, means that the plugin was never asked."""
    if error.code == -32012:
        return not (isinstance(error.data, dict) and "outcome" in error.data)
    return error.code in _BEFORE_THE_PLUGIN


def spent_nothing(error: RpcError) -> bool:
    """Tell whether the plugin's own error says `spent: false` (hardening.md 15); silence counts as spent."""
    if error.code != -32010 or not isinstance(error.data, dict):
        return False
    data = error.data.get("data")
    if isinstance(data, str):
        try:
            data = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False  # text that says nothing
    return isinstance(data, dict) and data.get("spent") is False


_BEFORE_THE_PLUGIN = frozenset({4001, 4100, 4200, -32002, -32005, -32602})
