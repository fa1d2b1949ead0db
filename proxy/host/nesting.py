"""How deep a JSON text nests, told before any parser sees it.

Parsers in C recurse, and libraries we load raise Python's recursion limit to 100,000: what would be a RecursionError is then
the end of the process (tried: 200,000 brackets end the daemon). So depth is counted first, without recursion.
"""

from __future__ import annotations

import re

MAX_NESTING = 64

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


def too_deep(text: bytes, limit: int = MAX_NESTING) -> bool:
    """Tell whether JSON text opens more than `limit` arrays and objects inside one another."""
    if text.count(b"[") + text.count(b"{") <= limit:
        return False
    depth = 0
    for match in _BRACKET.finditer(_STRING.sub(b"", text)):
        depth += 1 if match[0] in b"[{" else -1
        if depth > limit:
            return True
    return False
