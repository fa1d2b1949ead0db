"""The L1 node: everything that leaves the proxy towards it, and everything that is known about its chain.

Reading order: `addresses` (which node) -> `envelope` (what is sent) -> `http`, or `ipc` and `ws` with
`multiplexed` (how it travels) -> `node` (one node: identity, back-off) -> `l1` (the nodes of the config as one) -> `following` with
`block_tracker` and `subscriptions` (what the chain does).
"""
