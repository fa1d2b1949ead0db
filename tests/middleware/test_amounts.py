"""Amounts for people are exact."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.amounts import decimal, ether


@pytest.mark.parametrize(
    ("wei", "text"),
    [
        (0, "0 ETH"),
        (1, "0.000000000000000001 ETH"),
        (10**18, "1 ETH"),
        (1_500_000_000_000_000_000, "1.5 ETH"),
        (10**18 + 1, "1.000000000000000001 ETH"),
        (-(10**17), "-0.1 ETH"),
    ],
)
def test_every_digit_is_kept(wei: int, text: str) -> None:
    assert ether(wei) == text


@given(st.integers(-(2**256), 2**256), st.integers(0, 36))
def test_it_is_the_number_with_its_point_moved(amount: int, places: int) -> None:
    text = decimal(amount, places)
    assert Decimal(text) == Decimal(f"{amount}E-{places}")
    assert not text.endswith(".")
    assert not ("." in text and text.endswith("0"))
