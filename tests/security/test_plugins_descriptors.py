"""A plugin's process holds its three pipes and nothing of the daemon's, whatever loop the daemon runs on."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy.host.process import spawn
from proxy.storage import Database

CODE = """
import json, os, sys
held = {}
for name in os.listdir("/proc/self/fd"):
    try:
        held[name] = os.readlink(f"/proc/self/fd/{name}")
    except FileNotFoundError:
        pass
print(json.dumps(held), file=sys.stderr, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_plugin_inherits_no_descriptor(tmp_path: Path, run: Callable[..., Any]) -> None:
    folder = tmp_path / "plugin"
    folder.mkdir()
    (folder / "spy.py").write_text(CODE)
    secret = tmp_path / "secret"
    secret.write_text("x")

    async def held() -> dict[str, str]:
        process = await spawn(folder, "spy:Spy", 256 * 2**20)
        try:
            return json.loads((await process.stderr.read()).splitlines()[-1])
        finally:
            await process.finish()

    leaked = os.open(secret, os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        with Database(tmp_path / "owner.db"):  # LevelDB's own files are inheritable
            found = run(held())
    finally:
        os.close(leaked)
    assert {"0", "1", "2"} <= set(found)
    assert not [target for target in found.values() if target.startswith(str(tmp_path))]
    assert all(found[number].startswith(("pipe:", "/dev/null")) for number in ("0", "1", "2")), found
    sockets = [target for target in found.values() if target.startswith("socket:")]
    assert len(sockets) <= 2, found  # the two ends with which the plugin's own event loop wakes itself
