"""`@action`: what a method of a plugin promises to its callers, and the table the manifest repeats.

An action is an async method; its name is the action's name, its docstring the description, its annotations the ABI types.
A parameter annotated `Call` receives who asks and until when, and is not part of the declaration.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast, get_type_hints, is_typeddict, overload

from .errors import DeclarationError
from .signatures import Param, members, param

Approval = Literal["always", "policy", "never"]
Method = TypeVar("Method", bound=Callable[..., Awaitable[Any]])
_MARK = "__l2proxy_action__"


class UnknownName(DeclarationError):
    """An annotation names what is not defined, or not yet."""


@dataclass(frozen=True)
class Call:
    """Who asks. `deadline` is a unix time in seconds; `idempotency_key` is None where the caller gave none."""

    id: str
    origin: str
    deadline: float
    idempotency_key: str | None = None


@dataclass(frozen=True)
class _Promise:
    spends: tuple[str, str] | None
    approval: Approval
    idempotent: bool


@dataclass(frozen=True)
class Action:
    """One declared action. `call_param` is the name of the parameter that wants the Call, if any."""

    name: str
    description: str
    params: tuple[Param, ...]
    returns: tuple[Param, ...]
    spends: tuple[str, str] | None
    approval: Approval
    idempotent: bool
    call_param: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's `[[action]]` table."""
        row: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "params": [entry.to_json() for entry in self.params],
            "returns": [entry.to_json() for entry in self.returns],
        }
        if self.spends is not None:
            row["spends"] = {"param": self.spends[0], "asset": self.spends[1]}
        return row | {"approval": self.approval, "idempotent": self.idempotent}


@overload
def action(method: Method, /) -> Method: ...
@overload
def action(
    *, spends: tuple[str, str] | None = None, approval: Approval = "policy", idempotent: bool = False
) -> Callable[[Method], Method]: ...
def action(
    method: Method | None = None,
    /,
    *,
    spends: tuple[str, str] | None = None,
    approval: Approval = "policy",
    idempotent: bool = False,
) -> Method | Callable[[Method], Method]:
    """Mark an async method as an action.

    `spends=("value", "ETH")`: the uint parameter that is the most this action costs, and its asset ("ETH" or a token
    address). `approval`: "always" asks the owner each time, "policy" lets rules and budgets decide, "never" is for what only
    reads. `idempotent=True`: after a crash the proxy may ask again with the same key, and the action must not act twice.
    """
    promise = _Promise(spends, approval, idempotent)

    def mark(marked: Method) -> Method:
        if not inspect.iscoroutinefunction(marked):
            raise DeclarationError(f"action {getattr(marked, '__name__', marked)}: an action is an `async def` method")
        setattr(marked, _MARK, promise)
        return cast(Method, marked)

    return mark if method is None else mark(method)


def declared(plugin: type) -> dict[str, Action]:
    """Return the actions of a plugin class by name, in the order they are written. Raises DeclarationError."""
    found: dict[str, Action] = {}
    for owner in reversed(plugin.__mro__):
        for name, member in vars(owner).items():
            promise = getattr(member, _MARK, None)
            if promise is not None:
                found[name] = _declare(name, member, promise)
            else:
                found.pop(name, None)  # overridden by something that is no action
    return found


def _declare(name: str, method: Any, promise: _Promise) -> Action:
    try:
        hints = get_type_hints(method, include_extras=True)
    except NameError as error:
        raise UnknownName(f"action {name}: its annotations use a name that does not exist: {error.name}") from None
    params: list[Param] = []
    call_param = None
    for entry in list(inspect.signature(method).parameters.values())[1:]:
        hint = hints.get(entry.name)
        if entry.kind not in (entry.POSITIONAL_OR_KEYWORD, entry.KEYWORD_ONLY) or entry.default is not entry.empty:
            raise DeclarationError(f"action {name}: {entry.name} must be a plain parameter without a default")
        if hint is Call:
            call_param = entry.name
        elif hint is None:
            raise DeclarationError(f"action {name}: {entry.name} has no type; write {entry.name}: Uint256 or the like")
        else:
            params.append(param(f"{entry.name}", hint))
    returns = _returns(name, hints.get("return", type(None)))
    _check_promise(name, params, promise)
    description = inspect.cleandoc(method.__doc__ or "").split("\n\n", 1)[0].replace("\n", " ")
    shown = (name, description, tuple(params), returns)
    return Action(*shown, promise.spends, promise.approval, promise.idempotent, call_param)


def _returns(name: str, hint: Any) -> tuple[Param, ...]:
    if hint is type(None):
        return ()
    if not is_typeddict(hint):
        raise DeclarationError(f"action {name}: it returns a TypedDict (its fields are the declared returns) or None")
    return members(hint)


def _check_promise(name: str, params: list[Param], promise: _Promise) -> None:
    if promise.approval not in ("always", "policy", "never"):
        raise DeclarationError(f'action {name}: approval is "always", "policy" or "never", not {promise.approval!r}')
    if promise.spends is None:
        return
    kinds = {entry.name: entry.type for entry in params}
    spent = promise.spends[0]
    if not kinds.get(spent, "").startswith("uint") or kinds[spent].endswith("]"):
        raise DeclarationError(f"action {name}: spends names {spent!r}, which is no uint parameter of it")
