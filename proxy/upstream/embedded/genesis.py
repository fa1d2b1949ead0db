"""The first block: eth-tester sets up a py-evm chain with the accounts the owner wants funded.

Each genesis carries 32 random bytes as extraData. The chain lives in memory, so one that died and was started anew is another chain, and
the pin on the genesis hash notices (rpc.md: "Another genesis: 4900").
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from importlib.metadata import version
from platform import python_version
from typing import cast

from eth.chains.base import MiningChain
from eth_tester.backends.pyevm.main import PyEVMBackend

from proxy.upstream.embedded import CHAIN_ID
from proxy.upstream.embedded.evm import EmbeddedVM

GAS_LIMIT = 30_000_000
"""Gas of every block: the limit anvil uses, so that what fits there fits here."""


def create_chain(fund: Mapping[bytes, int]) -> MiningChain:
    """Create a chain whose genesis gives each address of `fund` (20 bytes) its balance in wei."""
    parameters = {
        "coinbase": bytes(20),
        "difficulty": 0,
        "extra_data": os.urandom(32),
        "gas_limit": GAS_LIMIT,
        "timestamp": int(time.time()),
    }
    accounts = {
        address: {"balance": balance, "nonce": 0, "code": b"", "storage": {}} for address, balance in fund.items()
    }
    backend = PyEVMBackend(
        genesis_parameters=parameters,
        # An empty mapping would make eth-tester fund ten accounts with well-known keys.
        genesis_state=accounts or {bytes(20): {"balance": 0, "nonce": 0, "code": b"", "storage": {}}},
        vm_configuration=((0, EmbeddedVM),),
    )
    chain = cast(MiningChain, backend.chain)
    chain.chain_id = CHAIN_ID
    return chain


def client_version() -> str:
    """Name the client as web3_clientVersion does; "eth-tester" in it marks a dev node (hardening.md 7)."""
    return f"eth-tester/{version('eth-tester')}/py-evm-{version('py-evm')}/python{python_version()}"
