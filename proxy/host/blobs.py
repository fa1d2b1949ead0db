"""Strings and bytes as they travel to and from plugins: text as a JSON string, bytes as `{base64}` (plugin.md)."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from middleware.errors import InvalidParams


class Base64(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes on the wire."""

    base64: str


Blob = str | Base64


def from_base64(text: str, where: str) -> bytes:
    """Return the bytes of strict base64. Raises InvalidParams."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidParams(where, "base64", text) from None


def to_bytes(blob: Blob, where: str) -> bytes:
    """Return a blob's bytes, text as UTF-8. Raises InvalidParams."""
    if isinstance(blob, Base64):
        return from_base64(blob.base64, where)
    return blob.encode("utf-8")


def to_base64(data: bytes) -> dict[str, Any]:
    """Return bytes in wire form."""
    return {"base64": base64.b64encode(data).decode("ascii")}


def text_or_base64(data: bytes) -> Any:
    """Return a string where the bytes are UTF-8, else `{base64}`."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return to_base64(data)
