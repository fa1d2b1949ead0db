"""`l2proxy plugin new`: a project that works, with its tests; what the tutorial begins with (docs/tutorial.md)."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

import click

from proxy.cli.session import USAGE, Failure, Session, session_options

_MANIFEST = """id = "{id}"
name = "{name}"
version = "0.1.0"
description = "Counts what it is told."
runtime = "python"
entry = "{module}:{kind}"
api = 1

[keys]
path = "m/{purpose}'/0'/0'"

[[action]]
name = "add"
description = "Add to the counter."
params = [{{ name = "amount", type = "uint64" }}]
returns = [{{ name = "total", type = "uint64" }}]
approval = "policy"

[permissions]
store_bytes = 1048576
"""

_CODE = '''"""{name}: a plugin of l2proxy that keeps a counter."""

from typing import TypedDict

from l2proxy_sdk import ActionError, Plugin, Uint64, action


class Total(TypedDict):
    total: Uint64


class {kind}(Plugin):
    @action
    async def add(self, amount: Uint64) -> Total:
        """Add to the counter."""
        total = int(await self.store.get("total") or "0") + amount
        if total >= 2**64:
            raise ActionError(1, "the counter is full", spent=False)
        await self.store.put("total", str(total))
        await self.state.update({{"total": hex(total)}})
        return {{"total": total}}
'''

_TEST = '''"""Runs without a daemon: `l2proxy plugin test`."""

import unittest

from l2proxy_sdk.testing import FakeHost
from {module} import {kind}


class Test{kind}(unittest.IsolatedAsyncioTestCase):
    async def test_add(self):
        host = FakeHost({kind})
        await host.start()
        self.assertEqual(await host.invoke("add", amount=2), {{"total": "0x2"}})
        self.assertEqual(await host.invoke("add", amount=3), {{"total": "0x5"}})
        await host.stop()
'''


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--python", is_flag=True, help="In Python (there is no other template in this version).")
@session_options
def new(session: Session, directory: Path, python: bool) -> None:
    """Write a working plugin with its tests into the new folder DIRECTORY; its name becomes the plugin's id."""
    name = directory.name
    if re.fullmatch(r"[a-z][a-z0-9-]{1,31}", name, re.ASCII) is None or name.endswith("-"):
        raise Failure(f"{name!r} is no id of a plugin: 2 to 32 of a-z, 0-9 and -, a letter first", USAGE)
    module = name.replace("-", "_")
    kind = "".join(part.capitalize() for part in name.split("-"))
    if kind.lower() in ("plugin", "total", "action", "tests"):
        raise Failure(f"{name} is a name of the template's own; take another", USAGE)
    words = {
        "id": name,
        "name": " ".join(part.capitalize() for part in name.split("-") if part),
        "module": module,
        "kind": kind,
        "purpose": 100_000 + secrets.randbelow(2**30),  # nobody else's, most probably
    }
    files = {"plugin.toml": _MANIFEST, f"{module}.py": _CODE, f"tests/test_{module}.py": _TEST}
    try:
        directory.mkdir(parents=True)
        (directory / "tests").mkdir()
        for file, text in files.items():
            (directory / file).write_text(text.format(**words), encoding="utf-8")
    except FileExistsError:
        raise Failure(f"there is {directory} already") from None
    except OSError as error:
        raise Failure(f"{directory} cannot be written: {error.strerror}") from None
    shown = {"id": name, "directory": str(directory), "files": sorted(files)}
    session.show(shown, lambda value: f"{name} stands in {directory}; `l2proxy plugin test {directory}` runs its tests")
