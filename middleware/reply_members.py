"""What the cache looks at in a node's answer.

Apart from the module that uses it, which is compiled: msgspec reads annotations at run time, and compiled classes keep none.
"""

from __future__ import annotations

import msgspec


class ReplyMembers(msgspec.Struct):
    """Either is there, or the answer is none."""

    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
