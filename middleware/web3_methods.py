"""Which methods a web3.py middleware may have something to say about, so that all others keep the raw path.

Beside web3_adapter.py; reads what a middleware says of itself and knows web3.py's own classes by their full names, without
importing them. What cannot be known is "every method": then calls go through the middleware on decoded copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

Handles: TypeAlias = Callable[[str], bool]

_HOME = "web3.middleware."
_NOWHERE = {
    "attrdict.AttributeDictMiddleware": "it changes Python types, which do not travel in JSON",
    "buffered_gas_estimate.BufferedGasEstimateMiddleware": "it acts on eth_sendTransaction alone",
    "gas_price_strategy.GasPriceStrategyMiddleware": "it acts on eth_sendTransaction alone",
    "signing.SignAndSendRawMiddlewareBuilder": "it acts on eth_sendTransaction alone",
    "filter.LocalFilterMiddleware": "it acts on the filter methods alone",
}
"""Classes that never act here: what they act on is answered by the proxy itself, with its own accounts and filters."""
_VALIDATED = ("eth_call", "eth_createAccessList", "eth_estimateGas", "eth_getBlockByHash", "eth_getBlockByNumber")


def handled_by(middleware: Any) -> Handles:
    """Return which methods `middleware` acts on: those of its attribute `methods`, or what is known of its class."""
    declared = getattr(middleware, "methods", None)
    if isinstance(declared, Iterable) and not isinstance(declared, str | bytes):
        return _only(declared)
    match name_of(middleware):
        case name if name in _NOWHERE:
            return _only(())
        case "formatting.FormattingMiddlewareBuilder":
            return _formatted(middleware)
        case "stalecheck.StalecheckMiddlewareBuilder":
            skipped = frozenset(map(str, middleware.skip_stalecheck_for_methods))
            return lambda method: method not in skipped
    return lambda _: True


def why_idle(middleware: Any) -> str | None:
    """Return why a middleware of web3.py never acts behind this proxy; None for one that may."""
    return _NOWHERE.get(name_of(middleware))


def name_of(middleware: Any) -> str:
    """Return the full name of the middleware's class, without `web3.middleware.`."""
    kind = type(middleware)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix(_HOME)


def _formatted(middleware: Any) -> Handles:
    builder = middleware.sync_formatters_builder
    if builder is None:
        tables = (middleware.request_formatters, middleware.result_formatters, middleware.error_formatters)
        return _only(method for table in tables for method in table)
    if f"{builder.__module__}.{builder.__qualname__}" == f"{_HOME}validation.build_method_validators":
        return _only(_VALIDATED)
    return lambda _: True


def _only(methods: Iterable[Any]) -> Handles:
    known = frozenset(map(str, methods))
    return known.__contains__
