"""Paths are read strictly and compared as integers (hardening.md 27)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wallet.paths import (
    FORBIDDEN,
    HARDENED,
    PathError,
    indexes,
    overlaps,
    parse_absolute,
    parse_plugin_path,
    parse_relative,
    text_of,
)

HOSTILE = [
    *("", "m", "m/", "/7002'", "7002'/0'/0'", "M/7002'/0'/0'", "m/7002'/0'/0'/", "m//7002'/0'", "m/7002'/0'/0"),
    *("m/7002h/0h/0h", "m/07002'/0'/0'", "m/7002'/00'/0'", "m/ 7002'/0'/0'", "m/7002'/0'/0' ", "m/7002'/0'/0'\n"),
    *("m/7002'/-1'/0'", "m/7002'/+1'/0'", "m/7002'/0-5'/0'", "m/7002'/0x1'/0'", "m/7002'/1e3'/0'", "m/7002'/1_0'/0'"),
    *("m/7002'/2147483648'/0'", "m/2147483692'/2147483708'/2147483648'", "m/7002'/99999999999'/0'", "m/7002'/0''/0'"),
    *("m/../44'/60'/0'", "m/7002'/*'/0'", "m/7002'/①'/0'", "m/7002'/٣'/0'", "m/7002'/0'/0'\0", "m/7002’/0’/0’"),
    "m" + "/1'" * 200,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_anything_but_the_one_spelling_is_refused(text: str) -> None:
    with pytest.raises(PathError):
        parse_absolute(text)


@pytest.mark.parametrize(
    "text", ["/0'", "0'/", "m/0'", "m", "00'", "01", "-1", "0h", " 0'", "2147483648", "../0'", "0//1"]
)
def test_relative_paths_are_as_strict(text: str) -> None:
    with pytest.raises(PathError):
        parse_relative(text)


@pytest.mark.parametrize("purpose", sorted(FORBIDDEN))
def test_other_wallets_purposes_are_out_of_bounds(purpose: int) -> None:
    with pytest.raises(PathError, match="other wallets"):
        parse_plugin_path(f"m/{purpose}'/60'/0'")


def test_a_plugin_path_is_deep_enough() -> None:
    assert parse_plugin_path("m/7002'/0'/0'") == (7002, 0, 0)
    with pytest.raises(PathError, match="short"):
        parse_plugin_path("m/7002'/0'")


def test_relative_paths_know_both_kinds() -> None:
    assert parse_relative("") == ()
    assert parse_relative("0'/5") == (0, ~5)
    assert indexes((0, ~5)) == (HARDENED, 5)


@given(st.lists(st.integers(0, HARDENED - 1), min_size=1, max_size=10))
def test_text_and_integers_are_the_same_path(numbers: list[int]) -> None:
    path = tuple(numbers)
    assert parse_absolute(text_of(path)) == path


@given(st.lists(st.integers(0, 3), max_size=5), st.lists(st.integers(0, 3), max_size=5))
def test_a_prefix_in_either_direction_overlaps(first: list[int], second: list[int]) -> None:
    expected = first == second[: len(first)] or second == first[: len(second)]
    assert overlaps(tuple(first), tuple(second)) == expected


@pytest.mark.parametrize("path", [(HARDENED,), (-HARDENED - 1,), (1.0,), ("1",), (True,), (0,) * 33])
def test_what_is_no_index_is_never_derived(path: tuple[int, ...]) -> None:
    with pytest.raises(PathError):
        indexes(path)
