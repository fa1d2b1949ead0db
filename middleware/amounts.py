"""Amounts as people read them, for questions, tables and errors. Exact: no digit is rounded away. No I/O, nothing of `proxy`."""

from __future__ import annotations

WEI = 10**18


def ether(wei: int) -> str:
    """Return `1.5 ETH` for 1500000000000000000 wei; every digit is kept."""
    return f"{decimal(wei, 18)} ETH"


def decimal(amount: int, places: int) -> str:
    """Return `amount` with the decimal point moved `places` to the left, without trailing zeros."""
    whole, rest = divmod(abs(amount), 10**places)
    fraction = str(rest).zfill(places).rstrip("0") if rest else ""
    return f"{'-' if amount < 0 else ''}{whole}{'.' if fraction else ''}{fraction}"
