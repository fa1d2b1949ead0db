"""Becomes deno as a user, free or in the jail of an npm plugin, with layers left out: `python -m tests.security.escapes.deno_runner JOB`.

JOB is JSON: {user, without: [layer…] or null, bare, arguments, environment, config}. `without` null: free, with `arguments`. A
layer left out is one the kernel refuses; `bare`: deno grants everything, so that the kernel is alone. Everything is imported
and deno is opened before it turns into the user: an ordinary user need not be able to read this checkout.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from typing import Any

from proxy.host.sandbox import (  # noqa: F401 - what the launcher imports late
    bpf,
    deno_launch,
    identity,
    kernel,
    landlock,
    launcher,
    namespaces,
    profiles,
    rlimits,
    syscalls,
)
from tests.security.escapes.scene import become

_LAYERS: dict[str, tuple[Any, str]] = {"landlock": (landlock, "lock"), "namespaces": (namespaces, "lock_but_paths")}


def _refused(*_arguments: object) -> None:
    raise OSError(errno.EPERM, "left out by the test")


def main() -> None:
    """Do the job."""
    job = json.loads(sys.argv[1])
    deno = os.open(job["deno"], os.O_PATH)
    become(job["user"])
    if job["without"] is None:
        os.execve(deno, ["deno", *job["arguments"]], job["environment"])  # noqa: S606 - it is the test's own
    for name in job["without"]:
        module, function = _LAYERS[name]
        setattr(module, function, _refused)
    if job["bare"]:
        kept = [
            flag
            for flag in deno_launch.FLAGS
            if not flag.startswith(("--deny-", "--allow-", "--no-remote", "--no-npm"))
        ]
        deno_launch.FLAGS = (*kept, "--allow-all")  # type: ignore[assignment]
    sys.argv[1:] = [json.dumps(job["config"] | {"deno": f"/proc/self/fd/{deno}"})]
    deno_launch.main()


if __name__ == "__main__":
    main()
