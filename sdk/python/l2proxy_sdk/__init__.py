"""The SDK of l2proxy for plugin authors: subclass `Plugin`, mark actions with `@action`, ship a `plugin.toml`.

Standard library only, so that it runs inside the sandbox; `l2proxy_sdk.client` (for dapps) alone needs web3.
Documented in docs/plugin-authors.md; the protocol underneath is plugin.md's.
"""

from __future__ import annotations

from .abi_types import *  # noqa: F403 - one hundred type names, Uint8 to Bytes32, all public
from .actions import Call as Call
from .actions import action as action
from .errors import ActionError as ActionError
from .errors import ChannelClosed as ChannelClosed
from .errors import HostError as HostError
from .errors import NotReady as NotReady
from .plugin import Plugin as Plugin
from .records import Account as Account
from .records import Operation as Operation
from .records import StartInfo as StartInfo
