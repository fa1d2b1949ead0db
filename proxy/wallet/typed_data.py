"""EIP-712 typed data, read strictly before anything is shown or hashed.

Only what is hashed may stand in it: a member outside `types` is an error, for it would be shown and not signed
(hardening.md 17). Every value must be exactly of its type, so that no two libraries read it differently. Sizes are bounded
before eth_account sees it (hardening.md 28). Source: EIP-712.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from middleware.errors import InvalidParams
from proxy.wallet.key_libraries import eth_account
from proxy.wallet.recovery import keccak
from proxy.wallet.typed_values import NAME, Reader, core_type, is_elementary

MAX_BYTES = 64 * 1024
MAX_TYPES = 64
MAX_FIELDS = 64

DOMAIN = "EIP712Domain"
DOMAIN_FIELDS = {
    "name": "string",
    "version": "string",
    "chainId": "uint256",
    "verifyingContract": "address",
    "salt": "bytes32",
}
_MEMBERS = ("types", "primaryType", "domain", "message")


@dataclass(frozen=True, slots=True)
class TypedData:
    """Checked typed data. `types` holds what `primary` needs, without the domain; `digest` is what gets signed."""

    types: dict[str, list[dict[str, str]]]
    primary: str
    domain: dict[str, Any]
    message: dict[str, Any]
    digest: bytes

    @property
    def chain_id(self) -> int | None:
        """The domain's chain id, None when it names none."""
        return self.domain.get("chainId")

    @property
    def verifying_contract(self) -> str | None:
        """The domain's contract, checksummed, None when it names none."""
        return self.domain.get("verifyingContract")

    def shown(self) -> dict[str, Any]:
        """Return exactly what is hashed, as JSON: integers as decimal text, bytes as 0x data."""
        return {"primaryType": self.primary, "domain": _shown(self.domain), "message": _shown(self.message)}


def parse(value: Any, where: str = "typedData") -> TypedData:
    """Return checked typed data from an object or its JSON text. Raise `InvalidParams` naming the place."""
    table = _object(value, where)
    for member in table:
        if member not in _MEMBERS:
            raise InvalidParams(f"{where}.{member}"[:120], f"one of {', '.join(_MEMBERS)}", member)
    types = _types(table.get("types"), f"{where}.types")
    primary = table.get("primaryType")
    if not isinstance(primary, str) or primary not in types or primary == DOMAIN:
        raise InvalidParams(f"{where}.primaryType", "the name of a type in types", primary)
    fields = types.pop(DOMAIN, None)
    reader = Reader(types)
    domain = _domain(reader, fields, table.get("domain"), f"{where}.domain")
    message = reader.struct(primary, table.get("message"), f"{where}.message", 0)
    needed = {name: types[name] for name in _reachable(types, primary)}
    return TypedData(needed, primary, domain, message, _digest(needed, primary, domain, message, where))


def hash_typed_data(value: Any, where: str = "typedData") -> bytes:
    """Return the digest of typed data (an object or its JSON text). Raise `InvalidParams`."""
    return parse(value, where).digest


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, str):
        try:
            value = json.dumps(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidParams(where, "an EIP-712 object", "another value") from error
    if len(value.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise InvalidParams(where, f"typed data of at most {MAX_BYTES} bytes", "more")
    try:
        table = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InvalidParams(where, "an EIP-712 object or its JSON text", value) from error
    if not isinstance(table, dict):
        raise InvalidParams(where, "an EIP-712 object", value)
    return table


def _types(value: Any, where: str) -> dict[str, list[dict[str, str]]]:
    if not isinstance(value, dict) or not 0 < len(value) <= MAX_TYPES:
        raise InvalidParams(where, f"an object of 1 to {MAX_TYPES} types", value)
    for name in value:
        if NAME.fullmatch(name) is None or is_elementary(name):
            raise InvalidParams(where, "type names that are identifiers and no Solidity type", name)
    return {name: _fields(fields, value, f"{where}.{name}") for name, fields in value.items()}


def _fields(fields: Any, types: Mapping[str, Any], where: str) -> list[dict[str, str]]:
    if not isinstance(fields, list) or len(fields) > MAX_FIELDS:
        raise InvalidParams(where, f"a list of at most {MAX_FIELDS} fields", fields)
    seen: set[str] = set()
    for field in fields:
        if not isinstance(field, dict) or set(field) != {"name", "type"}:
            raise InvalidParams(where, 'fields like {"name": "to", "type": "address"}', field)
        name, kind = field["name"], field["type"]
        if not isinstance(name, str) or NAME.fullmatch(name) is None or name in seen:
            raise InvalidParams(where, "field names that are identifiers, each once", name)
        if not isinstance(kind, str) or not (is_elementary(core := core_type(kind)) or core in types):
            raise InvalidParams(f"{where}.{name}", "a Solidity type or one of types", kind)
        seen.add(name)
    return [{"name": field["name"], "type": field["type"]} for field in fields]


def _domain(reader: Reader, fields: list[dict[str, str]] | None, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidParams(where, "an object", value)
    if fields is None:
        fields = [{"name": name, "type": kind} for name, kind in DOMAIN_FIELDS.items() if name in value]
    names = [field["name"] for field in fields]
    known = [name for name in DOMAIN_FIELDS if name in names]
    if names != known or any(field["type"] != DOMAIN_FIELDS[field["name"]] for field in fields):
        expected = ", ".join(f"{kind} {name}" for name, kind in DOMAIN_FIELDS.items())
        raise InvalidParams(f"types.{DOMAIN}", f"some of {expected}, in this order", ", ".join(names))
    return reader.members(fields, value, where, 0)


def _reachable(types: Mapping[str, list[dict[str, str]]], primary: str) -> list[str]:
    found, queue = [primary], [primary]
    while queue:
        for field in types[queue.pop()]:
            core = core_type(field["type"])
            if core in types and core not in found:
                found.append(core)
                queue.append(core)
    return found


def _digest(
    types: dict[str, list[dict[str, str]]], primary: str, domain: dict[str, Any], message: dict[str, Any], where: str
) -> bytes:
    try:
        signable = eth_account().messages.encode_typed_data(full_message=_full(types, primary, domain, message))
    except Exception as error:  # eth_account and eth_abi raise all kinds; each means: not encodable
        raise InvalidParams(where, "typed data that EIP-712 can encode", str(error)) from error
    return keccak(b"\x19" + signable.version + signable.header + signable.body)


def _full(types: Any, primary: str, domain: Any, message: Any) -> dict[str, Any]:
    return {"types": types, "primaryType": primary, "domain": domain, "message": message}


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shown(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value
