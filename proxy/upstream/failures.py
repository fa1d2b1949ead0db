"""What can go wrong between the proxy and one node, by what may be done about it.

NodeFailure
 ├─ Unreachable   nothing was asked: another node may be
 │   └─ Silent    it said nothing in time where a node that works says something at once
 ├─ WrongChain    nothing was asked: the node serves another chain than the pinned one
 ├─ Broken        the request was sent and no usable answer came: a read may be repeated once, a send never
 ├─ Late          the request was sent and no answer came in time
 │   └─ Stuck     it was one that a node which works answers at once
 └─ Overloaded    the node answered that it has too much to do, or is out of order: another node may be asked

None of these reaches a caller: `L1` turns them into 4900. Messages name a node by its shown address only.
"""

from __future__ import annotations


class NodeFailure(Exception):
    """The node did not answer."""


class Unreachable(NodeFailure):
    """The request has not left the proxy."""


class Silent(Unreachable):
    """The request has not left the proxy: the node does not take a connection, or does not say which chain it serves."""


class WrongChain(NodeFailure):
    """The request has not left the proxy: the chain is not the pinned one."""


class Broken(NodeFailure):
    """The connection died, or its answer was unusable, after the request was sent.

    `repeatable` tells that not one byte of an answer had come on a connection that had served before; `alone`, that some answer on
    the shared socket was too large, so that a repetition should not share one again.
    """

    def __init__(self, message: str, *, repeatable: bool, alone: bool = False) -> None:
        super().__init__(message)
        self.repeatable = repeatable
        self.alone = alone


class Late(NodeFailure):
    """The request was sent, and no answer came in time; what it did is unknown."""


class Stuck(Late):
    """The node does not even tell a block in time: it hangs, where a call that is late may only have been long."""


class Overloaded(NodeFailure):
    """The node answered with HTTP 429 or 5xx, or with error -32005; `body` is its answer, good where no other node is."""

    def __init__(self, message: str, body: bytes) -> None:
        super().__init__(message)
        self.body = body
