"""Command-line arguments of the embedded L1, read here and written by `launch`. Imports nothing heavy."""

from __future__ import annotations

import argparse
import re

_FUND = re.compile(r"0x(?P<address>[0-9a-fA-F]{40})=(?P<wei>0x[0-9a-fA-F]{1,64}|[0-9]{1,78})\Z")


def address_and_wei(text: str) -> tuple[bytes, int]:
    """Read ADDRESS=WEI, wei in decimal or 0x."""
    found = _FUND.match(text)
    wei = int(found["wei"], 16 if found["wei"].startswith("0x") else 10) if found else -1
    if found is None or wei >> 256:
        raise argparse.ArgumentTypeError(
            f"expected ADDRESS=WEI, such as 0x{'ab' * 20}=1000000000000000000, got {text!r}"
        )
    return bytes.fromhex(found["address"]), wei


def fund_argument(address: str, wei: int) -> str:
    """Write what `address_and_wei` reads."""
    return f"{address}={wei}"


def port(text: str) -> int:
    """Read a TCP port; 0 means any free one."""
    if not text.isdecimal() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")
    return int(text)
