"""Permissions: what holds is on disk, what is revoked is gone for the next call, in memory and after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from middleware.waist import ANONYMOUS, SOCKET, Origin
from proxy.authority.capabilities import Budget
from proxy.authority.origins import BadOrigin, is_loopback, parse_origin
from proxy.authority.permissions import Permissions
from proxy.storage import Database

APP = Origin.web("https://app.example")
ALICE = "0x00000000000000000000000000000000000000A1"


class Clock:
    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "owner.db") as opened:
        yield opened


def permissions(database: Database, clock: Clock | None = None) -> Permissions:
    return Permissions(database.space("permissions"), database.space("sites"), clock or Clock())


def test_nothing_is_held_before_it_is_granted(database: Database) -> None:
    store = permissions(database)
    assert not store.is_connected(APP)
    assert store.accounts(APP) == ()
    assert not store.may_invoke(APP, "paychan", "makePayment")
    assert not store.may_read_state(APP, "paychan")
    assert store.objects(APP) == []


@pytest.mark.parametrize("origin", [SOCKET, ANONYMOUS, Origin.token("ci"), Origin.plugin("paychan")])
def test_only_pages_need_to_be_connected(database: Database, origin: Origin) -> None:
    assert permissions(database).is_connected(origin)


def test_grants_survive_a_restart_and_connect_the_page(database: Database) -> None:
    budget = Budget("ETH", 2**200, 86400)
    store = permissions(database)
    store.grant_accounts(APP, [ALICE])
    store.grant_invoke(APP, "paychan", ["makePayment"], budget, 2_000_000)
    store.grant_state(APP, ["paychan"])
    again = permissions(database)
    assert again.is_connected(APP)
    assert again.accounts(APP) == (ALICE,)
    assert again.may_invoke(APP, "paychan", "makePayment")
    assert not again.may_invoke(APP, "paychan", "close")
    assert again.budget(APP, "paychan") == budget
    assert again.may_read_state(APP, "paychan")
    assert again.objects(APP) == store.objects(APP)


def test_objects_are_those_of_eip_2255(database: Database) -> None:
    store = permissions(database, Clock(1234.5))
    store.grant_invoke(APP, "paychan", ["makePayment"], Budget("ETH", 10**18, 60), 9999)
    [held] = store.objects(APP)
    assert held.pop("id")
    assert held == {
        "invoker": "https://app.example",
        "parentCapability": "l2_invoke",
        "date": 1234,
        "caveats": [
            {
                "type": "plugins",
                "value": {
                    "paychan": {
                        "actions": ["makePayment"],
                        "budget": {"asset": "ETH", "amount": "0xde0b6b3a7640000", "period": 60},
                        "expires": 9999,
                    }
                },
            }
        ],
    }


def test_an_expired_grant_ends_by_itself_and_a_clock_set_back_revives_nothing(database: Database) -> None:
    clock = Clock(1000)
    store = permissions(database, clock)
    store.grant_invoke(APP, "paychan", ["makePayment"], expires=1100)
    assert store.may_invoke(APP, "paychan", "makePayment")
    clock.now = 1100
    assert not store.may_invoke(APP, "paychan", "makePayment")
    assert store.plugins(APP) == frozenset()
    assert store.objects(APP) == []
    clock.now = 1000
    assert not store.may_invoke(APP, "paychan", "makePayment")


def test_actions_join_on_the_same_terms_and_replace_on_others(database: Database) -> None:
    store = permissions(database)
    store.grant_invoke(APP, "paychan", ["makePayment"])
    store.grant_invoke(APP, "paychan", ["close"])
    assert store.may_invoke(APP, "paychan", "makePayment")
    store.grant_invoke(APP, "paychan", ["close"], Budget("ETH", 1, 60))
    assert not store.may_invoke(APP, "paychan", "makePayment")


def test_a_star_is_never_granted(database: Database) -> None:
    with pytest.raises(ValueError, match="by name"):
        permissions(database).grant_invoke(APP, "paychan", ["*"])


def test_revocation_holds_at_once_and_is_told(database: Database) -> None:
    told: list[Origin] = []
    store = permissions(database)
    store.on_revoked(told.append)
    store.grant_accounts(APP, [ALICE])
    store.grant_invoke(APP, "paychan", ["makePayment"])
    store.grant_invoke(APP, "other", ["go"])
    assert store.revoke(APP, "l2_invoke", "paychan")
    assert not store.may_invoke(APP, "paychan", "makePayment")
    assert store.may_invoke(APP, "other", "go")
    assert store.accounts(APP) == (ALICE,)
    assert not store.revoke(APP, "l2_invoke", "paychan")
    assert store.disconnect(APP)
    assert not store.is_connected(APP)
    assert store.accounts(APP) == ()
    assert told == [APP, APP]
    assert permissions(database).accounts(APP) == ()


def test_a_removed_plugin_is_taken_from_everyone(database: Database) -> None:
    store = permissions(database)
    for origin in (APP, SOCKET, Origin.token("ci")):
        store.grant_invoke(origin, "paychan", ["makePayment"])
        store.grant_state(origin, ["paychan", "other"])
    store.drop_plugin("paychan")
    for origin in (APP, SOCKET, Origin.token("ci")):
        assert store.plugins(origin) == {"other"}


def test_a_page_without_tls_cannot_be_connected(database: Database) -> None:
    store = permissions(database)
    page = Origin.web("http://shop.example")
    assert not store.connectable(page)
    with pytest.raises(BadOrigin):
        store.connect(page)
    with pytest.raises(BadOrigin):
        store.grant_accounts(page, [ALICE])
    assert not store.is_connected(page)
    assert store.accounts(page) == ()


@pytest.mark.parametrize(
    "text",
    [
        "https://app.example",
        "http://localhost:3000",
        "http://127.0.0.1",
        "http://[::1]:8080",
        "socket",
        "token:ci",
        "plugin:paychan",
        "chrome-extension://abcdefghijklmnop",
        "https://app.example:8443",
    ],
)
def test_names_of_origins_are_read_back(text: str) -> None:
    assert str(parse_origin(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "*",
        "app.example",
        "https://",
        "https://App.example",
        "https://app.example/",
        "ftp",
        "token:",
        "https://app.example:443",
        "http://localhost:80",
        "https://a b",
        "https://app.example:70000",
        "token:a b",
        "http://example.com",
        "https://user@app.example",
        "https://app.example:0443",
        "https://ap\u202ep.example",
    ],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(BadOrigin):
        parse_origin(text)


def test_loopback_pages_are_told_apart() -> None:
    assert is_loopback(Origin.web("http://localhost:3000"))
    assert is_loopback(Origin.web("http://[::1]:3000"))
    assert not is_loopback(Origin.web("https://localhost.evil.example"))
    assert not is_loopback(Origin.web("https://127.0.0.1.evil.example"))
    assert not is_loopback(Origin.token("localhost"))


def test_an_action_that_changed_is_taken_from_everybody_and_the_rest_stays(database: Database) -> None:
    store = permissions(database)
    other = Origin.web("https://other.example")
    told: list[Origin] = []
    store.on_revoked(told.append)
    store.grant_invoke(APP, "paychan", ["pay", "read"], Budget("ETH", 5, 60))
    store.grant_invoke(other, "paychan", ["pay"])
    store.grant_invoke(other, "stealth", ["pay"])
    store.drop_actions("paychan", ["pay", "gone"])
    for held in (store, permissions(database)):
        assert not held.may_invoke(APP, "paychan", "pay")
        assert held.may_invoke(APP, "paychan", "read")
        assert held.budget(APP, "paychan") == Budget("ETH", 5, 60)
        assert not held.may_invoke(other, "paychan", "pay")
        assert held.may_invoke(other, "stealth", "pay")
    assert sorted(map(str, told)) == sorted([str(APP), str(other)])
