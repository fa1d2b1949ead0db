"""Run a plugin in process, without a daemon: `FakeHost` speaks the real protocol to the real SDK.

    host = FakeHost(PaymentChannel, gateways={"main": GATEWAY})
    await host.start()
    result = await host.invoke("makePayment", toAddress=BOB, value=5)

The store is a dict that outlives the host, signatures are made by `Crypto` (by default pretended), the hub is `FakeHub` or
one of yours, L1 is `FakeLayer1`, `layer1_at(url)` or any `(method, params)` callable, and time is `FakeClock`'s: it moves by
`host.advance` and `host.mine`. There are no quotas, budgets or permissions of sites.
"""

from __future__ import annotations

from .clock import FakeClock as FakeClock
from .crypto import Crypto as Crypto
from .crypto import PretendCrypto as PretendCrypto
from .host import FakeHost as FakeHost
from .host import Killed as Killed
from .hub import FakeHub as FakeHub
from .hub import HubPort as HubPort
from .layer1 import FakeLayer1 as FakeLayer1
from .layer1 import layer1_at as layer1_at
from .loading import load_plugin as load_plugin
from .loading import read_manifest as read_manifest
