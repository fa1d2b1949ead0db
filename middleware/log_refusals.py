"""What nodes say when an eth_getLogs covers too much, and what they say would do. No two say it alike.

Read from the error's message and data by the words they have in common, not by code: geth, erigon, nethermind, besu, reth and
the large providers answer with -32000, -32005, -32602, -32614, 35 and more for the same thing. A wrong guess costs some
calls, after which the caller gets the node's own error all the same; so the words are read generously.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

_LONGEST = 16 * 1024  # bytes; a refusal is short

_WHAT = re.compile(r"\brange|results?\b|\blogs\b|response|blocks?\b|query|queries")
_TOO_MUCH = re.compile(
    r"too (?:wide|large|big|many|long|broad|much)|exceed|limit|(?:more|less|fewer|smaller) than|up to|at most|\bmax|\bover \d"
    r"|bigger|larger|greater|time ?(?:d )?out|should work|(?:re)?try with|within \d|restricted|\bonly \d|narrow|<=? ?\d"
)
_OTHER_LIMIT = re.compile(
    r"\brate\b|rate.?limit|per (?:second|minute|day)|quota|credits|\bdaily\b|monthly|concurren|too many requests"
    r"|beyond|invalid block range|unauthor|api key|not found|unknown block|header|pruned|history"
)
# Of another limit too, unless the range or what was found is named beside it.
_FILTER = re.compile(r"address|topic")
_NOT_FILTER = re.compile(r"\brange|results?\b|\blogs\b|response|\bblocks\b")
_TIME = re.compile(r"time ?(?:d )?out|deadline exceeded")  # says nothing of a range, and a smaller one takes less of it
_AMOUNT = re.compile(r"results?\b|response|\blogs\b(?! are limited)")
_SUGGESTED = (
    re.compile(r"\[ *0x([0-9a-f]{1,16}) *, *0x([0-9a-f]{1,16}) *\]"),
    re.compile(r"(?:re)?try with (?:the|this)?(?: block)? ?range:? *([0-9]{1,18}) *- *([0-9]{1,18})"),
)
_MOST_BLOCKS = re.compile(
    r"(?:limited to|limit(?: of|:)?|up to|maximum|max(?: is)?|more than|than|over|within|below|allowed|restricted to|only|not exceed|<=?|>)\D{0,24}?(?:\b0 ?- ?)?"
    r"(\d{1,3}(?:,\d{3})+|\d{1,9})(k?)\b(?! *(?:results|logs|m?s\b|sec|min))"
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """`blocks`: how many the node says it would answer; `amount`: it is the found that is too much, elsewhere it may be less."""

    blocks: int | None
    amount: bool


class _Error(msgspec.Struct):
    message: Any = ""
    data: Any = None
    code: Any = None


class _Reply(msgspec.Struct):
    error: _Error | None = None


_reply = msgspec.json.Decoder(_Reply)


def refusal(body: bytes) -> Refusal | None:
    """Return what a node's answer to eth_getLogs says about a range that covers too much; None if it says nothing of that."""
    error = _error(body)
    text = "" if error is None else _words(error)
    if error is None or not (_plainly(text) or (error.code == -32005 and not _of_another_limit(text))):  # EIP-1474
        return None
    amount = _AMOUNT.search(text) is not None or _TIME.search(text) is not None
    blocks = _suggested(text, error.data)
    return Refusal(blocks if amount or blocks is not None else _most_blocks(text), amount)


def names_too_much(body: bytes) -> bool:
    """Tell whether a node's answer to eth_getLogs says in words that it covers too much; a code alone may mean a limit of any kind."""
    error = _error(body)
    return error is not None and _plainly(_words(error))


def _error(body: bytes) -> _Error | None:
    if len(body) > _LONGEST or b'"error"' not in body:
        return None
    try:
        return _reply.decode(body).error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def _words(error: _Error) -> str:
    return f"{error.message} {_text(error.data)}".lower()


def _plainly(text: str) -> bool:
    named = (_WHAT.search(text) and _TOO_MUCH.search(text)) or _TIME.search(text)
    return named is not None and not _of_another_limit(text)


def _of_another_limit(text: str) -> bool:
    return bool(_OTHER_LIMIT.search(text) or (_FILTER.search(text) and not _NOT_FILTER.search(text)))


def _suggested(text: str, data: Any) -> int | None:
    for pattern, base in zip(_SUGGESTED, (16, 10), strict=True):
        if match := pattern.search(text):
            return _width(int(match[1], base), int(match[2], base))
    if isinstance(data, dict):
        try:
            return _width(int(str(data.get("from")), 16), int(str(data.get("to")), 16))
        except ValueError:
            return None
    return None


def _most_blocks(text: str) -> int | None:
    numbers = [int(number.replace(",", "")) * (1000 if k else 1) for number, k in _MOST_BLOCKS.findall(text)]
    return min((number for number in numbers if number > 0), default=None)


def _width(first: int, last: int) -> int | None:
    return last - first + 1 if last >= first else None


def _text(data: Any) -> str:
    """Return the words in an error's data, which some nodes put the reason into."""
    if isinstance(data, dict):
        return " ".join(str(value) for value in data.values() if isinstance(value, str | int))
    return data if isinstance(data, str) else ""
