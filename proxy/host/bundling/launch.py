"""The first code in the bundler's process: locks it as a plugin's is locked, then becomes esbuild.

`python -I -S -B launch.py CONFIG` with an empty environment; CONFIG is JSON: {parent, code, program, memory, seconds,
arguments}; `program` is an open descriptor. esbuild is one static program that needs no file, and the filter allows exactly one
exec, of that descriptor, whose number no descriptor can have again. From then on no path is opened, no socket made and no
process started, with Landlock and namespaces or without; every byte it bundles comes over its standard input (hardening.md 29).
The first line on standard output says which layers hold, or in `why` what is missing: then nothing was started.
"""

from __future__ import annotations

import dataclasses
import fcntl
import importlib
import json
import os
import resource
import sys
from typing import Any

PROGRAM_AT = 100  # the descriptor of the program; above what the limit allows from the lock on
A_THREAD = (0x50F00, 0xD0F00)  # the flags Go starts a thread with, by architecture; a process has others
WAKES = (
    "epoll_create1",
    "eventfd2",
    "pipe2",
    "arch_prctl",
)  # what Go's timers wait on; the last sets a thread's storage


def part(name: str) -> Any:
    """Import one module of the sandbox."""
    return importlib.import_module(f"proxy.host.sandbox.{name}")


def policy() -> Any:
    """Return what the bundler may call: as a Python plugin, with Go's threads and wake-ups, and the one exec."""
    policies = part("policy")
    python = policies.python_policy()
    conditional = python.conditional | {
        "clone": policies.Argument(0, A_THREAD),
        "execveat": policies.Argument(0, (PROGRAM_AT,)),
        "sched_getaffinity": policies.Argument(0, (0, os.getpid())),
    }
    tripwires = tuple(name for name in python.tripwires if name != "execveat")
    allowed = (*python.allowed, *WAKES)
    return dataclasses.replace(python, allowed=allowed, conditional=conditional, tripwires=tripwires)


def hold(config: dict[str, Any]) -> dict[str, Any]:
    """Lock all but the exec; return the layers, with `why` where the bundler must not run."""
    launcher, landlock, namespaces = map(part, ("launcher", "landlock", "namespaces"))
    rlimits, seccomp = map(part, ("rlimits", "seccomp"))
    jail = launcher.Jail()

    def limit() -> None:
        rlimits.lock(config["memory"], address_space=False, threads=4096)
        resource.setrlimit(resource.RLIMIT_CPU, (config["seconds"], config["seconds"]))

    filter_ = policy()
    jail.try_layer("identity", lambda: launcher.become_nobody(jail, config["parent"], namespaces.lock))
    jail.try_layer("landlock", lambda: landlock.lock([PROGRAM_AT]))
    jail.try_layer("rlimits", limit)
    jail.try_layer("seccomp", lambda: seccomp.lock(filter_))
    report: dict[str, Any] = jail.to_json()
    for name in launcher.REQUIRED:
        if name in jail.missing:
            report["why"] = f"{name}: {jail.missing[name]}"
    if "why" not in report and (found := part("attempts").succeeding()):
        report["why"] = f"the lock does not hold: {', '.join(found)}"
    return report


def main() -> None:
    """Do the steps in their order and become esbuild, or tell the host why not."""
    config = json.loads(sys.argv[1])
    sys.path.insert(0, config["code"])
    for name in ("launcher", "landlock", "namespaces", "seccomp", "attempts", "policy"):
        part(name)  # nothing is read after the lock
    part("launcher").tie_to_host(config["parent"])
    fcntl.fcntl(config["program"], fcntl.F_DUPFD_CLOEXEC, PROGRAM_AT)
    os.close(config["program"])
    report = hold(config)
    os.write(1, (json.dumps(report) + "\n").encode())
    if "why" not in report:
        os.execve(PROGRAM_AT, config["arguments"], {})  # noqa: S606 - its arguments are ours


if __name__ == "__main__":
    main()
