"""A gateway's JSON ABI: read from the package file, and the functions and events the manifest names found in it.

Used at install (everything named must exist) and by whoever encodes a call. Only data is read; the file's path may not
leave the package.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from middleware.errors import shorten
from middleware.nesting import deeper_than
from proxy.host.abi_types import AbiTypeError, check_declared, signature_type
from proxy.host.frames import MAX_NESTING
from proxy.host.manifest import EventMap, GatewayEntry, ManifestError, normal_signature

MAX_ABI = 1024 * 1024


def read_abi(folder: Path, name: str) -> list[dict[str, Any]]:
    """Return the entries of an ABI file of the package (a list, or an object with `abi`). Raises ManifestError."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
        raise ManifestError(f"gateway, abi: {shorten(name)!r} does not stay inside the package")
    path = folder / pure
    try:
        if path.stat().st_size > MAX_ABI:
            raise ManifestError(f"gateway, abi: {name} is larger than {MAX_ABI} bytes")
        text = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"gateway, abi: {shorten(name)} cannot be read: {error.strerror}") from None
    try:
        found = None if deeper_than(MAX_NESTING, text) else json.loads(text)
    except ValueError:
        raise ManifestError(f"gateway, abi: {shorten(name)} is not JSON") from None
    entries = found.get("abi") if isinstance(found, dict) else found
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ManifestError(f"gateway, abi: {shorten(name)} holds no list of ABI entries")
    return entries


def find_function(abi: list[dict[str, Any]], signature: str) -> dict[str, Any] | None:
    """Return the ABI entry of the function with this normal signature."""
    for entry in abi:
        if entry.get("type", "function") == "function" and _signature(entry) == signature:
            return entry
    return None


def check_gateway(entry: GatewayEntry, abi: list[dict[str, Any]]) -> None:
    """Raise ManifestError unless every function and event the manifest names stands in the ABI with fitting arguments."""
    where = f"gateway {entry.name}"
    for kind in ("deposit", "withdraw", "dispute"):
        for text in getattr(entry, kind):
            signature = normal_signature(text, f"{where}, {kind}")
            found = find_function(abi, signature)
            if found is None:
                raise ManifestError(f"{where}, {kind}: the ABI has no function {signature}")
            if found.get("stateMutability") in ("view", "pure"):
                raise ManifestError(f"{where}, {kind}: {signature} only reads; it needs no transaction")
    for name, event in (("locked", entry.locked), ("released", entry.released)):
        if event is not None:
            _check_event(f"{where}, {name}", event, abi)


def find_event(abi: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    """Return the ABI entry of the only event called `name` (or with this full signature); None if none or several."""
    events = [entry for entry in abi if entry.get("type") == "event"]
    found = [entry for entry in events if name in (entry.get("name"), _signature(entry))]
    return found[0] if len(found) == 1 else None


def _check_event(where: str, event: EventMap, abi: list[dict[str, Any]]) -> None:
    found = find_event(abi, event.event)
    if found is None:
        raise ManifestError(f"{where}: the ABI has no single event {shorten(event.event)!r}")
    kinds = {argument.get("name"): str(argument.get("type")) for argument in found.get("inputs") or []}
    wanted = [("owner", event.owner, "address"), ("amount", event.amount, "uint")]
    if event.asset is not None:
        wanted.append(("asset", event.asset, "address"))
    for role, argument, kind in wanted:
        if not kinds.get(argument, "").startswith(kind):
            raise ManifestError(
                f"{where}: {role} names {shorten(argument)!r}, which is no {kind} argument of the event"
            )


def _signature(entry: dict[str, Any]) -> str | None:
    name, inputs = entry.get("name"), entry.get("inputs") or []
    if not isinstance(name, str) or not isinstance(inputs, list):
        return None
    try:
        for index, argument in enumerate(inputs):
            check_declared({"name": str(index), **argument}, str(index))
        return f"{name}({','.join(signature_type(argument) for argument in inputs)})"
    except (AbiTypeError, KeyError, TypeError):
        return None
