"""The hub of the payment channel: a server of its own, run by whoever offers the payments.

It knows no code of the plugin and trusts no message of one: what binds both sides is the contract and what they signed.
`python -m plugins.paychan.hub --help`; README.md beside the plugin tells the protocol.
"""
