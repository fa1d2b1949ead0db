"""The errors of the embedded L1 as a JSON-RPC caller sees them.

Every refusal in this package is a NodeError; `dispatch` turns it into an error member. Codes and wording follow go-ethereum where client
libraries match on them (ethers and viem recognise "nonce too low", "insufficient funds", "execution reverted"). A NodeError never carries
a traceback or a path.
"""

from __future__ import annotations

INVALID_REQUEST = -32600
INVALID_PARAMS = -32602
INTERNAL = -32603
PARSE = -32700
SERVER = -32000
NOT_SERVED = 4200
REVERTED = 3


class NodeError(Exception):
    """A refusal with its JSON-RPC `code`, `message` and, where a revert carried bytes, `data`."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


def invalid_params(message: str) -> NodeError:
    """Say which parameter is wrong, what was expected and what came (-32602)."""
    return NodeError(INVALID_PARAMS, message)


def refused(message: str) -> NodeError:
    """Refuse a well-formed request with go-ethereum's general code (-32000)."""
    return NodeError(SERVER, message)


def not_served(method: str) -> NodeError:
    """Say that the embedded L1 lacks a method (4200)."""
    return NodeError(NOT_SERVED, f"method not served: {method}")


def unknown_block() -> NodeError:
    """Say that the state of a block was asked for that this chain does not have (-32000)."""
    return refused("header not found")
