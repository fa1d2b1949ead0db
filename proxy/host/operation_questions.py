"""What the owner is asked about an operation: every step with its bounds, in the proxy's own words (security.md 11)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

from middleware.amounts import ether
from middleware.questions import Facts, Question, digest_of
from middleware.waist import Origin
from proxy.host.operation_offers import Offer
from proxy.host.operation_ports import Prepared
from proxy.host.operation_records import ETH, Operation, Step


def operation_question(
    operation: Operation, offer: Offer, serving: Origin | None, check: Callable[[], None], apply: Callable[[Any], None]
) -> Question:
    """Return the question for all steps of an operation; its digest binds each of them and the plugin's code."""
    return Question(
        origin=Origin.plugin(operation.plugin),
        kind=cast(Literal["deposit", "withdraw", "plan", "transfer"], operation.kind),
        summary=_summary(operation, serving),
        digest=operation_digest(operation, offer),
        facts=_facts(operation, offer),
        details=_details(operation, offer),
        warnings=offer.warnings,
        serving=serving,
        still_allowed=check,
        apply=apply,
    )


def operation_digest(operation: Operation, offer: Offer) -> str:
    """Return what an approval is bound to: the operation, the plugin's code, all that is still to be signed."""
    bound = {"operation": operation.id, "plugin": operation.plugin, "code": operation.code, "kind": operation.kind}
    steps = [one.to_json() for one in offer.prepared]
    undo = {} if offer.undo is None else {"undo": offer.undo.to_json()}
    later = [_unknown(step) for step in operation.steps if step.args is None]
    return digest_of(bound | {"steps": steps} | undo | ({"later": later} if later else {}))


def _details(operation: Operation, offer: Offer) -> dict[str, Any]:
    bounds = dict(zip((id(step) for step in offer.steps), offer.prepared, strict=True))
    shown = operation.steps if operation.ending is None else operation.steps[-1:]
    most = sum(one.fee_bound for one in offer.prepared)
    undo: dict[str, Any] = {}
    if offer.undo is not None:
        fee = ether(offer.undo.fee_bound)
        undo["ifItFails"] = f"the allowance is taken back, for a fee of up to {fee}"
        undo["undo"] = offer.undo.to_json() | {"feeText": fee}
    return {
        "operation": operation.id,
        "from": operation.sender,
        "feeText": ether(most),
        "steps": [_step(step, bounds.get(id(step))) for step in shown],
        **undo,
    }


def _step(step: Step, bound: Prepared | None) -> dict[str, Any]:
    row: dict[str, Any] = {"gateway": step.gateway, "function": step.function, "args": step.args}
    row["valueText"] = ether(step.value)
    if step.wait is not None:
        row["waitFor"] = step.wait
    if step.args is None:
        return row | {"asked": "again, once its arguments are known"}
    if bound is None:
        return row | {"status": step.status, "hashes": step.hashes, "to": step.to}
    displaced = {"displaced": step.hashes} if _displaced(step) else {}
    return row | {"feeText": ether(bound.fee_bound)} | displaced | bound.to_json()


def _unknown(step: Step) -> dict[str, Any]:
    return {"gateway": step.gateway, "function": step.function, "value": hex(step.value), "waitFor": step.wait}


def _displaced(step: Step) -> bool:
    """Tell whether the step was sent once and another transaction of the account took its nonce."""
    return step.nonce is None and bool(step.hashes)


def _summary(operation: Operation, serving: Origin | None) -> str:
    while_serving = f", while serving {serving} (the plugin's word)" if serving is not None else ""
    again = ", once more: another transaction took its nonce" if any(map(_displaced, operation.steps)) else ""
    # Without the fee, which stands in the details: the same wish reads the same in the next block (hardening.md 14).
    return f"{operation.plugin} {_what(operation)}, from {operation.sender}{again}{while_serving}"


def _what(operation: Operation) -> str:
    main = operation.steps[-1]
    name = (main.function or "").partition("(")[0]
    amount = ether(main.value) if main.asset == ETH else f"{main.amount} units of token {main.asset}"
    if operation.ending is not None:
        return f"takes back the allowance of token {main.asset} that gateway {(main.args or [''])[0]} has"
    if operation.kind == "deposit":
        return f"deposits {amount} into gateway {main.to} by {name}"
    if operation.kind == "transfer":
        receiver = main.to if main.asset == ETH else (main.args or [""])[0]
        return f"transfers {amount} to {receiver}"
    if operation.kind == "plan":
        done = sum(step.status == "confirmed" for step in operation.steps)
        ahead = "; ".join(_planned(step) for step in operation.steps if step.status != "confirmed")
        what = "runs a plan of" if not done else f"goes on with a plan, {done} done of"
        return f"{what} {len(operation.steps)} steps: {ahead}"
    carried = f" with {ether(main.value)}" if main.value else ""
    return f"withdraws from gateway {main.to} by {name}{carried}"


def _planned(step: Step) -> str:
    """One step of a plan for people."""
    what = f"{(step.function or '').partition('(')[0]} of gateway {step.to}"
    if step.value:
        what += f" with {ether(step.value)}"
    if step.args is None:
        what += " (asked again, once its arguments are known)"
    wait = step.wait or {}
    if "blocks" in wait:
        return f"after {int(wait['blocks'], 16)} blocks {what}"
    if "time" in wait:
        return f"at time {wait['time']} {what}"
    return f"after {wait['event']['name']} {what}" if wait else what


def _facts(operation: Operation, offer: Offer) -> Facts:
    main = operation.steps[-1]
    spent = sum(one.value + one.fee_bound for one in offer.prepared)
    if operation.ending is not None:
        main = offer.steps[-1]
        return Facts(operation.kind, operation.plugin, None, main.function, main.to, ETH, spent, calldata=True)
    if operation.kind == "plan":
        steps = tuple(
            Facts("plan", operation.plugin, None, step.function, step.to, ETH, one.value + one.fee_bound, calldata=True)
            for step, one in zip(offer.steps, offer.prepared, strict=True)
        )
        return Facts(method="plan", plugin=operation.plugin, value=spent, asset=ETH, calldata=True, steps=steps)
    return Facts(
        method=operation.kind,
        plugin=operation.plugin,
        function=main.function,
        to=main.to,
        asset=main.asset,
        value=spent if main.asset == ETH else main.amount,
        calldata=main.data != "0x",
    )
