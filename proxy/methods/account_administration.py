"""What the owner does with the keystore over the admin socket, or in process while no daemon runs.

`admin_init`, `admin_accountList|New|Import|Export`, `admin_unlock`, `admin_lock`. Passwords and phrases come in as params
over a socket of the same user and are never answered, logged or put into an error; only export answers a secret, sealed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from middleware.errors import Disconnected, InvalidParams, RpcError, Unauthorized
from middleware.waist import Context, Handler
from proxy.wallet.fees import balance_of
from proxy.wallet.key_files import read_key, write_v3
from proxy.wallet.keyring import Keyring
from proxy.wallet.keystore import Account, KeystoreError
from proxy.wallet.l1_port import L1
from proxy.wallet.phrases import PhraseError
from proxy.wallet.sealing import WrongPassword
from proxy.wallet.transaction_request import address

Value = TypeVar("Value")


def admin_handlers(keyring: Keyring, l1: L1 | None) -> dict[str, Handler]:
    """Return the admin methods by name; `l1` None: no node is at hand, balances are left out."""
    accounts = AccountAdministration(keyring, l1)
    return {
        "admin_init": accounts.init,
        "admin_accountList": accounts.list,
        "admin_accountNew": accounts.new,
        "admin_accountImport": accounts.import_key,
        "admin_accountExport": accounts.export,
        "admin_unlock": accounts.unlock,
        "admin_lock": accounts.lock,
    }


class AccountAdministration:
    """Answers the admin methods of the keystore."""

    def __init__(self, keyring: Keyring, l1: L1 | None) -> None:
        self._keyring = keyring
        self._keystore = keyring.keystore
        self._l1 = l1
        self._one = asyncio.Lock()  # opening takes 256 MiB; and no two changes of the file at a time

    async def init(self, params: Any, _context: Context) -> dict[str, Any]:
        """Seal `{phrase, password, imported?}` into a new keystore; answer account 0. `imported`: it was not made just now."""
        phrase, password = _text(params, "phrase"), _text(params, "password")
        imported = isinstance(params, dict) and params.get("imported") is True
        return _shown(await self._slowly(lambda: self._keystore.create(phrase, password, imported=imported)))

    async def list(self, _params: Any, _context: Context) -> list[dict[str, Any]]:
        """Answer the accounts: `{address, index, balance}`; balance a 0x quantity of wei, null without a node."""
        accounts = _told(self._keystore.accounts)
        balances = await asyncio.gather(*(self._balance(account.address) for account in accounts))
        return [_shown(account) | {"balance": balance} for account, balance in zip(accounts, balances, strict=True)]

    async def new(self, params: Any, _context: Context) -> dict[str, Any]:
        """Add the account with the next index with `{password}`."""
        password = _text(params, "password")
        account = await self._slowly(lambda: self._keystore.add_derived(password))
        await self._refresh(password)
        return _shown(account)

    async def import_key(self, params: Any, _context: Context) -> dict[str, Any]:
        """Add the key of a file: `{file, filePassword?, password}`, `file` being its text."""
        text, password = _text(params, "file"), _text(params, "password")
        file_password = _text(params, "filePassword") if params.get("filePassword") is not None else None
        key = await self._slowly(lambda: read_key(text, file_password))
        account = await self._slowly(lambda: self._keystore.add_imported(password, key))
        await self._refresh(password)
        return _shown(account)

    async def export(self, params: Any, _context: Context) -> dict[str, Any]:
        """Answer `{keystore}`, V3 JSON of `{address}` sealed under `{exportPassword}`; `{password}` is always needed."""
        account, password = address(_text(params, "address"), "address"), _text(params, "password")
        export_password = _text(params, "exportPassword")
        key = await self._slowly(lambda: self._keystore.private_key(password, account))
        return {"keystore": await self._slowly(lambda: write_v3(key, export_password))}

    async def unlock(self, params: Any, _context: Context) -> dict[str, Any]:
        """Unlock with `{password}`; answer `{locked: false, accounts}`."""
        password, locks = _text(params, "password"), self._keyring.locks
        secrets = await self._slowly(lambda: self._keystore.open(password))
        if self._keyring.locks != locks:
            raise Unauthorized("the accounts were locked while they were being unlocked; they stay locked")
        self._keyring.admit(secrets)
        return {"locked": False, "accounts": self._keyring.addresses()}

    async def lock(self, _params: Any, _context: Context) -> dict[str, Any]:
        """Drop the main keys now; answer `{locked: true}`."""
        self._keyring.lock()
        return {"locked": True}

    async def _refresh(self, password: str) -> None:
        """Let an unlocked keyring know of a new account."""
        locks = self._keyring.locks
        if not self._keyring.locked:
            secrets = await self._slowly(lambda: self._keystore.open(password))
            if self._keyring.locks == locks:
                self._keyring.admit(secrets)

    async def _slowly(self, work: Callable[[], Value]) -> Value:
        """Run what takes a second in a thread, one at a time; its errors as RPC errors."""
        async with self._one:
            return await asyncio.to_thread(_told, work)

    async def _balance(self, account: str) -> str | None:
        if self._l1 is None:
            return None
        try:
            return hex(await balance_of(self._l1, account))
        except Disconnected:
            return None


def _told(work: Callable[[], Value]) -> Value:
    try:
        return work()
    except WrongPassword as error:
        raise Unauthorized(str(error)) from error
    except (KeystoreError, PhraseError) as error:
        raise RpcError(-32000, str(error)) from error


def _shown(account: Account) -> dict[str, Any]:
    return {"address": account.address, "index": account.index}


def _text(params: Any, name: str) -> str:
    value = params.get(name) if isinstance(params, Mapping) else None
    if not isinstance(value, str) or not value:
        # Never says what came: it may be a secret under a wrong name.
        raise InvalidParams(name, "a text", "nothing of the kind")
    return value
