"""Asks this machine how well it can sandbox: one jailed process that tries the door and says which layers hold.

For `doctor`, and before any plugin is installed; each plugin's process makes the same try itself and reports it to the host.
"""

from __future__ import annotations

import json
import subprocess

from proxy.host.sandbox.command import command
from proxy.host.sandbox.report import NO_SANDBOX, Sandbox, from_report
from proxy.host.sandbox.syscalls import architecture

SECONDS = 20.0


def probe() -> Sandbox:
    """Return the layers that hold on this machine and why the others do not; takes about as long as a plugin's start.

    `.level` is "full", "reduced" or "none", and `.why` says why plugins would be refused.
    """
    if architecture() is None:
        return Sandbox(why=NO_SANDBOX)
    try:
        run = subprocess.run(  # noqa: S603 - its arguments are ours
            command("probe"),
            capture_output=True,
            env={},
            cwd="/",
            stdin=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Sandbox(why=f"the probe could not run: {error}")
    lines = run.stdout.splitlines()
    if not lines:
        last = run.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        return Sandbox(why=f"the probe ended before it was locked: {last[:200]}")
    return from_report(json.loads(lines[0]))
