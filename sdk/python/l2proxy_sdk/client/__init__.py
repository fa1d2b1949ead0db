"""The dapp's side in Python: `w3.attach_modules({"l2": L2})`, then `w3.l2.invoke("paychan", "makePayment", {...})`.

Works with Web3 (HTTPProvider, IPCProvider) and AsyncWeb3 (AsyncHTTPProvider, WebSocketProvider, AsyncIPCProvider). This
package alone of the SDK needs web3 (`pip install l2proxy-sdk[client]`).
"""

from __future__ import annotations

from .errors import AlreadyPending as AlreadyPending
from .errors import InvalidParams as InvalidParams
from .errors import L2Error as L2Error
from .errors import LimitExceeded as LimitExceeded
from .errors import PermissionDenied as PermissionDenied
from .errors import PluginError as PluginError
from .errors import PluginTimeout as PluginTimeout
from .errors import PluginUnavailable as PluginUnavailable
from .errors import Refused as Refused
from .module import L2 as L2
