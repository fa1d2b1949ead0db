"""What a command need not wait for is not imported: names of modules are asserted, never times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from proxy.storage.directory import DataDirectory

KEYS = frozenset({"eth_account", "hdwallet", "py_ecc"})
SERVING = frozenset({"web3", "eth_tester", "eth", "jsonrpcserver", "jsonschema", "uvloop", "prometheus_client"})
CALLING = frozenset({"aiohttp", "cryptography", "pydantic", "coincurve", "eth_abi"})


def loaded(*arguments: str | Path, before: str = "") -> set[str]:
    """Return the top-level modules in the process of `l2proxy ARGUMENTS` when it ends."""
    program = (
        f"import sys, atexit; {before}\n"
        "atexit.register(lambda: sys.stderr.write('\\nloaded ' + ' '.join({m.partition('.')[0] for m in sys.modules})))\n"
        "from proxy.cli import main; sys.argv[0] = 'l2proxy'; main()"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return set(done.stderr.rpartition("\nloaded ")[2].split())


def test_help_loads_the_parser_alone() -> None:
    seen = loaded("--help")
    assert "click" in seen
    assert not seen & {*KEYS, *SERVING, *CALLING, "rich", "asyncio", "msgspec", "plyvel"}


def test_status_loads_what_one_call_needs(tmp_path: Path) -> None:
    seen = loaded("status", "--data", tmp_path)
    assert "asyncio" in seen
    assert not seen & (KEYS | SERVING | CALLING)


def test_without_a_daemon_a_command_loads_no_key_library_and_no_door(tmp_path: Path) -> None:
    seen = loaded("token", "new", "shop", "--data", _made(tmp_path))
    assert "plyvel" in seen
    assert not seen & (KEYS | SERVING)


def _made(folder: Path) -> Path:
    directory = DataDirectory(folder / "data")
    directory.lock()
    directory.release()
    return directory.path


def test_the_daemons_parts_leave_for_later_what_not_every_daemon_needs() -> None:
    program = "import sys, proxy.app.daemon; print(*{m.partition('.')[0] for m in sys.modules})"
    seen = set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "aiohttp" in seen
    assert not seen & {"web3", "eth_account", "eth_tester", "eth", "hdwallet", "py_ecc", "rich", "click"}
