"""From Python annotations to ABI parameters: `{name, type, components?}` as in the manifest's action tables.

Read once, while the plugin class is made; a signature that cannot be declared is refused there, not at the first call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints, is_typeddict

from .abi_types import AbiType, Length
from .errors import DeclarationError

_PLAIN = {bool: "bool", str: "string", bytes: "bytes"}


@dataclass(frozen=True)
class Param:
    """One declared value. `type` is the Solidity name; `components` holds the members of a tuple."""

    name: str
    type: str
    components: tuple[Param, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's form."""
        row: dict[str, Any] = {"name": self.name, "type": self.type}
        if self.components:
            row["components"] = [component.to_json() for component in self.components]
        return row


def param(name: str, hint: Any) -> Param:
    """Return the ABI parameter of one annotation. Raises DeclarationError."""
    if get_origin(hint) is Annotated:
        return _annotated(name, hint)
    if get_origin(hint) is list:
        return _array(name, hint, "[]")
    if is_typeddict(hint):
        return Param(name, "tuple", members(hint))
    if hint in _PLAIN:
        return Param(name, _PLAIN[hint])
    if hint is int:
        raise DeclarationError(f"{name}: int has no ABI size; write Uint256, Int256 or another of l2proxy_sdk's")
    raise DeclarationError(f"{name}: {hint!r} is not an ABI type; see l2proxy_sdk for those there are")


def members(record: Any) -> tuple[Param, ...]:
    """Return a TypedDict's fields as ABI parameters, in their order."""
    hints = get_type_hints(record, include_extras=True)
    return tuple(param(field, hint) for field, hint in hints.items())


def _annotated(name: str, hint: Any) -> Param:
    inner, *notes = get_args(hint)
    for note in notes:
        if isinstance(note, AbiType):
            return Param(name, note.name)
        if isinstance(note, Length) and get_origin(inner) is list:
            return _array(name, inner, f"[{note.size}]")
    return param(name, inner)


def _array(name: str, hint: Any, suffix: str) -> Param:
    arguments = get_args(hint)
    if len(arguments) != 1:
        raise DeclarationError(f"{name}: a list names what it holds, as in list[Uint256]")
    item = param(name, arguments[0])
    return Param(name, item.type + suffix, item.components)
