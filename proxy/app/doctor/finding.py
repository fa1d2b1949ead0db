"""What the doctor finds: one line for the owner, with what to do where something is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """`level`: ok; warn (it works, but know this); fail (it does not work). `do`: one sentence, empty when all is well."""

    check: str
    level: Literal["ok", "warn", "fail"]
    finding: str
    do: str = ""


def ok(check: str, finding: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(check, "ok", finding)


def warn(check: str, finding: str, do: str) -> Finding:
    """Return something to know about."""
    return Finding(check, "warn", finding, do)


def fail(check: str, finding: str, do: str) -> Finding:
    """Return something that must be mended."""
    return Finding(check, "fail", finding, do)
