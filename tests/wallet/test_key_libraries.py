"""The key libraries leave Python's recursion limit where it was, and load no pairings until somebody wants one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from proxy.wallet import key_libraries

ROOT = Path(__file__).parent.parent.parent


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


def test_whoever_signs_first_keeps_the_recursion_limit() -> None:
    """A command needs no `load`; deeply nested JSON it reads afterwards must raise and not overflow the C stack."""
    program = (
        "import sys; from proxy.wallet import key_files, key_libraries, keyring, raw_transaction, typed_data;"
        "assert key_libraries.eth_account().Account.create(); assert sys.getrecursionlimit() == 1000;"
        "assert key_libraries.eth_account() is sys.modules['eth_account']"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_only_one_module_imports_what_raises_the_recursion_limit() -> None:
    sources = [path for folder in ("proxy", "middleware") for path in (ROOT / folder).rglob("*.py")]
    naming = re.compile(r"^\s*(?:from|import) (?:eth_account|eth_keyfile|py_ecc)\b", re.MULTILINE)
    assert [path.name for path in sources if naming.search(path.read_text())] == []


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
