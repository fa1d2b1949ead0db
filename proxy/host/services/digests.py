"""`recover` and `hash`: digests and signers for plugins that have no fast ones of their own (plugin.md, "Host services").

They need no key and no grant: whoever has the data could compute the same. Up to 64 items in one request, computed beside
the loop; what may take long, typed data and ABI values of some size, in the worker process and within its second (hardening.md
28). An error names the item. A signature with a high s is refused, so that no signature has two
forms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from eth_utils.crypto import keccak

from middleware.errors import InvalidParams, LimitExceeded
from proxy.host.abi_types import AbiTypeError, check_declared
from proxy.host.abi_values import check, encode
from proxy.host.aside import Aside
from proxy.host.blobs import Blob, to_bytes
from proxy.host.ports import Crypto
from proxy.host.provider import Asker, HostMethod, Params, shaped
from proxy.host.services.worker import Worker

MAX_ITEMS = 64
SMALL = 2048  # bytes of typed data and ABI values that are computed in a thread

Work = Callable[[Any, Any], dict[str, Any]]


class Recover(Params, frozen=True, kw_only=True):
    """One item, or up to 64 as `items`."""

    items: list[dict[str, Any]] | None = None
    typedData: Any = None  # noqa: N815 - the wire's name
    message: Blob | None = None
    digest: str | None = None
    signature: str | None = None


class Hash(Params, frozen=True, kw_only=True):
    """One item, or up to 64 as `items`. `abi`: type names, or `{name, type, components}` for tuples."""

    items: list[dict[str, Any]] | None = None
    typedData: Any = None  # noqa: N815 - the wire's name
    message: Blob | None = None
    abi: list[str | dict[str, Any]] | None = None
    values: list[Any] | None = None
    data: str | None = None


class AbiType(msgspec.Struct, frozen=True, kw_only=True):
    """A type as a JSON ABI writes it; further members (`internalType`, `indexed`) are of no interest."""

    type: str
    name: str = ""
    components: list[AbiType] = msgspec.field(default_factory=list)

    def to_json(self, unnamed: str = "arg0") -> dict[str, Any]:
        """Return it with its components; unnamed ones as `arg0`, `arg1`, …"""
        parts = [row.to_json(f"arg{place}") for place, row in enumerate(self.components)]
        return {"name": self.name or unnamed, "type": self.type, "components": parts}


class Digests:
    """The digests of one plugin."""

    def __init__(self, crypto: Crypto, worker: Worker) -> None:
        self._crypto = crypto
        self._worker = worker
        self._aside = Aside()

    def methods(self) -> Mapping[str, HostMethod]:
        """Return the rows of the host's table."""
        return {"recover": HostMethod(None, Recover, self.recover), "hash": HostMethod(None, Hash, self.hash)}

    async def recover(self, params: Recover, _: Asker) -> dict[str, Any]:
        """Return `{address}`, or `{items: [{address}, …]}` for a list."""
        return await self._computed(params, Recover, recovered)

    async def hash(self, params: Hash, _: Asker) -> dict[str, Any]:
        """Return `{digest, encoded?}`, or `{items: […]}` for a list."""
        return await self._computed(params, Hash, hashed)

    async def _computed(self, params: Any, kind: type[Any], work: Work) -> dict[str, Any]:
        rows = [params] if params.items is None else _rows(params, kind)
        slow = [row for row in rows if row.typedData is not None or getattr(row, "abi", None) is not None]
        if len(msgspec.json.encode(slow)) > SMALL:
            answers = await self._worker.run(_each, self._crypto, rows, work, params.items is not None)
        else:
            answers = await self._aside.run(lambda: _each(self._crypto, rows, work, params.items is not None))
        return {"items": answers} if params.items is not None else dict(answers[0])


def warm_up(crypto: Crypto) -> None:
    """Make the libraries load that hash typed data."""
    types = {"EIP712Domain": [], "It": [{"name": "it", "type": "uint8"}]}
    crypto.parse_typed({"types": types, "primaryType": "It", "domain": {}, "message": {"it": 1}})


def recovered(crypto: Crypto, row: Recover) -> dict[str, Any]:
    """Return `{address}` of one item. Raises InvalidParams."""
    given = [part for part in (row.typedData, row.message, row.digest) if part is not None]
    if len(given) != 1 or row.signature is None:
        raise InvalidParams("params", "signature and one of typedData, message and digest", "something else")
    if row.typedData is not None:
        digest = crypto.parse_typed(row.typedData).digest
    elif row.message is not None:
        digest = crypto.hash_message(to_bytes(row.message, "message"))
    else:
        digest = check({"type": "bytes32"}, row.digest, "digest")
    return {"address": crypto.recover(digest, row.signature)}


def hashed(crypto: Crypto, row: Hash) -> dict[str, Any]:
    """Return `{digest, encoded?}` of one item. Raises InvalidParams."""
    given = [part for part in (row.typedData, row.message, row.abi, row.data) if part is not None]
    if len(given) != 1 or (row.abi is None) != (row.values is None):
        raise InvalidParams("params", "one of typedData, message, data, and abi with values", "something else")
    if row.typedData is not None:
        return {"digest": "0x" + crypto.parse_typed(row.typedData).digest.hex()}
    if row.message is not None:
        return {"digest": "0x" + crypto.hash_message(to_bytes(row.message, "message")).hex()}
    if row.data is not None:
        return {"digest": "0x" + keccak(check({"type": "bytes"}, row.data, "data")).hex()}
    encoded = _encoded(row.abi or [], row.values or [])
    return {"digest": "0x" + keccak(encoded).hex(), "encoded": "0x" + encoded.hex()}


def _rows(params: Any, kind: type[Any]) -> list[Any]:
    items = params.items
    if any(getattr(params, name) is not None for name in kind.__struct_fields__ if name != "items"):
        raise InvalidParams("params", "either items or one item", "both")
    if len(items) > MAX_ITEMS:
        raise LimitExceeded("hash_items", f"{len(items)} items; the limit is {MAX_ITEMS}")
    rows = []
    for index, item in enumerate(items):
        row = shaped(item, kind, f"params.items[{index}]")
        if row.items is not None:
            raise InvalidParams(f"params.items[{index}]", "no items inside items", "some")
        rows.append(row)
    return rows


def _each(crypto: Crypto, rows: list[Any], work: Work, named: bool) -> list[dict[str, Any]]:
    """Return the answers for all rows; where they are `named`, an error says in which row it lies."""
    answers = []
    for index, row in enumerate(rows):
        try:
            answers.append(work(crypto, row))
        except InvalidParams as error:
            if not named:
                raise
            data = error.data
            raise InvalidParams(f"items[{index}].{data['param']}", data["expected"], data["got"]) from None
    return answers


def _encoded(abi: list[str | dict[str, Any]], values: list[Any]) -> bytes:
    declared = [{"name": str(n), "type": kind} if isinstance(kind, str) else kind for n, kind in enumerate(abi)]
    if len(declared) != len(values):
        raise InvalidParams("values", f"{len(declared)} values", f"{len(values)} values")
    types = []
    for index, kind in enumerate(declared):
        types.append(shaped(kind, AbiType, f"abi[{index}]").to_json())
        try:
            _check_names(types[-1], f"abi[{index}]")
            check_declared(types[-1], f"abi[{index}]")
        except AbiTypeError as error:
            raise InvalidParams(f"abi[{index}]", "a Solidity type", str(error)) from None
    checked = [
        check(kind, value, f"values[{index}]") for index, (kind, value) in enumerate(zip(types, values, strict=True))
    ]
    return encode(types, checked)


def _check_names(declared: dict[str, Any], where: str) -> None:
    names = [row["name"] for row in declared["components"]]
    if len(set(names)) != len(names):
        raise InvalidParams(where, "components with a name of their own", "one name twice")
    for row in declared["components"]:
        _check_names(row, where)
