"""The L1 node: everything that leaves the proxy towards it, and everything that is known about its chain.

Reading order: `addresses` (which node) -> `envelope` (what is sent) -> `http` with `http_connection` and `http_response`, or `ipc`
(`frames`) and `ws` (`ws_frames`) with `multiplexed`, `line` and `solitary` (how it travels), `arrival` (how a large answer is kept) -> `node`
with `breaker` (one node: identity, back-off) -> `l1` with `failover` (the nodes of the config as one) -> `following` with
`block_tracker` and `subscriptions` (what the chain does).
"""
