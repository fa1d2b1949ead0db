"""Keys stay where they belong: not in files, errors, logs or process listings; not in another plugin's reach."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middleware.errors import RpcError
from middleware.waist import OWNER as OWNER_ORIGIN
from middleware.waist import Context
from proxy.methods.account_administration import admin_handlers
from proxy.wallet.keyring import Keyring
from proxy.wallet.keystore import Keystore, Secrets
from proxy.wallet.paths import PathError, overlaps, parse_plugin_path, parse_relative, text_of
from tests.conftest import TEST_PHRASE

PASSWORD = "a password nobody must read"
KEY_0 = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
FIRST, SECOND = parse_plugin_path("m/7002'/0'/0'"), parse_plugin_path("m/7002'/0'/1'")


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    keystore = Keystore(tmp_path_factory.mktemp("keys") / "keystore.json", scrypt_n=16)
    keystore.create(TEST_PHRASE, PASSWORD)
    keyring = Keyring(keystore)
    keyring.unlock(PASSWORD)
    return keyring


async def test_no_admin_error_or_log_line_carries_a_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    keyring = Keyring(Keystore(tmp_path / "keystore.json", scrypt_n=16))
    handlers = admin_handlers(keyring, None)
    context = Context(OWNER_ORIGIN)
    said: list[Any] = []

    async def call(method: str, **params: Any) -> None:
        try:
            said.append(await handlers[method](params, context))
        except RpcError as error:
            said.append(error.to_json())

    await call("admin_init", phrase="secretword " * 12, password=PASSWORD)
    await call("admin_init", phrase=TEST_PHRASE, password=PASSWORD)
    await call("admin_init", phrase=TEST_PHRASE, password=PASSWORD)
    await call("admin_unlock", password="secretword")
    await call("admin_unlock", password=["secretword"])
    await call("admin_unlock", pasword="secretword")
    await call("admin_unlock", password=PASSWORD)
    await call("admin_accountImport", file="secretword", password=PASSWORD)
    await call("admin_accountImport", file=KEY_0, password="secretword")
    await call("admin_accountImport", file=KEY_0, password=PASSWORD)
    await call("admin_accountExport", address="0x12", password=PASSWORD, exportPassword="x")
    await call("admin_accountNew", password="secretword")
    await call("admin_accountList")
    await call("admin_lock")
    captured = capfd.readouterr()
    everything = json.dumps(said) + caplog.text + captured.out + captured.err
    for secret in (PASSWORD, KEY_0, TEST_PHRASE, "junk", "secretword"):
        assert secret not in everything
    assert [answer.get("code") for answer in said[:4] if isinstance(answer, dict)] == [-32000, None, -32000, 4100]


async def test_a_lock_beats_an_unlock_that_began_before_it(tmp_path: Path) -> None:
    keystore = Keystore(tmp_path / "keystore.json", scrypt_n=16)
    keystore.create(TEST_PHRASE, PASSWORD)
    keyring = Keyring(keystore)
    handlers, context = admin_handlers(keyring, None), Context(OWNER_ORIGIN)
    opening, locked = threading.Event(), threading.Event()
    really_open = keystore.open

    def slow_open(password: str) -> Secrets:
        opening.set()
        locked.wait(60)
        return really_open(password)

    keystore.open = slow_open  # type: ignore[method-assign]
    unlocking = asyncio.ensure_future(handlers["admin_unlock"]({"password": PASSWORD}, context))
    await asyncio.to_thread(opening.wait, 60)
    assert await handlers["admin_lock"]({}, context) == {"locked": True}
    locked.set()
    with pytest.raises(RpcError, match="stay locked"):
        await unlocking
    assert keyring.locked
    await handlers["admin_unlock"]({"password": PASSWORD}, context)
    assert not keyring.locked


async def test_a_failed_init_leaves_nothing_behind(tmp_path: Path) -> None:
    handlers = admin_handlers(Keyring(Keystore(tmp_path / "keystore.json", scrypt_n=16)), None)
    for params in (
        {},
        {"phrase": TEST_PHRASE},
        {"phrase": TEST_PHRASE, "password": ""},
        {"phrase": "x", "password": "x"},
    ):
        with pytest.raises(RpcError):
            await handlers["admin_init"](params, Context(OWNER_ORIGIN))
    assert list(tmp_path.iterdir()) == []


def test_keys_of_different_plugins_never_meet(keyring: Keyring) -> None:
    below = [(), (0,), (1,), (~0,), (~1,), (0, 0), (2147483647,)]
    addresses = [
        keyring.plugin_account(root + path).address for root, path in itertools.product((FIRST, SECOND), below)
    ]
    addresses += keyring.addresses()
    assert len(set(addresses)) == len(addresses)


HOSTILE_RELATIVE = [
    *("../1'", "..", "./0'", "0'/../1'", "/", "//", "m/7002'/0'/1'", "m", "0'\0", "0'\0/../1'", "٠'", "０'", "0’"),
    *("-1", "-1'", "+0'", "4294967296", "2147483648'", "1e1", "0x0", "00'", " 0'", "0' ", "0'\n", "0'/", "0-5'", "*"),
]


@pytest.mark.parametrize("text", HOSTILE_RELATIVE)
def test_no_relative_path_leads_out_of_the_subtree(text: str) -> None:
    with pytest.raises(PathError):
        parse_relative(text)


@given(st.text(alphabet="0123456789'/m.-x \0", max_size=24))
@settings(max_examples=300)
def test_whatever_text_is_accepted_stays_below_its_plugin(text: str) -> None:
    try:
        path = parse_relative(text)
    except PathError:
        return
    whole = FIRST + path
    assert whole[: len(FIRST)] == FIRST
    assert overlaps(FIRST, whole)
    assert not overlaps(SECOND, whole)
    assert text_of(whole) == text_of(FIRST) + ("/" + text if text else "")


def test_locking_leaves_no_main_key_in_the_keyring(tmp_path: Path) -> None:
    keystore = Keystore(tmp_path / "keystore.json", scrypt_n=16)
    keystore.create(TEST_PHRASE, PASSWORD)
    keyring = Keyring(keystore)
    keyring.unlock(PASSWORD)
    keyring.open_plugin(FIRST)
    keyring.lock()
    kept = [value for name, value in vars(keyring).items() if name not in ("keystore", "_plugins", "_locks")]
    assert all(not value for value in kept), kept
    assert set(keyring._plugins) == {FIRST}
    assert bytes.fromhex(KEY_0) not in [node.private_key for node in keyring._plugins.values()]
