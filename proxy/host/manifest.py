"""`plugin.toml`: what a plugin declares, read strictly (plugin.md, "Manifest").

The first thing the host learns of a plugin and the last word on what it may ever ask for. Unknown keys are errors that
name the nearest known key. This module only reads text: it must never run or import anything of the package, and it does
not decide about key paths (the wallet's parser does, hardening.md 27) or L1 methods (the method table does).
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from middleware.errors import shorten
from proxy.host.abi_types import AbiTypeError, check_declared

MANIFEST = "plugin.toml"
MAX_MANIFEST = 256 * 1024
GRANTS = ("store", "keys", "keys.export", "hub", "gateway", "layer1", "transfer", "eth_sendRawTransaction")
NAMED_GRANTS = frozenset({"keys.export", "transfer", "eth_sendRawTransaction"})  # never part of "all" (hardening.md 31)

_ID = re.compile(r"[a-z0-9-]{2,32}", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}", re.ASCII)
_PYTHON_ENTRY = re.compile(r"[A-Za-z_][\w]*(\.[A-Za-z_][\w]*)*:[A-Za-z_]\w*", re.ASCII)
_SIGNATURE = re.compile(r"([A-Za-z_$][\w$]*)\(([\w\[\](),]*)\)", re.ASCII)
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_METHOD = re.compile(r"[A-Za-z][A-Za-z0-9]*_[A-Za-z0-9_]+", re.ASCII)
_UNFIT = frozenset({"__proto__", "constructor", "prototype"})


class ManifestError(ValueError):
    """The manifest cannot be used; one sentence says where and why."""


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the manifest; unknown keys are refused."""


class Keys(Table, frozen=True, kw_only=True):
    """[keys] `path`: the subtree that is the plugin's alone; `export`: it asks for the private keys below it."""

    path: str
    export: bool = False


class Hub(Table, frozen=True, kw_only=True):
    """[hub] the one server the proxy connects the plugin to."""

    url: str


class EventMap(Table, frozen=True, kw_only=True):
    """An event of the gateway and which of its arguments are owner, amount and (for tokens) asset."""

    event: str
    owner: str
    amount: str
    asset: str | None = None


class GatewayEntry(Table, frozen=True, kw_only=True):
    """[[gateway]] the plugin's contract on one chain. `max_value`: wei a `withdraw` may carry."""

    name: str = "main"
    chain: Annotated[int, Meta(ge=1, lt=2**53)]
    address: str
    since: Annotated[int, Meta(ge=0, lt=2**53)] = 0
    abi: str
    deposit: list[str] = []
    withdraw: list[str] = []
    dispute: list[str] = []
    max_value: str | int = 0
    locked: EventMap | None = None
    released: EventMap | None = None


class Param(Table, frozen=True, kw_only=True):
    """A declared value: Solidity type, with `components` for tuples."""

    name: str
    type: str
    description: str = ""
    components: list[Param] = []

    def to_json(self) -> dict[str, Any]:
        """Return the row as `l2_actions` shows it."""
        row: dict[str, Any] = {"name": self.name, "type": self.type}
        if self.description:
            row["description"] = self.description
        if self.components:
            row["components"] = [component.to_json() for component in self.components]
        return row


class Spends(Table, frozen=True, kw_only=True):
    """Which parameter is the most the action may cost, and of what: "ETH" or a token address."""

    param: str
    asset: str


class Action(Table, frozen=True, kw_only=True):
    """[[action]] what sites may ask the plugin to do."""

    name: str
    description: str = ""
    params: list[Param] = []
    returns: list[Param] = []
    spends: Spends | None = None
    approval: Literal["always", "policy", "never"] = "policy"
    idempotent: bool = False


class Permissions(Table, frozen=True, kw_only=True):
    """[permissions] everything else it wants; granted one by one at install."""

    layer1: list[str] = []
    transfer: bool = False
    store_bytes: Annotated[int, Meta(ge=0, le=2**40)] = 64 * 1024 * 1024
    memory_bytes: Annotated[int, Meta(ge=64 * 1024 * 1024, le=2**36)] = 256 * 1024 * 1024
    cpu_seconds_per_minute: Annotated[int, Meta(ge=1, le=60)] = 30
    watch_while_locked: bool = False


class Manifest(Table, frozen=True, kw_only=True):
    """The whole of `plugin.toml`."""

    id: str
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    version: str
    description: Annotated[str, Meta(max_length=500)] = ""
    runtime: Literal["python", "npm"]
    entry: str
    api: Literal[1] = 1
    dependencies: str | None = None
    keys: Keys | None = None
    hub: Hub | None = None
    gateway: Annotated[list[GatewayEntry], Meta(max_length=64)] = []
    action: Annotated[list[Action], Meta(max_length=256)] = []
    permissions: Permissions = Permissions()

    def requested(self) -> frozenset[str]:
        """Return the names of what it asks the owner for; a subset of `GRANTS`."""
        asked = {
            "store": self.permissions.store_bytes > 0,
            "keys": self.keys is not None,
            "keys.export": self.keys is not None and self.keys.export,
            "hub": self.hub is not None,
            "gateway": bool(self.gateway),
            "layer1": any(method != "eth_sendRawTransaction" for method in self.permissions.layer1),
            "transfer": self.permissions.transfer,
            "eth_sendRawTransaction": "eth_sendRawTransaction" in self.permissions.layer1,
        }
        return frozenset(name for name, wanted in asked.items() if wanted)


def sends(method: str) -> bool:
    """Tell whether an L1 method sends something, however it is spelled: only one of them may a plugin ask for by name."""
    return method.lower().startswith("eth_send")


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest at the root of `folder`. Raises ManifestError."""
    path = folder / MANIFEST
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ManifestError(f"there is no {MANIFEST} in {folder}") from None
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror}") from None
    return parse_manifest(raw)


def parse_manifest(raw: bytes) -> Manifest:
    """Return the manifest in `raw` (TOML), every rule of plugin.md checked that needs no other file. Raises ManifestError."""
    if len(raw) > MAX_MANIFEST:
        raise ManifestError(f"{MANIFEST} has {len(raw)} bytes; the limit is {MAX_MANIFEST}")
    try:
        table = tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ManifestError(f"{MANIFEST} is not TOML: {error}") from None
    _refuse_unknown(table, Manifest, "")
    try:
        manifest = msgspec.convert(table, Manifest)
    except msgspec.ValidationError as error:
        raise ManifestError(f"{MANIFEST}: {error}") from None
    _check_head(manifest)
    _check_gateways(manifest)
    _check_actions(manifest)
    _check_permissions(manifest)
    return manifest


def normal_signature(text: str, where: str) -> str:
    """Return `name(type,…)` with `uint`/`int` written out and spaces dropped. Raises ManifestError."""
    squeezed = re.sub(r"\s+", "", text)
    if _SIGNATURE.fullmatch(squeezed) is None:
        raise ManifestError(f"{where}: {shorten(text)!r} is not a function signature like open(address,uint256)")
    name, _, types = squeezed.partition("(")
    return name + "(" + re.sub(r"\b(u?int)\b", r"\g<1>256", types)


def _refuse_unknown(table: dict[str, Any], kind: type[Table], where: str) -> None:
    known = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in table.items():
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"known here: {', '.join(sorted(known))}"
            raise ManifestError(f"{MANIFEST}: unknown key {where}{shorten(key)}; {hint}")
        if get_origin(known[key]) is Literal and value not in get_args(known[key]):
            choice = " or ".join(map(json.dumps, get_args(known[key])))
            raise ManifestError(f"{MANIFEST}: {where}{key} is {choice}, not {shorten(json.dumps(value, default=str))}")
        inner = _inner_table(known[key])
        if inner is None:
            continue
        for row in value if isinstance(value, list) else [value]:
            if isinstance(row, dict):
                _refuse_unknown(row, inner, f"{where}{key}.")


def _inner_table(kind: Any) -> type[Table] | None:
    if isinstance(kind, type) and get_origin(kind) is None and issubclass(kind, Table):
        return kind
    for argument in get_args(kind):
        if (found := _inner_table(argument)) is not None:
            return found
    return None


def _check_head(manifest: Manifest) -> None:
    if _ID.fullmatch(manifest.id) is None:
        raise ManifestError(f"id: {shorten(manifest.id)!r} is not 2 to 32 of a-z, 0-9 and -")
    if _VERSION.fullmatch(manifest.version) is None:
        raise ManifestError(f"version: {shorten(manifest.version)!r} is not a version like 1.2.0")
    if manifest.runtime == "python" and _PYTHON_ENTRY.fullmatch(manifest.entry) is None:
        raise ManifestError(f"entry: {shorten(manifest.entry)!r} is not module:Class")
    for where, text in (("name", manifest.name), ("description", manifest.description)):
        if not text.isprintable():
            raise ManifestError(f"{where}: holds characters that cannot be printed")
    if manifest.hub is not None:
        check_hub_url(manifest.hub.url)


def check_hub_url(url: str) -> None:
    """Raise ManifestError unless `url` is ws(s):// or http(s):// with a host and without user, query or fragment."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("ws", "wss", "http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        fine = False
        parts = urlsplit("")
    if not fine or not url.isascii() or not url.isprintable() or " " in url:
        raise ManifestError(f"hub: {shorten(url)!r} is not a ws(s):// or http(s):// address")
    if parts.username is not None or parts.query or parts.fragment or "\\" in url:
        raise ManifestError("hub: the address holds no user, query or fragment")


def _check_gateways(manifest: Manifest) -> None:
    seen: set[tuple[str, int]] = set()
    for entry in manifest.gateway:
        where = f"gateway {shorten(entry.name)} on chain {entry.chain}"
        if _NAME.fullmatch(entry.name.replace("-", "_")) is None:
            raise ManifestError(f"gateway: the name {shorten(entry.name)!r} is not letters, digits, - and _")
        if (entry.name, entry.chain) in seen:
            raise ManifestError(f"{where} is declared twice")
        seen.add((entry.name, entry.chain))
        if _ADDRESS.fullmatch(entry.address) is None:
            raise ManifestError(f"{where}: address {shorten(entry.address)!r} is not 0x and 40 hex digits")
        for kind in ("deposit", "withdraw", "dispute"):
            for text in getattr(entry, kind):
                normal_signature(text, f"{where}, {kind}")
        wei(entry.max_value, f"{where}, max_value")


def wei(value: str | int, where: str) -> int:
    """Return an amount written as decimal text, 0x text or an integer. Raises ManifestError."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,78}|0x[0-9a-fA-F]{1,64}", value, re.ASCII):
        value = int(value, 0 if value.startswith("0x") else 10)
    if not isinstance(value, int) or not 0 <= value < 2**256:
        raise ManifestError(f"{where}: {shorten(value)!r} is not an amount in wei")
    return value


def _check_actions(manifest: Manifest) -> None:
    seen: set[str] = set()
    for action in manifest.action:
        if _NAME.fullmatch(action.name) is None or action.name.startswith("_") or action.name in _UNFIT:
            raise ManifestError(f"action: {shorten(action.name)!r} is not a name like makePayment")
        if action.name in seen:
            raise ManifestError(f"action {action.name} is declared twice")
        seen.add(action.name)
        _check_params(f"action {action.name}, params", action.params)
        _check_params(f"action {action.name}, returns", action.returns)
        _check_spends(action)


def _check_params(where: str, params: list[Param]) -> None:
    names = [param.name for param in params]
    for name in names:
        if _NAME.fullmatch(name) is None or name in _UNFIT:
            raise ManifestError(f"{where}: {shorten(name)!r} is not a name like toAddress")
    if len(set(names)) != len(names):
        raise ManifestError(f"{where}: a name stands there twice")
    for param in params:
        try:
            check_declared(param.to_json(), param.name)
        except AbiTypeError as error:
            raise ManifestError(f"{where}: {error}") from None
        if param.components:
            _check_params(f"{where}.{param.name}", param.components)


def _check_spends(action: Action) -> None:
    if action.spends is None:
        return
    where = f"action {action.name}, spends"
    kinds = {param.name: param.type for param in action.params}
    if re.fullmatch(r"uint\d*", kinds.get(action.spends.param, "")) is None:
        raise ManifestError(f"{where}: {shorten(action.spends.param)!r} is no top-level uintN parameter of it")
    if action.spends.asset != "ETH" and _ADDRESS.fullmatch(action.spends.asset) is None:
        raise ManifestError(f'{where}: asset is "ETH" or a token address, not {shorten(action.spends.asset)!r}')
    if action.approval == "never":
        raise ManifestError(f'{where}: an action that spends cannot have approval = "never"')


def _check_permissions(manifest: Manifest) -> None:
    for method in manifest.permissions.layer1:
        if _METHOD.fullmatch(method) is None:
            raise ManifestError(f"permissions.layer1: {shorten(method)!r} is not the name of an L1 method")
