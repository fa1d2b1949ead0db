"""A question to the owner: what the asker hands over, what the owner's answer looks like.

Every part that needs a decision (wallet, host, the approval link) builds a `Question` and awaits `ask(question)` of the
authority; this module is what they share, so that none of them imports another. All text in `summary`, `warnings` and
`facts` is computed by the proxy from exactly what will run; words of the asker stand in `quoted` alone (hardening.md 19).
`digest` binds the answer to what will be executed (security.md 11): build it with `digest_of`.

This module must never do I/O and never import anything of `proxy`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import msgspec

from middleware.errors import Refused
from middleware.waist import Origin, Presence

Kind: TypeAlias = Literal[
    "connect",
    "accounts",
    "permissions",
    "transaction",
    "message",
    "typed_data",
    "deposit",
    "withdraw",
    "plan",
    "transfer",
    "sign",
    "invoke",
    "plugin",
]

OWNER_ONLY: frozenset[str] = frozenset({"connect", "accounts", "permissions", "plugin"})
"""Kinds no rule ever decides (hardening.md 12); nor whatever has `Facts.always_ask`."""


class Withdrawn(Refused):
    """4001: nobody waits for the answer any more (or the daemon stops), so the question was taken back; nothing ran."""


class Facts(msgspec.Struct, frozen=True):
    """What rules match on; every value is computed by the proxy, `None` means not applicable or unknown.

    `method`: JSON-RPC or host method (`eth_sendTransaction`, `l2_invoke`, `deposit`, `sign` …). `function`: ABI signature.
    `value`: what it costs at most in `asset` ("ETH" or a token's address); for ETH in wei and with the fee bound.
    `calldata`: the transaction has some, even if no `function` is known for it. `steps`: of a plan; a rule allows a plan
    only if it allows every step.
    """

    method: str
    plugin: str | None = None
    action: str | None = None
    function: str | None = None
    to: str | None = None
    asset: str | None = None
    value: int | None = None
    verifying_contract: str | None = None
    always_ask: bool = False
    calldata: bool = False
    steps: tuple[Facts, ...] = ()


class Question(msgspec.Struct, frozen=True):
    """One question. `deadline` is unix seconds (None: the configured number of seconds from now).

    `warnings` are "code: sentence"; rules and the owner's `--despite-warnings` refer to the code before the colon.
    `still_allowed` is called when the answer arrives and raises an `RpcError` if the origin may no longer (revoked,
    locked; hardening.md 18). `apply`, if given, runs with the owner's narrowing before anyone hears of an approval; what
    it raises is the asker's error, so that an approval that takes no effect never looks like one that did.
    `serving` is the origin a plugin says it acts for: shown, never an authority.
    """

    origin: Origin
    kind: Kind
    summary: str
    digest: str
    facts: Facts
    details: dict[str, Any] = msgspec.field(default_factory=dict)
    quoted: dict[str, str] = msgspec.field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    presence: Presence | None = None
    serving: Origin | None = None
    deadline: float | None = None
    still_allowed: Callable[[], None] | None = None
    apply: Callable[[Any], None] | None = None


class Decision(msgspec.Struct, frozen=True):
    """A yes. `id` names the question, or the rule; `at` is unix seconds.

    `chosen` is the owner's narrowing: `{"accounts": [address, …]}` and `{"permissions": {…}}` (the shape that
    wallet_requestPermissions takes), or None where the owner chose nothing.
    """

    source: Literal["owner", "rule", "policy"]
    id: str
    at: float
    chosen: Any = None


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def digest_of(value: Any) -> str:
    """Return `0x` + 64 hex digits: SHA-256 over the canonical JSON of `value` (sorted keys, no spaces, UTF-8).

    JSON types only; write quantities as strings, so that no reader of the JSON can round them.
    """
    return "0x" + hashlib.sha256(_canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def warning_code(warning: str) -> str:
    """Return the code of a warning: what stands before its first colon."""
    return warning.partition(":")[0].strip()
