"""The key libraries leave Python's recursion limit where it was, and load no pairings until somebody wants one."""

from __future__ import annotations

import subprocess
import sys

from proxy.wallet import key_libraries


def test_loading_them_keeps_the_recursion_limit_and_leaves_the_pairings_for_later() -> None:
    program = (
        "import sys; from proxy.wallet import key_libraries; key_libraries.load();"
        "assert 'py_ecc' in sys.modules; assert sys.getrecursionlimit() == 1000;"
        "assert not any(name.startswith(('py_ecc.bls', 'py_ecc.optimized')) for name in sys.modules), 'pairings';"
        "from eth_keyfile import keyfile; from py_ecc import bls12_381;"
        "assert keyfile.MAX_V4_PRIVATE_KEY == bls12_381.curve_order - 1;"
        "assert keyfile.bls.SkToPk(1)[:4].hex() == '97f1d3a7', 'the generator of the group';"
        "from py_ecc.bls import G2ProofOfPossession as real; assert keyfile.bls.SkToPk(5) == real.SkToPk(5)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_others_have_loaded_stays_and_the_limit_goes_back() -> None:
    import eth_account  # noqa: F401
    import py_ecc.bls

    before = sys.modules["py_ecc.bls"]
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(100_000)
        key_libraries.load()
        assert sys.getrecursionlimit() == key_libraries.RECURSION_LIMIT
    finally:
        sys.setrecursionlimit(limit)
    assert sys.modules["py_ecc.bls"] is before is py_ecc.bls
