"""`getAccount`, `derive`, `sign`: keys below the plugin's own path, and the owner's with consent.

Paths are parsed by the wallet into integers and joined to the plugin's own; nothing a plugin sends can name a place
outside it (hardening.md 27). Own keys sign without a prompt, but only EIP-191 and EIP-712 (never a transaction), only once
the plugin said `ready`, not while locked, and never for another plugin's gateway (security.md 18).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from middleware.errors import InvalidParams, LimitExceeded, Unauthorized
from middleware.questions import Facts, Question, digest_of
from proxy.host.blobs import Blob, to_bytes
from proxy.host.installed import InstalledPlugin
from proxy.host.ports import Approvals, Crypto, Path, Paths, Signer, TypedData
from proxy.host.provider import Asker, HostMethod, Params
from proxy.host.services.owner_warnings import message_warnings, typed_warnings
from proxy.host.services.store_turns import Turns
from proxy.host.services.typed_reading import TypedReading
from proxy.storage import Space

MAX_ACCOUNTS = 4096  # all of them stand in one line of `start`
MAX_DEPTH = 8  # components below the plugin's path
_NEXT = b"next"


class GetAccount(Params, frozen=True, kw_only=True):
    """`index` absent: a new one."""

    index: Annotated[int, Meta(ge=0, lt=2**31)] | None = None


class Derive(Params, frozen=True, kw_only=True):
    """A relative path like `0'/7'`."""

    path: str


class Sign(Params, frozen=True, kw_only=True):
    """`account`: "owner" or a relative path; exactly one of `typedData` and `message`."""

    account: str
    typedData: Any = None  # noqa: N815 - the wire's name
    message: Blob | None = None


class Keys:
    """The keys of one plugin; its accounts are written in its turns. `other_gateways` returns the gateway addresses of all other plugins, checksummed."""

    def __init__(
        self,
        plugin: InstalledPlugin,
        accounts: Space,
        turns: Turns,
        signer: Signer,
        paths: Paths,
        crypto: Crypto,
        approvals: Approvals,
        typed: TypedReading[TypedData],
        *,
        chain_id: int,
        is_ready: Callable[[], bool],
        other_gateways: Callable[[], frozenset[str]],
    ) -> None:
        self._plugin = plugin
        self._accounts = accounts
        self._turns = turns
        self._making = asyncio.Lock()  # one after another: the next index is known once the one before is on disk
        self._signer = signer
        self._paths = paths
        self._crypto = crypto
        self._approvals = approvals
        self._typed = typed
        self._chain_id = chain_id
        self._is_ready = is_ready
        self._other_gateways = other_gateways
        self._known: set[str] | None = None

    def methods(self) -> Mapping[str, HostMethod]:
        """Return the rows of the host's table."""
        return {
            "getAccount": HostMethod("keys", GetAccount, self.get_account),
            "derive": HostMethod("keys", Derive, self.derive),
            "sign": HostMethod(None, Sign, self.sign),
        }

    def known(self) -> list[dict[str, Any]]:
        """Return the accounts made so far, by index; known while locked too."""
        return [msgspec.json.decode(value) for key, value in self._accounts.scan(b"a")]

    def owns(self, address: str) -> bool:
        """Tell whether a checksummed address is one of the accounts made so far."""
        return address in self._addresses()

    async def get_account(self, params: GetAccount, _: Asker) -> dict[str, Any]:
        """Return `{address, publicKey, path}` of PATH/index'. The counter is on disk before a new one is told."""
        async with self._making:
            return await self._get_account(params)

    async def _get_account(self, params: GetAccount) -> dict[str, Any]:
        following = self._following()
        index = self._unused(following) if params.index is None else params.index
        key = _account_key(index)
        if (stored := self._accounts.get(key)) is not None:
            return dict(msgspec.json.decode(stored))
        if len(self._addresses()) >= MAX_ACCOUNTS:
            raise LimitExceeded("plugin_accounts", f"a plugin has at most {MAX_ACCOUNTS} accounts")
        account = self._signer.plugin_account((*self._own_path(), index))
        row = {"address": account.address, "publicKey": account.public_key, "path": f"{index}'"}
        put = {key: msgspec.json.encode(row), _NEXT: str(max(following, index + 1)).encode()}
        await self._turns.write(self._accounts.batch(put))
        self._addresses().add(account.address)
        return row

    def _addresses(self) -> set[str]:
        """Return the addresses of the accounts made so far, read once."""
        if self._known is None:
            self._known = {row["address"] for row in self.known()}
        return self._known

    def _following(self) -> int:
        """Return the index behind the highest one; counted anew where a repair lost the counter."""
        if (stored := self._accounts.get(_NEXT)) is not None:
            return int(stored)
        last = next((key for key, _ in self._accounts.scan(b"a", limit=1, reverse=True)), None)
        return 0 if last is None else int.from_bytes(last[1:], "big") + 1

    def _unused(self, following: int) -> int:
        """Return the index behind the highest one; where that was the last there is, the lowest without an account."""
        if following < 2**31:
            return following
        return next(index for index in itertools.count() if self._accounts.get(_account_key(index)) is None)

    async def derive(self, params: Derive, _: Asker) -> dict[str, Any]:
        """Return `{address, publicKey, privateKey?}` of a place below the path; the key with `keys.export` alone."""
        path = self._below(params.path, "path")
        account = self._signer.plugin_account(path)
        row = {"address": account.address, "publicKey": account.public_key}
        if "keys.export" in self._plugin.grants:
            row["privateKey"] = self._signer.plugin_private_key(path)
        return row

    async def sign(self, params: Sign, asker: Asker) -> dict[str, Any]:
        """Return `{signature}`; with the owner's account after the owner's yes."""
        if (params.typedData is None) == (params.message is None):
            raise InvalidParams("params", "either typedData or message", "both or neither")
        if params.account == "owner":
            return {"signature": await self._by_owner(params, asker)}
        if "keys" not in self._plugin.grants:
            raise Unauthorized(f"{self._plugin.id} was not granted keys, which sign with an own path needs")
        if self._signer.locked:
            raise Unauthorized("the accounts are locked", "l2proxy unlock")
        if not self._is_ready():
            raise Unauthorized("own keys sign after `ready`: the plugin first reads the newest state from hub and L1")
        path = self._below(params.account, "account")
        if params.message is not None:
            return {"signature": self._signer.sign_plugin_message(path, to_bytes(params.message, "message"))}
        typed = await self._typed.read(params.typedData)
        if self._signer.locked:
            raise Unauthorized("the accounts are locked", "l2proxy unlock")
        own = {gateway.address for gateway in self._plugin.gateways}
        if typed.verifying_contract in self._other_gateways() - own:
            raise Unauthorized("the typed data is for another plugin's gateway")
        return {"signature": self._signer.sign_plugin_typed_data(path, typed)}

    async def _by_owner(self, params: Sign, asker: Asker) -> str:
        owner = self._plugin.owner
        if self._signer.locked:
            raise Unauthorized("the accounts are locked", "l2proxy unlock")
        typed = None if params.message is not None else await self._typed.read(params.typedData)
        question, digest = self._question(params, typed, asker)
        with asker.paused():
            await self._approvals.ask(question)
        return self._signer.sign_digest(owner, digest)

    def _question(self, params: Sign, typed: TypedData | None, asker: Asker) -> tuple[Question, bytes]:
        owner = self._plugin.owner
        contract: str | None = None
        if params.message is not None:
            data = to_bytes(params.message, "message")
            digest, quoted = (
                self._crypto.hash_message(data),
                {"message": data.decode("utf-8", "backslashreplace")[:4096]},
            )
            details: dict[str, Any] = {"account": owner, "bytes": len(data)}
            warnings = message_warnings(self._plugin, self._crypto, self._chain_id, data)
            summary = f"plugin {self._plugin.id} asks {owner} to sign a message of {len(data)} bytes"
        elif typed is not None:
            digest, quoted, contract = typed.digest, {}, typed.verifying_contract
            details = {"account": owner, "chainId": typed.chain_id, "verifyingContract": contract}
            quoted["typedData"] = msgspec.json.encode(typed.shown()).decode()[:16384]
            warnings = typed_warnings(self._plugin, self._crypto, self._chain_id, typed)
            summary = f"plugin {self._plugin.id} asks {owner} to sign typed data for {contract or 'no contract'}"
        else:
            raise RuntimeError("neither a message nor typed data was read")
        bound = digest_of({"sign": "0x" + digest.hex(), "account": owner, "plugin": self._plugin.id})
        facts = Facts(method="sign", plugin=self._plugin.id, verifying_contract=contract)
        return (
            Question(
                asker.origin,
                "sign",
                summary,
                bound,
                facts,
                details=details,
                quoted=quoted,
                warnings=warnings,
                serving=asker.serving,
                still_allowed=self._still_unlocked,
            ),
            digest,
        )

    def _still_unlocked(self) -> None:
        if self._signer.locked:
            raise Unauthorized("the accounts are locked", "l2proxy unlock")

    def _own_path(self) -> Path:
        if not self._plugin.path:
            raise Unauthorized(f"{self._plugin.id} has no key path in its manifest")
        return self._plugin.path

    def _below(self, text: str, where: str) -> Path:
        try:
            relative = self._paths.parse_relative(text)
        except ValueError as error:
            raise InvalidParams(where, str(error), text) from None
        if not 1 <= len(relative) <= MAX_DEPTH:
            raise InvalidParams(where, f"1 to {MAX_DEPTH} components below the plugin's path", text)
        return (*self._own_path(), *relative)


def _account_key(index: int) -> bytes:
    return b"a" + index.to_bytes(4, "big")
