"""The key libraries leave Python's recursion limit where it was."""

from __future__ import annotations

import subprocess
import sys


def test_loading_them_keeps_the_recursion_limit() -> None:
    program = (
        "import sys, web3; assert sys.getrecursionlimit() > 1000;"
        "from proxy.wallet import key_libraries; key_libraries.load();"
        "assert 'py_ecc' in sys.modules; assert sys.getrecursionlimit() == 1000"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
