"""The members of a call, as `envelope` reads them.

Apart from the module that uses it, which is compiled: msgspec reads annotations at run time, and compiled classes keep none.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, UnsetType


class Members(msgspec.Struct):
    """All that have a meaning; any may be missing."""

    jsonrpc: Raw | UnsetType = UNSET
    id: Raw | UnsetType = UNSET
    method: Raw | UnsetType = UNSET
    params: Raw | UnsetType = UNSET


class UsualMembers(msgspec.Struct, gc=False):
    """A call as libraries write it. If its members, as decoded, fill the body, there is no room for anything else in it.

    Neither for another member, nor for one twice, nor for spaces or an escape, which is longer than what it stands for.
    """

    jsonrpc: str
    id: Raw
    method: str
    params: Raw
