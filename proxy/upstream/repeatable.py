"""Which requests may be sent a second time when a connection died before their answer came.

Asked by `L1` alone. Only what changes nothing in the node may be repeated: reads of the standard namespaces. A send never; nor what a
filter hands out once; nor any method of a developer's namespace, whose effects are not known here.
"""

from __future__ import annotations

_READS = ("eth_", "net_", "web3_")
_CHANGES = (
    "eth_send",
    "eth_new",
    "eth_uninstall",
    "eth_getFilter",
    "eth_subscribe",
    "eth_unsubscribe",
    "eth_submit",
    "eth_sign",
)


def may_repeat(method: str) -> bool:
    """Tell whether asking `method` twice is the same as asking it once."""
    return method.startswith(_READS) and not method.startswith(_CHANGES)
