"""How a jailed process is started: the interpreter, the bootstrap, and what it is told. Shared by plugins and the probe."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import l2proxy_sdk.runtime

from proxy.host.sandbox import launcher, package_import, preload

RUNS_THERE = (
    launcher,
    package_import,
    preload,
    l2proxy_sdk.runtime,
)  # imported here too, so that they lie compiled on disk
BOOTSTRAP = Path(__file__).parent.parent / "bootstrap.py"
CODE = Path(__file__).parent.parent.parent.parent
SDK = Path(l2proxy_sdk.__file__).parent.parent


def command(
    mode: str,
    *,
    folder: Path | None = None,
    entry: str = "",
    memory: int = 256 * 1024 * 1024,
    line: int | None = None,
    unsandboxed: bool = False,
) -> list[str]:
    """Return the arguments of a process that locks itself: `mode` "serve", "declare" or "probe", see the bootstrap."""
    config = {
        "parent": os.getpid(),
        "code": str(CODE),
        "sdk": str(SDK),
        "folder": str(folder),
        "entry": entry,
        "memory": memory,
        "mode": mode,
        "line": line,
        "unsandboxed": unsandboxed,
    }
    return [sys.executable, "-I", "-S", "-B", str(BOOTSTRAP), json.dumps(config)]
