"""What the owner is asked about accounts, transactions and signatures: text, digest, facts and warnings.

Everything said is computed here from exactly what will run; words of the asker stand in `quoted` alone (security.md 11,
hardening.md 19). Nothing here decides or signs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from middleware.questions import Facts, Question, digest_of
from middleware.waist import Context, Origin
from proxy.wallet import calldata, sign_in, typed_data_warnings
from proxy.wallet.ledger import DAPP, Signed
from proxy.wallet.prepared import Prepared
from proxy.wallet.recovery import hash_message
from proxy.wallet.typed_data import TypedData

Check = Callable[[], None]
Apply = Callable[[Any], None]


def accounts_question(origin: Origin, offered: list[str], context: Context, check: Check, apply: Apply) -> Question:
    """Ask which accounts `origin` may see; the first of `offered` unless the owner chooses."""
    return Question(
        origin=origin,
        kind="accounts",
        summary=f"{origin} asks to see account {offered[0]}",
        digest=digest_of({"kind": "accounts", "origin": str(origin), "accounts": offered}),
        facts=Facts("eth_requestAccounts", always_ask=True),
        details={"accounts": offered[:1], "available": offered},
        presence=context.presence,
        serving=context.serving,
        still_allowed=check,
        apply=apply,
    )


def transaction_question(
    prepared: Prepared, replaces: Signed | None, has_code: bool, context: Context, check: Check, gap: int = 0
) -> Question:
    """Ask whether a dapp's transaction may be sent; `gap`: nonces before its own that nothing uses yet."""
    decoded = calldata.decode(prepared.data) if prepared.to is not None else None
    details = prepared.to_json() | {"valueText": prepared.value_text, "feeText": prepared.fee_text}
    if decoded is not None:
        details |= {"function": decoded.function, "args": list(decoded.args)}
    warnings = calldata.warnings_of(prepared.data) if prepared.to is not None else ()
    if prepared.data and prepared.to is not None and not has_code:
        warnings += (f"no_code: {prepared.to} has no code on this chain, so the data would do nothing there",)
    if replaces is not None:
        details["replaces"] = replaces.hash
    if (operation := _operation_of(replaces)) is not None:
        details["replacesOperation"] = operation
        warnings += (
            f"replaces_operation: this takes the nonce of operation {operation}, which a plugin has under way;"
            " only one of both will be executed",
        )
    return Question(
        origin=context.origin,
        kind="transaction",
        summary=_sending(prepared, decoded, replaces) + _waiting(gap),
        digest=prepared.digest,
        facts=_transaction_facts(prepared, decoded),
        details=details,
        warnings=warnings,
        presence=context.presence,
        serving=context.serving,
        still_allowed=check,
    )


def message_question(account: str, data: bytes, chain_id: int, context: Context, check: Check) -> Question:
    """Ask whether a text may be signed (EIP-191)."""
    claims = sign_in.parse(data)
    warnings = sign_in.warnings_of(claims, context.origin, account, chain_id) if claims is not None else ()
    what = "a sign-in text" if claims is not None else f"a message of {len(data)} bytes"
    return Question(
        origin=context.origin,
        kind="message",
        summary=f"sign {what} with {account}",
        digest=digest_of({"kind": "message", "account": account, "digest": "0x" + hash_message(data).hex()}),
        facts=Facts("personal_sign"),
        details={"account": account, "data": "0x" + data.hex()},
        quoted={"message": _text_of(data)},
        warnings=warnings,
        presence=context.presence,
        serving=context.serving,
        still_allowed=check,
    )


def typed_data_question(account: str, typed: TypedData, chain_id: int, context: Context, check: Check) -> Question:
    """Ask whether typed data may be signed (EIP-712); shown is what is hashed, nothing else."""
    contract = typed.verifying_contract
    digest = "0x" + typed.digest.hex()
    return Question(
        origin=context.origin,
        kind="typed_data",
        summary=f"sign typed data for {contract or 'no named contract'} with {account}",
        digest=digest_of({"kind": "typed_data", "account": account, "digest": digest}),
        facts=Facts("eth_signTypedData_v4", verifying_contract=contract),
        details={
            "account": account,
            "verifyingContract": contract,
            "chainId": typed.chain_id,
            "typedDataDigest": digest,
        },
        quoted={"typedData": json.dumps(typed.shown(), ensure_ascii=False)},
        warnings=typed_data_warnings.warnings_of(typed, chain_id),
        presence=context.presence,
        serving=context.serving,
        still_allowed=check,
    )


def _sending(prepared: Prepared, decoded: calldata.Decoded | None, replaces: Signed | None) -> str:
    if prepared.to is None:
        what = f"create a contract of {len(prepared.data)} bytes of code"
    elif not prepared.data:
        what = f"send {prepared.value_text} to {prepared.to}"
    elif decoded is not None:
        what = f"call {decoded.text} of {prepared.to}"
    else:
        what = f"call function 0x{prepared.data[:4].hex()} of {prepared.to}"
    paid = f" with {prepared.value_text}" if prepared.value and (prepared.data or prepared.to is None) else ""
    instead = f", in place of transaction {replaces.hash}" if replaces is not None else ""
    if (operation := _operation_of(replaces)) is not None:
        instead = f"{instead}: replaces operation {operation}"
    # Without the fee, which stands in the details: the same wish reads the same in the next block (hardening.md 14).
    return f"{what}{paid} from {prepared.sender}{instead}"


def _operation_of(replaced: Signed | None) -> str | None:
    """Return the operation whose nonce would be taken, also where a dapp's transaction lies over it already."""
    if replaced is not None and replaced.over is not None:
        replaced = replaced.over
    return replaced.holder if replaced is not None and replaced.holder != DAPP else None


def _waiting(gap: int) -> str:
    # Signed and sent it can be executed at any later time, which the owner has to know.
    return f", to wait in the node, for ever if need be, until {gap} other transactions are mined" if gap else ""


def _transaction_facts(prepared: Prepared, decoded: calldata.Decoded | None) -> Facts:
    asset, value = "ETH", prepared.cost_bound
    if decoded is not None and decoded.function == "transfer(address,uint256)" and not prepared.value:
        asset, value = str(prepared.to), int(decoded.args[1])
    return Facts(
        method="eth_sendTransaction",
        function=calldata.function_of(prepared.data) if prepared.to is not None else None,
        to=prepared.to,
        asset=asset,
        value=value,
        calldata=bool(prepared.data),
    )


def _text_of(data: bytes) -> str:
    """Return the text as it is (who shows it escapes it), or the bytes as 0x data when they are no text."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "0x" + data.hex()
