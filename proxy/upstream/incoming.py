"""What `envelope.read` takes from a frame of a node.

Apart from the module that uses it, which is compiled: msgspec reads annotations at run time, and compiled classes keep none.
"""

from __future__ import annotations

import msgspec


class Incoming(msgspec.Struct, gc=False):
    """The members of a frame from a node that decide where it belongs; decoding one checks the whole frame."""

    jsonrpc: str | msgspec.UnsetType = msgspec.UNSET
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    method: str | msgspec.UnsetType = msgspec.UNSET
    params: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
