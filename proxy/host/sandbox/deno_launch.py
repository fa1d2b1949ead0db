"""The first code in the process of an npm plugin: sets what of the jail must stand before deno, then becomes deno.

`python -I -S -B deno_launch.py CONFIG` with an empty environment. Limits, identity, namespaces and Landlock are set here and
outlive the exec; Landlock leaves the program and the system's libraries readable, for deno has to be loaded. The filter of
system calls comes from inside deno, by our own first module, which is part of the command line and reads no file. From then
on nothing opens, names or starts anything, as in a Python plugin's process, and only then is the plugin read (plugin.md).
CONFIG is JSON: {parent, code, deno, entry, memory, mode, line?, unsandboxed}; `entry` is the URL of our first module.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from typing import Any

LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
FLAGS = (
    "run",
    "--quiet",
    "--allow-ffi",  # for the filter alone; given back before the plugin is read
    "--deny-read",
    "--deny-write",
    "--deny-net",
    "--deny-env",
    "--deny-sys",
    "--deny-run",
    "--deny-import",
    "--no-prompt",
    "--no-remote",
    "--no-npm",
    "--cached-only",
    "--no-config",
    "--no-lock",
    "--no-code-cache",
)
ENVIRONMENT = {"DENO_NO_UPDATE_CHECK": "1", "DENO_DIR": "/nonexistent", "NO_COLOR": "1"}


def part(name: str) -> Any:
    """Import one module of the sandbox."""
    return importlib.import_module(f"proxy.host.sandbox.{name}")


def hold(config: dict[str, Any], deno: int) -> dict[str, Any]:
    """Set the layers before the exec; return what the next half has to know and the host to hear."""
    launcher, profiles, landlock, namespaces = map(part, ("launcher", "profiles", "landlock", "namespaces"))
    rlimits, bpf, syscalls = map(part, ("rlimits", "bpf", "syscalls"))
    jail, profile, known = launcher.Jail(), profiles.DENO, syscalls.architecture()
    if known is None:
        return {"report": {**jail.to_json(), "why": launcher.NO_SANDBOX}}
    readable = [deno]
    for path in LIBRARIES:
        with contextlib.suppress(FileNotFoundError):
            readable.append(os.open(path, os.O_PATH | os.O_CLOEXEC))

    parent, leave_paths = config["parent"], namespaces.lock_but_paths
    jail.try_layer("identity", lambda: launcher.become_nobody(jail, parent, leave_paths))
    jail.try_layer("landlock", lambda: landlock.lock(readable))
    jail.try_layer("rlimits", lambda: rlimits.lock(config["memory"], address_space=False, threads=profile.threads))
    report = jail.to_json()
    for name in ("rlimits", "identity"):
        if name in jail.missing:
            report["why"] = f"{name}: {jail.missing[name]}"
    numbers = {name: known.numbers[name] for name in ("seccomp", "openat", "socket", "clone", "mmap")}
    return {"report": report, "filter": bpf.jail_filter(profile.policy(), known).hex(), "numbers": numbers}


def main() -> None:
    """Do the steps in their order and become deno, or tell the host why not."""
    config = json.loads(sys.argv[1])
    sys.path.insert(0, config["code"])
    part("launcher").tie_to_host(config["parent"])
    if config.get("line") is not None:
        os.close(config["line"])
    deno = os.open(config["deno"], os.O_PATH | os.O_CLOEXEC)
    told = hold(config, deno)
    if "why" in told["report"] and not config["unsandboxed"]:
        os.write(1, (json.dumps(told["report"]) + "\n").encode())
        return
    heap = max(16, config["memory"] * 3 // 4 >> 20)
    v8 = f"--v8-flags=--jitless,--max-old-space-size={heap}"
    told |= {"mode": config["mode"], "unsandboxed": config["unsandboxed"]}
    arguments = ["deno", *FLAGS, v8, config["entry"], json.dumps(told)]
    os.execve(deno, arguments, ENVIRONMENT)  # noqa: S606 - its arguments are ours


if __name__ == "__main__":
    main()
