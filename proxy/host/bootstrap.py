"""The first code in a plugin's process. Run as a file by `process`, standard library and SDK only; imports nothing of ours.

`python -I -S -B bootstrap.py CONFIG` with an empty environment. In this order: limits are set, the process is tied to its
host's life, the SDK is loaded while its folder is on the path, the channel is claimed, and only then the plugin's code is
imported. The full sandbox (plugin.md, "Sandbox") goes between the claim and that import.
CONFIG is JSON: {parent, sdk, folder, entry, memory, mode}; `mode` "serve" runs the plugin, "declare" prints its actions.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import sys
from typing import Any

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38


def limit(memory: int) -> None:
    """Bound what the process may use; it cannot raise the limits again."""
    rows = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_DATA: memory,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 32,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, value in rows.items():
        hard = resource.getrlimit(kind)[1]
        lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (lowest, lowest))


def tie_to_host(parent: int) -> None:
    """End with the host, gain no privilege, and be no target of another process of the user's."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((PR_SET_PDEATHSIG, signal.SIGKILL), (PR_SET_NO_NEW_PRIVS, 1), (PR_SET_DUMPABLE, 0)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # the host died before the signal was asked for
        raise SystemExit(1)


def load_sdk(folder: str) -> Any:
    """Import the SDK and take its folder off the path again: nothing else that lies there can be imported."""
    sys.path.insert(0, folder)
    runtime = importlib.import_module("l2proxy_sdk.runtime")
    sys.path.remove(folder)
    return runtime


def load_plugin(folder: str, entry: str) -> Any:
    """Import `module:Class` from the plugin's folder."""
    sys.path.insert(0, folder)
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)


def main() -> int:
    """Do the steps in their order; return the exit status."""
    config = json.loads(sys.argv[1])
    tie_to_host(config["parent"])
    limit(config["memory"])
    runtime = load_sdk(config["sdk"])
    del sys.argv[1:]
    answer = os.dup(1) if config["mode"] == "declare" else -1
    process = runtime.claim()
    plugin = load_plugin(config["folder"], config["entry"])
    if config["mode"] == "declare":
        os.write(answer, (json.dumps(plugin.actions()) + "\n").encode())
        return 0
    return int(process.run(plugin))


if __name__ == "__main__":
    raise SystemExit(main())
