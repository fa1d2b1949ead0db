"""What a filter object means, and which ones are refused before a node is asked."""

from __future__ import annotations

from typing import Any

import pytest

from middleware.errors import InvalidParams
from proxy.upstream.log_filter import LogFilter, read_filter
from proxy.upstream.wishes import key, read_wish

A, B = "0x" + "aa" * 20, "0x" + "bb" * 20
T, U = "0x" + "11" * 32, "0x" + "ee" * 32


@pytest.mark.parametrize(
    ("given", "criteria"),
    [
        ({}, {}),
        ({"address": None, "topics": None, "fromBlock": None, "unknown": 1}, {}),
        ({"address": A.upper().replace("0X", "0x")}, {"address": A}),
        ({"address": [A]}, {"address": A}),
        ({"address": [B, A, B.upper().replace("0X", "0x")]}, {"address": [A, B]}),
        ({"address": []}, {}),
        ({"topics": []}, {}),
        ({"topics": [T.upper().replace("0X", "0x")]}, {"topics": [T]}),
        ({"topics": [[T]]}, {"topics": [T]}),
        ({"topics": [None, [U, T]]}, {"topics": [None, [T, U]]}),
        ({"topics": [T, None]}, {"topics": [T, None]}),  # two topics at least
        ({"topics": [[], [T, None]]}, {"topics": [None, None]}),  # geth: anything, in both places
    ],
)
def test_criteria_in_one_form(given: dict[str, Any], criteria: dict[str, Any]) -> None:
    assert read_filter(given) == LogFilter(criteria)


@pytest.mark.parametrize(
    ("given", "inside", "outside"),
    [
        ({"fromBlock": "0x5"}, (5, 9), (4,)),
        ({"toBlock": "0x5"}, (0, 5), (6,)),
        ({"fromBlock": "0x5", "toBlock": "0x5"}, (5,), (4, 6)),
        ({"fromBlock": "earliest", "toBlock": "latest"}, (0, 9), ()),
        ({"fromBlock": "finalized", "toBlock": "pending"}, (0, 9), ()),
        ({"fromBlock": "latest", "toBlock": "earliest"}, (0,), (1,)),
        ({"blockHash": T}, (), (0, 5)),
    ],
)
def test_bounds_include_both_ends(given: dict[str, Any], inside: tuple[int, ...], outside: tuple[int, ...]) -> None:
    wanted = read_filter(given)
    assert all(wanted.takes(number) for number in inside)
    assert not any(wanted.takes(number) for number in outside)


REFUSED: list[tuple[Any, str]] = [
    (None, "0"),
    ([], "0"),
    ({"address": "nonsense"}, "address"),
    ({"address": A[:-1]}, "address"),
    ({"address": A.removeprefix("0x")}, "address"),
    ({"address": [A, 1]}, "address.1"),
    ({"address": {}}, "address"),
    ({"topics": T}, "topics"),
    ({"topics": [None] * 5}, "topics"),
    ({"topics": [T + "00"]}, "topics.0"),
    ({"topics": [None, [T, "0x1"]]}, "topics.1.1"),
    ({"topics": [[[T]]]}, "topics.0.0"),
    ({"topics": [1]}, "topics.0"),
    ({"fromBlock": 5}, "fromBlock"),
    ({"fromBlock": "newest"}, "fromBlock"),
    ({"fromBlock": "0x"}, "fromBlock"),
    ({"toBlock": "5"}, "toBlock"),
    ({"toBlock": "finalized"}, "toBlock"),  # a filter that could not keep its word
    ({"toBlock": "safe"}, "toBlock"),
    ({"fromBlock": "0x5", "toBlock": "0x4"}, "toBlock"),
    ({"blockHash": "0x1"}, "blockHash"),
    ({"blockHash": 1}, "blockHash"),
    ({"blockHash": T, "fromBlock": "0x1"}, "fromBlock"),
    ({"blockHash": T, "toBlock": "latest"}, "toBlock"),
]


@pytest.mark.parametrize(("given", "param"), REFUSED)
def test_what_cannot_be_read_is_named(given: Any, param: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        read_filter(given)
    assert caught.value.data["param"] == param


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (["newHeads"], ["newHeads", None], True),
        (["newPendingTransactions"], ["newPendingTransactions", False], True),
        (["newPendingTransactions"], ["newPendingTransactions", True], False),
        (["logs"], ["logs", {}], True),
        (["logs", {"address": A}], ["logs", {"fromBlock": "latest", "address": [A]}], True),
        (["logs", {"address": A}], ["logs", {"address": B}], False),
        (["logs", {"topics": [T]}], ["logs", {"topics": [T, None]}], False),
        (["logs", {"topics": [[U, T]]}], ["logs", {"topics": [[T, U]]}], True),
        (["logs", {}], ["logs", {"fromBlock": "0x5"}], False),
        (["foo", 1], ["foo", 2], False),
        (["newHeads"], ["syncing"], False),
    ],
)
def test_equal_wishes_have_equal_keys(one: list[Any], other: list[Any], same: bool) -> None:
    assert (key(read_wish(one)) == key(read_wish(other))) is same


@pytest.mark.parametrize(
    "params",
    [
        *([], [1], [None]),
        *(
            ["newHeads", {}],
            ["syncing", True],
            ["logs", {}, {}],
            ["logs", []],
            ["logs", "x"],
            ["logs", {"blockHash": T}],
        ),
        *(["newPendingTransactions", "true"], ["newPendingTransactions", 1], ["newPendingTransactions", True, 1]),
    ],
)
def test_a_wish_that_cannot_be_read_is_refused(params: list[Any]) -> None:
    with pytest.raises(InvalidParams):
        read_wish(params)
