"""What `line` takes from a node's notifications and from its answers to `eth_subscribe`.

Apart from the module that uses it, which is compiled: msgspec reads annotations at run time, and compiled classes keep none.
"""

from __future__ import annotations

import msgspec


class Push(msgspec.Struct):
    """The params of `eth_subscription`."""

    subscription: str
    result: msgspec.Raw


class Subscribed(msgspec.Struct):
    """An answer whose result is a subscription's id."""

    result: str
