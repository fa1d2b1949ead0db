"""The first code in a plugin's process. Run as a file by `process`; from here to the lock everything is ours.

`python -I -S -B bootstrap.py CONFIG` with an empty environment. In this order: the process is tied to its host's life, what a
plugin may import is loaded or read, the channel is claimed, the sandbox locks, the host is told which layers hold, where all this lies is
forgotten, and only then the first byte of the plugin is parsed. After the lock no path can be opened, so nothing here may import lazily.
CONFIG is JSON: {parent, code, sdk, folder, entry, memory, mode, line?, unsandboxed}; `mode` "serve" runs the plugin,
"declare" prints its actions, "probe" runs nothing. `line`: the descriptor over which the listener of the tripwires goes.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
from typing import Any


def ours(folder: str, *names: str) -> list[Any]:
    """Import modules while `folder` is on the path: nothing else that lies there can be imported later."""
    sys.path.insert(0, folder)
    modules = [importlib.import_module(name) for name in names]
    sys.path.remove(folder)
    return modules


def lock(launcher: Any, profile: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Lock, or say why not; end the process when it must not go on without."""
    line = None if config.get("line") is None else socket.socket(fileno=config["line"])
    try:
        return dict(launcher.lock(profile, config["memory"], config["parent"], line).to_json())
    except launcher.NotJailed as error:
        return {**error.jail.to_json(), "why": str(error)}


def entry_point(entry: str, plugin: type) -> Any:
    """Import `module:Class` from the plugin's files; raise TypeError for what is no class of a plugin."""
    module, _, name = entry.partition(":")
    found = getattr(importlib.import_module(module), name, None)
    if not isinstance(found, type):
        raise TypeError(f"{module} holds no class {name}, which `entry` in plugin.toml names")
    if not issubclass(found, plugin):
        raise TypeError(f"{name} is no l2proxy_sdk.Plugin: write class {name}(Plugin)")
    return found


def show_uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Print a traceback with the author's lines; the interpreter's own way would look for the files."""
    sys.modules["l2proxy_sdk.failures"].show(error)


def main() -> int:
    """Do the steps in their order; return the exit status."""
    config = json.loads(sys.argv[1])
    del sys.argv[1:]
    names = ("launcher", "profiles", "preload", "package_import", "nameless")
    launcher, profiles, preload, package_import, nameless = ours(
        config["code"], *(f"proxy.host.sandbox.{name}" for name in names)
    )
    launcher.tie_to_host(config["parent"])
    preload.withhold()
    preload.load()
    (runtime,) = ours(config["sdk"], "l2proxy_sdk.runtime")
    kept = preload.keep()
    files = package_import.read_files(config["folder"]) if config["mode"] != "probe" else {}
    answer = os.dup(1)
    process = runtime.claim()
    report = lock(launcher, profiles.PYTHON, config)
    os.write(answer, (json.dumps(report) + "\n").encode())
    if config["mode"] == "probe" or ("why" in report and not config["unsandboxed"]):
        return 0
    package_import.take_over(files, kept)
    nameless.forget(config["sdk"], config["code"])
    mode, entry = config["mode"], config["entry"]
    config.clear()  # whoever walks up the stack finds it
    sys.excepthook = show_uncaught
    for name in [name for name in sys.modules if name.partition(".")[0] == "proxy" or sys.modules[name] is None]:
        del sys.modules[name]
    if mode == "serve":
        os.close(answer)
    plugin = entry_point(entry, runtime.Plugin)
    if mode == "declare":
        os.write(answer, (json.dumps(plugin.actions()) + "\n").encode())
        return 0
    return int(process.run(plugin))


if __name__ == "__main__":
    raise SystemExit(main())
