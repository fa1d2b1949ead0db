"""What the owner is asked about an operation: every step with its bounds, in the proxy's own words (security.md 11)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

from middleware.amounts import ether
from middleware.questions import Facts, Question, digest_of
from middleware.waist import Origin
from proxy.host.operation_ports import Prepared
from proxy.host.operation_records import ETH, Operation, Step


def operation_question(
    operation: Operation,
    prepared: Sequence[Prepared],
    warnings: tuple[str, ...],
    serving: Origin | None,
    check: Callable[[], None],
    apply: Callable[[Any], None],
) -> Question:
    """Return the question for all steps of an operation; its digest binds each of them and the plugin's code."""
    steps = [_details(step, bound) for step, bound in zip(operation.steps, prepared, strict=True)]
    bound = {"operation": operation.id, "plugin": operation.plugin, "code": operation.code, "kind": operation.kind}
    return Question(
        origin=Origin.plugin(operation.plugin),
        kind=cast(Literal["deposit", "withdraw"], operation.kind),
        summary=_summary(operation, serving),
        digest=digest_of(bound | {"steps": [one.to_json() for one in prepared]}),
        facts=_facts(operation, prepared),
        details={
            "operation": operation.id,
            "from": operation.owner,
            "feeText": ether(sum(one.fee_bound for one in prepared)),
            "steps": steps,
        },
        warnings=warnings,
        serving=serving,
        still_allowed=check,
        apply=apply,
    )


def _details(step: Step, bound: Prepared) -> dict[str, Any]:
    displaced = {"displaced": step.hashes} if _displaced(step) else {}
    return {
        "gateway": step.gateway,
        "function": step.function,
        "args": step.args,
        "valueText": ether(step.value),
        "feeText": ether(bound.fee_bound),
        **displaced,
        **bound.to_json(),
    }


def _displaced(step: Step) -> bool:
    """Tell whether the step was sent once and another transaction of the account took its nonce."""
    return step.nonce is None and bool(step.hashes)


def _summary(operation: Operation, serving: Origin | None) -> str:
    main = operation.steps[-1]
    name = main.function.partition("(")[0]
    if operation.kind == "deposit":
        what = ether(main.value) if main.asset == ETH else f"{main.amount} units of token {main.asset}"
        text = f"{operation.plugin} deposits {what} into gateway {main.to} by {name}"
    else:
        carried = f" with {ether(main.value)}" if main.value else ""
        text = f"{operation.plugin} withdraws from gateway {main.to} by {name}{carried}"
    while_serving = f", while serving {serving} (the plugin's word)" if serving is not None else ""
    again = ", once more: another transaction took its nonce" if any(map(_displaced, operation.steps)) else ""
    # Without the fee, which stands in the details: the same wish reads the same in the next block (hardening.md 14).
    return f"{text}, from {operation.owner}{again}{while_serving}"


def _facts(operation: Operation, prepared: Sequence[Prepared]) -> Facts:
    main = operation.steps[-1]
    spent = sum(one.value + one.fee_bound for one in prepared)
    return Facts(
        method=operation.kind,
        plugin=operation.plugin,
        function=main.function,
        to=main.to,
        asset=main.asset,
        value=spent if main.asset == ETH else main.amount,
        calldata=True,
    )
