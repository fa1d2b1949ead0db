"""`l2proxy plugin new`: a project that works, with its tests; what the tutorial begins with (docs/tutorial.md).

The templates stand in `plugin_template_python` and `plugin_template_npm`: the same counter twice.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from string import Template

import click

from proxy.cli import plugin_template_npm, plugin_template_python
from proxy.cli.session import USAGE, Failure, Session, session_options

# The same for both: a counter is a counter.
_MANIFEST = """id = "$id"
name = "$name"
version = "0.1.0"
description = "Counts what it is told."
runtime = "$runtime"
entry = "$entry"
api = 1

[keys]
path = "m/$purpose'/0'/0'"

[[action]]
name = "add"
description = "Add to the counter."
params = [{ name = "amount", type = "uint64" }]
returns = [{ name = "total", type = "uint64" }]
approval = "policy"

[permissions]
store_bytes = 1048576
"""


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--python", "runtime", flag_value="python", default="python", help="In Python, the default.")
@click.option("--npm", "runtime", flag_value="npm", help="In JavaScript.")
@session_options
def new(session: Session, directory: Path, runtime: str) -> None:
    """Write a working plugin with its tests into the new folder DIRECTORY; its name becomes the plugin's id."""
    name = directory.name
    if re.fullmatch(r"[a-z][a-z0-9-]{1,31}", name, re.ASCII) is None or name.endswith("-"):
        raise Failure(f"{name!r} is no id of a plugin: 2 to 32 of a-z, 0-9 and -, a letter first", USAGE)
    template = plugin_template_npm if runtime == "npm" else plugin_template_python
    kind = "".join(part.capitalize() for part in name.split("-"))
    if kind in template.TAKEN:
        raise Failure(f"{name} is a name of the template's own; take another", USAGE)
    words = {
        "id": name,
        "name": " ".join(part.capitalize() for part in name.split("-") if part),
        "module": name.replace("-", "_"),
        "kind": kind,
        "purpose": str(100_000 + secrets.randbelow(2**30)),  # nobody else's, most probably
    }
    words |= {"runtime": runtime, "entry": Template(template.ENTRY).substitute(words)}
    templates = {"plugin.toml": _MANIFEST, **template.FILES}
    files = {Template(file).substitute(words): Template(text).substitute(words) for file, text in templates.items()}
    files |= template.copied()
    try:
        directory.mkdir(parents=True)
        for file, text in files.items():
            path = directory / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except FileExistsError:
        raise Failure(f"there is {directory} already") from None
    except OSError as error:
        raise Failure(f"{directory} cannot be written: {error.strerror}") from None
    shown = {"id": name, "directory": str(directory), "files": sorted(files)}
    session.show(shown, lambda value: f"{name} stands in {directory}; `l2proxy plugin test {directory}` runs its tests")
