"""A plugin learns nothing of where l2proxy, Python or deno lie on the owner's machine: a path may hold a name (security.md 26).

Both runtimes, real processes. What Python keeps outside of its objects is not looked at here: see `nameless`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import l2proxy_sdk
import pytest

import proxy
from proxy.host.sandbox.deno_command import deno_program
from tests.host.neighbours import Home
from tests.host.test_clumsy import add, go

# Every text that Python code can reach: of modules and what they hold, of the stack, and of whatever is collected.
PYTHON = """
import gc, sys, traceback
wanted = [name[::-1] for name in {reversed}]
found, seen = set(), set()
def look(value, how, depth):
    if id(value) in seen or depth > 6: return
    seen.add(id(value))
    if isinstance(value, str):
        if any(name in value for name in wanted): found.add(how + "=" + value[:100])
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in list(value): look(item, how + "[]", depth + 1)
    elif isinstance(value, dict):
        for key, item in list(value.items()): look(item, how + "." + str(key), depth + 1)
    else:
        look(getattr(value, "__dict__", None) and dict(value.__dict__), how + "!", depth + 1)
        look(getattr(getattr(value, "__code__", None), "co_filename", ""), how + "()", depth + 1)
for name, module in list(sys.modules.items()): look(module, name, 0)
frame = sys._getframe(1)
while frame:
    look(dict(frame.f_locals), "frame", 0); look(frame.f_code.co_filename, "frame", 0); frame = frame.f_back
for value in gc.get_objects():
    if value is not wanted: look(value, "gc", 5)
import configparser, importlib.metadata, site, sysconfig, zoneinfo
look([sysconfig.get_config_vars(), configparser.ConfigParser.read.__code__.co_filename, sys.argv, sys.orig_argv, sys.executable], "late", 0)
try: __import__("json").loads("nothing")
except ValueError: look(traceback.format_exc(), "trace", 0)
return repr(sorted(found))
"""
JAVASCRIPT = """
const wanted = {reversed}.map((name) => [...name].reverse().join(""));
const named = await import("node:process");
const said = [Deno.execPath(), Deno.cwd(), Deno.mainModule, Deno.args, new Error().stack, Deno.env.toObject()];
for (const from of [process, named, Deno.build, Deno.version, navigator]) {
  for (const name in from) said.push([name, typeof from[name] === "function" ? null : Deno.inspect(from[name])]);
}
return JSON.stringify(said.flat().filter((text) => wanted.some((name) => String(text).includes(name))));
"""


@pytest.mark.parametrize(("runtime", "code"), [("python", PYTHON), ("npm", JAVASCRIPT)])
async def test_a_plugin_finds_no_place_of_this_machine(home: Home, tmp_path: Path, runtime: str, code: str) -> None:
    await add(home, tmp_path, runtime)
    places = [
        proxy.__file__,
        l2proxy_sdk.__file__,
        os.__file__,
        sys.executable,
        str(deno_program()),
        str(tmp_path / "x"),
    ]
    folders = [os.path.dirname(place)[::-1] for place in places]
    assert await go(home, code.replace("{reversed}", json.dumps(folders))) == "[]"
