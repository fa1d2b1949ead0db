"""Commands without a daemon import nothing that takes long and that they have no use for."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
import proxy.cli, proxy.cli.account, proxy.cli.token, proxy.cli.plugin, proxy.app.ground
print(*({"aiohttp", "eth_abi", "eth_account", "web3", "uvloop"} & {*sys.modules}))
"""


def test_what_a_command_without_a_daemon_imports() -> None:
    said = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert said.stdout.split() == []
