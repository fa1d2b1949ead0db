"""The embedded L1: a small Ethereum node for development, in a process of its own.

eth-tester with py-evm executes; this package speaks Ethereum's JSON-RPC wire form around it, because eth-tester answers ints, bytes and
snake_case. The proxy reaches it like any other node, over a unix socket (`launch.ensure` starts it); it holds no keys and signs nothing.

Reading order: `process` (start and end) -> `server` (socket and HTTP) -> `json_stream` -> `dispatch` (envelopes) -> `methods` (the table)
-> `node` (the one owner of state) -> `chain`, `pool`, `clock` -> `genesis` and `evm` (eth-tester and py-evm).

This module must stay free of imports: the daemon reads CHAIN_ID without paying for py-evm.
"""

CHAIN_ID = 1337
"""The chain id of every embedded L1; 1337 is the usual one of local development chains and no public network's."""
