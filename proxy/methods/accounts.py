"""The account methods of the dapp surface, answered with the proxy's own keyring (rpc.md, "Accounts").

Reached after the permission link; each method checks for itself that the account was granted to who asks, asks the owner
through `Approvals`, checks again when the answer comes (hardening.md 18), and only then signs or sends. Sources: EIP-1102,
EIP-191, EIP-712, EIP-3085, EIP-3326, EIP-5792.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from middleware.errors import InvalidParams, Unauthorized, UnknownChain
from middleware.permission import command
from middleware.questions import Decision, Question
from middleware.waist import Context, Handler, Origin
from proxy.wallet import transaction_request
from proxy.wallet.keyring import Keyring, locked_error
from proxy.wallet.l1_port import L1
from proxy.wallet.questions import accounts_question, message_question, transaction_question, typed_data_question
from proxy.wallet.recovery import hash_message
from proxy.wallet.transaction_request import address
from proxy.wallet.transactions import Transactions
from proxy.wallet.typed_data import TypedData

MAX_MESSAGE = 64 * 1024

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_DATA = re.compile(r"0x(?:[0-9a-fA-F]{2})*", re.ASCII)
_CHAIN = re.compile(r"0x[0-9a-fA-F]{1,16}", re.ASCII)


ReadTyped = Callable[[Any], Awaitable[TypedData]]
"""Reads typed data without holding anybody up, whatever stands in it (hardening.md 28)."""


class Permissions(Protocol):
    """Which accounts an origin may see."""

    def accounts(self, origin: Origin) -> tuple[str, ...]:
        """Return the granted, checksummed addresses."""

    def grant_accounts(self, origin: Origin, addresses: Iterable[str]) -> None:
        """Grant these and connect the origin."""


class Approvals(Protocol):
    """The owner, or a rule in the owner's place."""

    async def ask(self, question: Question) -> Decision:
        """Return the yes; raise `Refused` for a no."""


def handlers(
    keyring: Keyring,
    transactions: Transactions,
    l1: L1,
    permissions: Permissions,
    approvals: Approvals,
    read_typed: ReadTyped,
) -> dict[str, Handler]:
    """Return the account methods by name."""
    accounts = Accounts(keyring, transactions, l1, permissions, approvals, read_typed)
    return {
        "eth_accounts": accounts.accounts,
        "eth_requestAccounts": accounts.request_accounts,
        "eth_sendTransaction": accounts.send_transaction,
        "personal_sign": accounts.sign_message,
        "eth_signTypedData_v4": accounts.sign_typed_data,
        "wallet_switchEthereumChain": accounts.same_chain,
        "wallet_addEthereumChain": accounts.same_chain,
        "wallet_getCapabilities": accounts.capabilities,
    }


class Accounts:
    """Answers the account methods."""

    def __init__(
        self,
        keyring: Keyring,
        transactions: Transactions,
        l1: L1,
        permissions: Permissions,
        approvals: Approvals,
        read_typed: ReadTyped,
    ) -> None:
        self._keyring = keyring
        self._read_typed = read_typed
        self._transactions = transactions
        self._l1 = l1
        self._permissions = permissions
        self._approvals = approvals

    async def accounts(self, params: Any, context: Context) -> list[str]:
        """`eth_accounts`: what this origin was granted, `[]` when nothing."""
        _arguments(params, ())
        return self._granted(context.origin)

    async def request_accounts(self, params: Any, context: Context) -> list[str]:
        """`eth_requestAccounts` (EIP-1102): what was granted, after asking the owner where nothing was."""
        _arguments(params, ())
        if granted := self._granted(context.origin):
            return granted
        self._refuse_locked()
        offered = self._keyring.addresses()
        if not offered:
            raise Unauthorized("the wallet has no account", "l2proxy init")

        def apply(chosen: Any) -> None:
            self._permissions.grant_accounts(context.origin, _chosen(chosen, offered))

        await self._approvals.ask(accounts_question(context.origin, offered, context, self._refuse_locked, apply))
        return self._granted(context.origin)

    async def send_transaction(self, params: Any, context: Context) -> str:
        """`eth_sendTransaction`: the hash, once the owner agreed and the node has it."""
        (given,) = _arguments(params, ("transaction",))
        self._refuse_stranger(context.origin)
        self._refuse_locked()
        request = transaction_request.parse(given, self._l1.chain_id)

        def check() -> None:
            self._refuse(context.origin, request.sender)

        check()
        prepared = await self._transactions.prepare(
            request.sender,
            request.to,
            request.value,
            request.data,
            gas=request.gas,
            wanted=request.wanted,
            nonce=request.nonce,
            access_list=request.access_list,
        )
        replaces = None if request.nonce is None else self._transactions.held(request.sender, request.nonce)
        has_code = not request.data or request.to is None or await self._has_code(request.to)
        gap = 0
        if request.nonce is not None:
            gap = max(request.nonce - await self._transactions.count(request.sender, "pending"), 0)
        await self._approvals.ask(transaction_question(prepared, replaces, has_code, context, check, gap))
        check()
        return await self._transactions.execute(prepared, replaces)

    async def sign_message(self, params: Any, context: Context) -> str:
        """`personal_sign`: the EIP-191 signature. Params `[data, address]`; the other order is understood where it is plain."""
        first, second, _ = _arguments(params, ("data", "address", "password"), optional=1)
        self._refuse_stranger(context.origin)
        self._refuse_locked()
        if _is_address(first) and not _is_address(second):
            first, second = second, first
        account, data = address(second, "address"), _message(first)

        def check() -> None:
            self._refuse(context.origin, account)

        check()
        await self._approvals.ask(message_question(account, data, self._l1.chain_id, context, check))
        check()
        return self._keyring.sign_digest(account, hash_message(data))

    async def sign_typed_data(self, params: Any, context: Context) -> str:
        """`eth_signTypedData_v4`: the EIP-712 signature. Params `[address, typed data]`, the latter as object or JSON text."""
        first, second = _arguments(params, ("address", "typedData"))
        self._refuse_stranger(context.origin)
        self._refuse_locked()
        account, typed = address(first, "address"), await self._read_typed(second)

        def check() -> None:
            self._refuse(context.origin, account)

        check()
        await self._approvals.ask(typed_data_question(account, typed, self._l1.chain_id, context, check))
        check()
        return self._keyring.sign_digest(account, typed.digest)

    async def same_chain(self, params: Any, _context: Context) -> None:
        """`wallet_switchEthereumChain`, `wallet_addEthereumChain`: null for the chain served here, else 4902."""
        (chain,) = _arguments(params, ("chain",))
        wanted = chain.get("chainId") if isinstance(chain, dict) else None
        if not isinstance(wanted, str) or _CHAIN.fullmatch(wanted) is None:
            raise InvalidParams("chainId", "a 0x quantity", wanted)
        if int(wanted, 16) != self._l1.chain_id:
            raise UnknownChain(wanted, hex(self._l1.chain_id))

    async def capabilities(self, params: Any, context: Context) -> dict[str, Any]:
        """`wallet_getCapabilities` (EIP-5792): that this wallet speaks `l2`, by chain."""
        given, chains = _arguments(params, ("address", "chainIds"), optional=1)
        account = address(given, "address")
        if account not in self._granted(context.origin):
            raise _not_granted(context.origin, account)
        if chains is not None and not (isinstance(chains, list) and all(isinstance(chain, str) for chain in chains)):
            raise InvalidParams("chainIds", "a list of 0x quantities", chains)
        own = hex(self._l1.chain_id)
        if chains is not None and own not in [chain.lower() for chain in chains]:
            return {}
        return {own: {"l2": {"supported": True}}}

    def _granted(self, origin: Origin) -> list[str]:
        own = set(self._keyring.addresses())
        return [account for account in self._permissions.accounts(origin) if account in own]

    def _refuse_stranger(self, origin: Origin) -> None:
        """Raise before anything of the request is looked at, so that nothing can be learned from it (hardening.md 9)."""
        if not self._granted(origin):
            raise Unauthorized(
                f"no account is granted to {origin}; ask with eth_requestAccounts",
                command("permission", "grant", str(origin), "--accounts", "1"),
            )

    def _refuse_locked(self) -> None:
        if self._keyring.locked:
            raise locked_error()

    def _refuse(self, origin: Origin, account: str) -> None:
        if account not in self._granted(origin):
            raise _not_granted(origin, account)
        self._refuse_locked()

    async def _has_code(self, contract: str) -> bool:
        return await self._l1.call("eth_getCode", contract, "latest") not in ("0x", "0x0", None)


def _arguments(params: Any, names: Sequence[str], optional: int = 0) -> list[Any]:
    """Return params by position or by name as a list of the length of `names`; the last `optional` may be left out."""
    needed = len(names) - optional
    if isinstance(params, dict):
        unknown = next((name for name in params if name not in names), None)
        if unknown is not None:
            raise InvalidParams(unknown[:64], f"one of {', '.join(names) or 'no parameters'}", unknown)
        values = [params.get(name) for name in names]
        missing = next((name for name in names[:needed] if name not in params), None)
    else:
        given = list(params or [])
        if len(given) > len(names) and any(value is not None for value in given[len(names) :]):
            raise InvalidParams("params", f"{len(names)} values ({', '.join(names) or 'none'})", f"{len(given)} values")
        values = [*given, *[None] * len(names)][: len(names)]
        missing = names[len(given)] if len(given) < needed else None
    if missing is not None:
        raise InvalidParams(missing, "a value", "nothing")
    return values


def _chosen(chosen: Any, offered: list[str]) -> list[str]:
    """Return the accounts the owner chose, the first one where nothing was chosen."""
    accounts = chosen.get("accounts") if isinstance(chosen, dict) else None
    if accounts is None:
        return offered[:1]
    if not isinstance(accounts, list) or not accounts or not all(account in offered for account in accounts):
        raise InvalidParams("accounts", "some of the wallet's own accounts", accounts)
    return accounts


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and _ADDRESS.fullmatch(value) is not None


def _message(value: Any) -> bytes:
    """Return the bytes to sign: 0x data, or any other text as UTF-8 (as other wallets do)."""
    if not isinstance(value, str):
        raise InvalidParams("data", "0x data or text", value)
    try:
        data = bytes.fromhex(value[2:]) if _DATA.fullmatch(value) else value.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidParams("data", "text without lone surrogates", "one with") from None
    if len(data) > MAX_MESSAGE:
        raise InvalidParams("data", f"at most {MAX_MESSAGE} bytes", f"{len(data)} bytes")
    return data


def _not_granted(origin: Origin, account: str) -> Unauthorized:
    """Return one and the same error for an account of the owner's and for a stranger's: which N it would take is not told."""
    return Unauthorized(
        f"account {account} is not granted to this origin; ask with eth_requestAccounts",
        command("permission", "grant", str(origin), "--accounts", "N"),
    )
