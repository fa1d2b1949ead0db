"""The permission link: who may call what, by kind of origin, before anything is looked at."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from middleware.errors import InvalidParams, RpcError, Unauthorized
from middleware.methods import HANDSHAKE, MethodTable
from middleware.permission import PermissionLink, UnknownSites
from middleware.waist import ANONYMOUS, SOCKET, Answer, Context, Origin, Request, Result, answered

SITE = Origin.web("https://app.example")
LOCAL = Origin.web("http://localhost:3000")
PLAIN = Origin.web("http://shop.example")
CI = Origin.token("ci")


class Held:
    """Permissions as the test sets them."""

    def __init__(self) -> None:
        self.connected = {SITE}
        self.owned: dict[Origin, tuple[str, ...]] = {}
        self.actions: set[tuple[Origin, str, str]] = set()
        self.states: set[tuple[Origin, str]] = set()

    def is_connected(self, origin: Origin) -> bool:
        return origin.kind.value != "web" or origin in self.connected

    def connectable(self, origin: Origin) -> bool:
        return origin != PLAIN

    def accounts(self, origin: Origin) -> tuple[str, ...]:
        return self.owned.get(origin, ())

    def may_invoke(self, origin: Origin, plugin: str, action: str) -> bool:
        return (origin, plugin, action) in self.actions

    def may_read_state(self, origin: Origin, plugin: str) -> bool:
        return (origin, plugin) in self.states

    def plugins(self, origin: Origin) -> frozenset[str]:
        held = {plugin for who, plugin, _ in self.actions if who == origin}
        return frozenset(held | {plugin for who, plugin in self.states if who == origin})


class Owner:
    def __init__(self) -> None:
        self.asked: list[Origin] = []
        self.heard: list[tuple[str, ...]] = []

    def ask_to_connect(self, origin: Origin) -> bool:
        self.asked.append(origin)
        return True

    def refused(self, origin: Origin, method: str, reason: str, grant: tuple[str, ...]) -> None:
        self.heard.append(grant)


class Door:
    """The link with a terminal that answers "passed", and counts."""

    def __init__(self, unknown_sites: UnknownSites = "ask") -> None:
        self.held, self.owner = Held(), Owner()
        self.is_locked = False
        self.tokens = {"ci"}
        self.reached: list[str] = []
        self.link = PermissionLink(
            self.held,
            MethodTable(["debug_*"]),
            self.owner,
            lambda: self.is_locked,
            self.tokens.__contains__,
            lambda origin: origin == LOCAL,
            unknown_sites,
        )

    async def call(self, origin: Origin, method: str, *params: object) -> object:
        async def terminal(request: Request, context: Context) -> Answer:
            self.reached.append(request.method)
            return Result(b'"passed"')

        request = Request(method, json.dumps(params).encode() if params else b"", b"1")
        return answered(await self.link(request, Context(origin), terminal))

    async def refusal(self, origin: Origin, method: str, *params: object) -> RpcError:
        with pytest.raises(RpcError) as refused:
            await self.call(origin, method, *params)
        assert self.reached == []
        return refused.value


STRANGER = Origin.web("https://new.example")


@pytest.mark.parametrize("method", sorted(HANDSHAKE))
async def test_a_stranger_may_shake_hands(method: str) -> None:
    assert await Door().call(STRANGER, method) == "passed"


@pytest.mark.parametrize("method", ["eth_accounts", "l2_actions", "l2_plugins"])
@pytest.mark.parametrize("origin", [STRANGER, ANONYMOUS], ids=str)
async def test_who_holds_nothing_finds_nothing(method: str, origin: Origin) -> None:
    door = Door()
    assert await door.call(origin, method) == []
    assert door.reached == []
    assert door.owner.asked == []


@pytest.mark.parametrize(
    "method",
    [
        "eth_blockNumber",
        "eth_sendRawTransaction",
        "l2_invoke",
        "l2_getState",
        "l2_addPlugin",
        "eth_sendTransaction",
        "eth_subscribe",
        "debug_traceCall",
        "personal_sign",
        "nonsense",
        "admin_tokenNew",
        "wallet_revokePermissions",
    ],
)
async def test_anything_else_asks_the_owner_once_and_is_4100(method: str) -> None:
    door = Door()
    error = await door.refusal(STRANGER, method)
    assert error.code == 4100
    assert "l2proxy site connect https://new.example" in error.message
    assert error.data["grant"] == "l2proxy site connect https://new.example"
    assert door.owner.asked == [STRANGER]


async def test_refuse_means_no_question() -> None:
    door = Door("refuse")
    assert (await door.refusal(STRANGER, "eth_blockNumber")).code == 4100
    assert door.owner.asked == []
    assert door.owner.heard == [("site", "connect", "https://new.example")]


@pytest.mark.parametrize("method", ["eth_blockNumber", "eth_call", "net_listening"])
async def test_read_lets_loopback_pages_read(method: str) -> None:
    assert await Door("read").call(LOCAL, method) == "passed"


@pytest.mark.parametrize(
    "method",
    ["eth_sendRawTransaction", "eth_subscribe", "eth_newFilter", "debug_traceCall", "l2_invoke", "eth_sendTransaction"],
)
async def test_read_is_reading_only(method: str) -> None:
    assert (await Door("read").refusal(LOCAL, method)).code == 4100


async def test_read_is_for_pages_of_this_machine() -> None:
    assert (await Door("read").refusal(STRANGER, "eth_blockNumber")).code == 4100


async def test_a_page_without_tls_is_never_connected() -> None:
    door = Door()
    for method in ("eth_requestAccounts", "wallet_requestPermissions", "eth_blockNumber"):
        assert "cannot be connected" in (await door.refusal(PLAIN, method)).message
    assert door.owner.asked == []
    assert await door.call(PLAIN, "eth_chainId") == "passed"


@pytest.mark.parametrize(
    "method", ["eth_blockNumber", "eth_subscribe", "eth_newFilter", "debug_traceCall", "nonsense_x"]
)
@pytest.mark.parametrize("origin", [SITE, SOCKET, CI, ANONYMOUS], ids=str)
async def test_reading_the_chain_needs_no_permission(origin: Origin, method: str) -> None:
    assert await Door().call(origin, method, "newHeads") == "passed"


@pytest.mark.parametrize(
    "method",
    [
        "eth_requestAccounts",
        "eth_sendTransaction",
        "personal_sign",
        "wallet_getPermissions",
        "wallet_requestPermissions",
        "l2_getState",
        "l2_invoke",
        "l2_addPlugin",
    ],
)
async def test_anonymous_gets_nothing_restricted(method: str) -> None:
    error = await Door().refusal(ANONYMOUS, method, "paychan", "makePayment")
    assert error.code == 4100
    assert "l2proxy token new NAME" in error.data["grant"]


@pytest.mark.parametrize(
    ("method", "params", "flags"),
    [
        ("l2_invoke", ("paychan", "makePayment", {}), "--allow-plugin paychan:makePayment"),
        ("l2_getState", ("paychan",), "--allow-plugin paychan"),
        ("l2_getOperations", ("paychan",), "--allow-plugin paychan --accounts 1"),
        ("eth_subscribe", ("l2_state", {"plugin": "paychan"}), "--allow-plugin paychan"),
        ("eth_subscribe", ("l2_operations", {"plugin": "paychan"}), "--allow-plugin paychan --accounts 1"),
        ("eth_requestAccounts", (), "--accounts 1"),
    ],
)
async def test_the_grant_for_anonymous_names_what_is_missing(
    method: str, params: tuple[object, ...], flags: str
) -> None:
    error = await Door().refusal(ANONYMOUS, method, *params)
    assert error.data["grant"] == f"l2proxy token new NAME {flags}"


@pytest.mark.parametrize("hostile", ["`reboot`", "a b", "$(x)", "\x1b[2J", "x" * 5000])
async def test_a_command_never_holds_words_of_the_caller(hostile: str) -> None:
    for origin in (ANONYMOUS, CI):
        error = await Door().refusal(origin, "l2_invoke", hostile, hostile, {})
        assert hostile not in error.message
        assert hostile not in json.dumps(error.data)


@pytest.mark.parametrize("origin", [SITE, SOCKET, CI], ids=str)
async def test_invoking_needs_this_action_of_this_plugin(origin: Origin) -> None:
    door = Door()
    door.held.actions.add((origin, "paychan", "makePayment"))
    assert (await door.refusal(origin, "l2_invoke", "paychan", "close", {})).code == 4100
    assert (await door.refusal(origin, "l2_invoke", "other", "makePayment", {})).code == 4100
    assert await door.call(origin, "l2_invoke", "paychan", "makePayment", {}) == "passed"


async def test_not_installed_and_not_permitted_are_one_error() -> None:
    door = Door()
    known = await door.refusal(SITE, "l2_invoke", "paychan", "makePayment", {})
    unknown = await door.refusal(SITE, "l2_invoke", "nothere", "makePayment", {})
    assert known.message.replace("paychan", "X") == unknown.message.replace("nothere", "X")


async def test_permission_is_decided_before_the_lock() -> None:
    door = Door()
    door.is_locked = True
    assert "locked" not in (await door.refusal(SITE, "l2_invoke", "paychan", "makePayment", {})).message
    door.held.actions.add((SITE, "paychan", "makePayment"))
    assert "locked" in (await door.refusal(SITE, "l2_invoke", "paychan", "makePayment", {})).message


async def test_the_owner_hears_of_every_refusal_and_what_would_grant_it() -> None:
    door = Door()
    await door.refusal(ANONYMOUS, "l2_invoke", "paychan", "makePayment", {})
    await door.refusal(ANONYMOUS, "eth_requestAccounts")
    await door.refusal(PLAIN, "eth_blockNumber")
    door.tokens.clear()
    await door.refusal(CI, "eth_chainId")
    door.held.owned[SITE] = ("0x01",)
    door.is_locked = True
    await door.refusal(SITE, "eth_accounts")
    assert door.owner.heard == [
        ("token", "new", "NAME", "--allow-plugin", "paychan:makePayment"),
        ("token", "new", "NAME", "--accounts", "1"),
        (),
        ("token", "new", "NAME"),
        ("unlock",),
    ]


@pytest.mark.parametrize("method", ["eth_sendTransaction", "personal_sign", "eth_signTypedData_v4"])
async def test_accounts_are_used_with_permission_and_unlocked(method: str) -> None:
    door = Door()
    assert "--accounts" in (await door.refusal(SITE, method)).data["grant"]
    door.held.owned[SITE] = ("0x01",)
    assert await door.call(SITE, method) == "passed"
    door.reached.clear()
    door.is_locked = True
    assert "locked" in (await door.refusal(SITE, method)).message


async def test_a_locked_wallet_shows_granted_accounts_to_nobody() -> None:
    door = Door()
    door.is_locked = True
    assert await door.call(SITE, "eth_accounts") == "passed"  # it holds none: the handler answers []
    door.reached.clear()
    door.held.owned[SITE] = ("0x01",)
    assert (await door.refusal(SITE, "eth_accounts")).code == 4100
    assert (await door.refusal(SITE, "eth_requestAccounts")).code == 4100


STATE_READS: Iterable[tuple[str, tuple[object, ...]]] = [
    ("l2_getState", ("paychan",)),
    ("eth_subscribe", ("l2_state", {"plugin": "paychan"})),
    ("l2_getOperations", ("paychan",)),
    ("l2_getDeposits", ("paychan",)),
    ("eth_subscribe", ("l2_operations", {"plugin": "paychan"})),
]


@pytest.mark.parametrize(("method", "params"), STATE_READS)
async def test_state_needs_its_permission(method: str, params: tuple[object, ...]) -> None:
    door = Door()
    assert (await door.refusal(SITE, method, *params)).code == 4100
    door.held.states.add((SITE, "other"))
    assert (await door.refusal(SITE, method, *params)).code == 4100
    door.held.states.add((SITE, "paychan"))
    if method == "l2_getState" or params[0] == "l2_state":
        assert await door.call(SITE, method, *params) == "passed"
        return
    assert "account" in (await door.refusal(SITE, method, *params)).message
    door.held.owned[SITE] = ("0x01",)
    assert await door.call(SITE, method, *params) == "passed"


@pytest.mark.parametrize(
    "params",
    [
        b'["l2_\\u0073tate",{"plugin":"paychan"}]',
        b'["\\u006c2_state",{"plugin":"paychan"}]',
        b'{"subscription":"l2_state","of":{"plugin":"paychan"}}',
        b'{"of":{"plugin":"paychan"},"k":"\\u006c2_state"}',
    ],
)
async def test_a_subscription_spelled_otherwise_does_not_slip_through(params: bytes) -> None:
    door = Door()

    async def terminal(request: Request, context: Context) -> Answer:
        raise AssertionError("reached")

    with pytest.raises((Unauthorized, InvalidParams)):
        await door.link(Request("eth_subscribe", params, b"1"), Context(SITE), terminal)


async def test_a_revoked_token_is_refused_on_open_connections_too() -> None:
    door = Door()
    assert await door.call(CI, "eth_blockNumber") == "passed"
    door.tokens.clear()
    door.reached.clear()
    assert (await door.refusal(CI, "eth_blockNumber")).code == 4100


@pytest.mark.parametrize("method", ["l2_invoke", "eth_accounts", "eth_sendTransaction", "personal_sign", "l2_getState"])
async def test_a_plugin_reads_the_chain_and_nothing_else(method: str) -> None:
    plugin = Origin.plugin("paychan")
    assert (await Door().refusal(plugin, method, "paychan", "x", {})).code == 4100
    assert await Door().call(plugin, "eth_call") == "passed"


HOSTILE: list[tuple[str, list[object]]] = [
    ("l2_invoke", []),
    ("l2_invoke", [1, 2, 3]),
    ("l2_invoke", ["paychan"]),
    ("l2_invoke", [["paychan"], "makePayment"]),
    ("l2_invoke", ["paychan", "makePayment", {}, {"idempotencyKey": 5}]),
    ("l2_invoke", ["paychan", "makePayment", {}, {}, {}]),
    ("l2_getState", []),
    ("l2_getState", [{"plugin": "paychan"}]),
    ("l2_getDeposits", [None]),
    ("eth_subscribe", ["l2_state"]),
    ("eth_subscribe", ["l2_state", {"plugin": 7}]),
]


@pytest.mark.parametrize(("method", "params"), HOSTILE)
@pytest.mark.parametrize("origin", [SITE, SOCKET, CI], ids=str)
async def test_without_permission_params_are_not_looked_at(origin: Origin, method: str, params: list[object]) -> None:
    """hardening.md 9: who holds nothing learns nothing, not even whether its params are well formed."""
    door = Door()
    door.held.owned[origin] = ("0x1",)
    assert (await door.refusal(origin, method, *params)).code == 4100


@pytest.mark.parametrize("params", [[], [1, 2], [["paychan"], "makePayment"], ["paychan", None]])
async def test_with_a_permission_params_are_named(params: list[object]) -> None:
    door = Door()
    door.held.actions.add((SITE, "paychan", "makePayment"))
    error = await door.refusal(SITE, "l2_invoke", *params)
    assert error.code == -32602
    assert error.data["param"] in ("plugin", "action")
