"""How the process of an npm plugin is started: deno, our modules as one URL, and what they are told.

The modules go along in the command line, each import replaced by the module itself as a data: URL, so that the locked process
needs no file of ours either. Whether deno is there at all is asked here: some systems have no build of it.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import sys
import sysconfig
from pathlib import Path

MODULES = Path(__file__).parent.parent / "javascript"
LAUNCH = Path(__file__).parent / "deno_launch.py"
CODE = Path(__file__).parent.parent.parent.parent
MISSING = "npm plugins need deno, and this system has none: the package `deno` from PyPI has no build for it"

_IMPORT = re.compile(r'from "\./([a-z_]+\.js)"')


def deno_program() -> Path | None:
    """Return the pinned deno beside this interpreter, None where there is none."""
    found = Path(sysconfig.get_path("scripts"), "deno")
    return found if found.is_file() else None


def command(mode: str, *, memory: int, line: int | None = None, unsandboxed: bool = False) -> list[str]:
    """Return the arguments of a process that locks itself and then reads a bundle. Raises FileNotFoundError without deno.

    `mode` "serve" runs the plugin, "declare" prints its actions.
    """
    program = deno_program()
    if program is None:
        raise FileNotFoundError(2, MISSING)
    config = {
        "parent": os.getpid(),
        "code": str(CODE),
        "deno": str(program),
        "entry": module_url("main.js"),
        "memory": memory,
        "mode": mode,
        "line": line,
        "unsandboxed": unsandboxed,
    }
    return [sys.executable, "-I", "-S", "-B", str(LAUNCH), json.dumps(config)]


@functools.cache
def module_url(name: str) -> str:
    """Return one of our modules with all it imports as a data: URL."""
    text = (MODULES / name).read_text("utf-8")
    whole = _IMPORT.sub(lambda found: f'from "{module_url(found[1])}"', text)
    return "data:text/javascript;base64," + base64.b64encode(whole.encode()).decode()
