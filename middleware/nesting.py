"""How deep a JSON text nests, told without recursion and before any parser sees it.

Parsers in C recurse as deep as Python's recursion limit lets them, and libraries raise that limit to where the stack ends
first (py_ecc: 100,000). Both the doors and the L1 side ask here: a request is refused, or told how it must travel, by its
depth. No loop over brackets in Python: two megabytes of them must not hold up everybody else.
"""

from __future__ import annotations

from array import array
from itertools import accumulate

_NO_BRACKETS = bytes(sorted({*range(256)} - {*b"[]{}"}))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


def depth(json: bytes) -> int:
    """Return how many arrays and objects are open inside one another at most; brackets in strings do not count."""
    if b"\\" in json:  # escapes, in their order: after these a quote begins or ends a string
        json = json.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = b"".join(json.split(b'"')[::2])
    steps = array("b", outside.translate(_STEPS, _NO_BRACKETS))
    return max(accumulate(steps, initial=0))


def deeper_than(levels: int, json: bytes) -> bool:
    """Tell whether `json` nests deeper than `levels`; cheap for the usual text with few brackets."""
    return json.count(b"[") + json.count(b"{") > levels and depth(json) > levels
