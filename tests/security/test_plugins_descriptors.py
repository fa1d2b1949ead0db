"""A plugin's process holds its three pipes and nothing of the daemon's, whatever loop the daemon runs on."""

from __future__ import annotations

import asyncio
import collections
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy.host.process import spawn
from proxy.storage import Database

CODE = """
import ctypes, json, os, stat, struct, sys
number, mode_at = {"x86_64": (5, 24), "aarch64": (80, 16)}[os.uname().machine]
held = {}
for descriptor in range(32):  # by the raw call: what the C library makes of fstat names a path
    row = ctypes.create_string_buffer(256)
    if ctypes.CDLL(None).syscall(number, descriptor, row) == 0:
        held[descriptor] = stat.S_IFMT(struct.unpack_from("I", row, mode_at)[0])
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

    async def held() -> dict[str, int]:
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
    assert {found[name] for name in ("0", "1", "2")} == {stat.S_IFIFO}
    kinds = collections.Counter(found.values())
    assert not kinds.keys() - {stat.S_IFIFO, stat.S_IFSOCK, 0}, (
        found
    )  # no file, folder or device; 0 is the loop's epoll
    assert kinds[stat.S_IFSOCK] <= 2, found  # the two ends with which the plugin's own event loop wakes itself
    assert kinds[0] <= 1
    assert kinds[stat.S_IFIFO] <= 5
