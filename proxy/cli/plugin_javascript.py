"""The JavaScript SDK that l2proxy brings along, and the author's tests under the deno that runs plugins (`plugin test`).

No registry, no network and no file but the project's and ours: deno is given one import map, as a data: URL, that names the SDK,
the runtime's modules its testing twin stands on, and the manifest. Sources: deno's `test` and `--import-map`.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

import proxy
from proxy.cli.session import USAGE, Failure
from proxy.host.manifest import Manifest
from proxy.host.sandbox.deno_command import MISSING, MODULES, deno_program

STDERR = 2
_SUFFIXES = ("test.js", "test.mjs", "test.ts")  # what deno takes for a file of tests
_FLAGS = (
    *("--no-prompt", "--no-remote", "--cached-only", "--no-config", "--no-lock", "--no-check"),
    "--node-modules-dir=manual",  # what the author installed with npm, and nothing of a registry
)


def sdk_folder() -> Path:
    """Return the folder of @l2proxy/sdk: inside an installed l2proxy, or beside it in a checkout. Raises Failure."""
    package = Path(proxy.__file__).parent
    for place in (package / "sdk_js", package.parent / "sdk" / "js"):
        if (place / "index.d.ts").is_file():
            return place
    raise Failure("this installation of l2proxy lacks its JavaScript SDK (proxy/sdk_js); install it again")


def run_tests(folder: Path, manifest: Manifest, l1: str | None, *, quiet: bool, entry: bytes | None = None) -> bool:
    """Run the tests below `folder`/tests and tell whether they pass; `l1`: the one node they may reach. Raises Failure.

    `entry`: what stands in for the entry wherever it is imported, the bundle. `quiet` keeps standard output free for the command's own answer.
    """
    deno = deno_program()
    if deno is None:
        raise Failure(MISSING)
    tests = folder / "tests"
    if not any(path.name.endswith(_SUFFIXES) for path in tests.rglob("*test.*")):
        raise Failure(f"there is no tests/….test.js in {folder}")
    sdk = sdk_folder()
    with tempfile.TemporaryDirectory(prefix="l2proxy-deno-") as own:
        names = {}
        if entry is not None:
            bundle = Path(own, Path(manifest.entry).name)
            bundle.write_bytes(entry)
            names = {(folder / manifest.entry).as_uri(): bundle.as_uri()}
        arguments = [str(deno), "test", *_FLAGS, f"--import-map={_import_map(sdk, manifest, names)}"]
        arguments.append(f"--allow-read={','.join(_listed(path) for path in (folder, sdk, MODULES, Path(own)))}")
        if l1 is not None:
            arguments.append(f"--allow-net={_place(l1)}")
        before = Path(own, "before.js")
        before.write_text('import { empty } from "#runtime/environment.js";\nempty();\n')
        arguments.append(
            f"--preload={before}"
        )  # before the plugin's module is read: it finds what it will find in the daemon
        report = Path(own, "report.xml")
        arguments.append(f"--junit-path={report}")
        arguments += [str(tests), "--", *([] if l1 is None else [l1])]
        environment = {"DENO_DIR": str(Path(own, "cache")), "DENO_NO_UPDATE_CHECK": "1"}
        if not sys.stdout.isatty():
            environment["NO_COLOR"] = "1"
        output = STDERR if quiet else None
        ended = subprocess.run(  # noqa: S603 - the pinned deno
            arguments, cwd=folder, env=environment, stdout=output, check=False
        )
        if ended.returncode == 0 and re.search(r'<testsuites [^>]*\btests="0"', report.read_text()):
            raise Failure(f"no test ran: {tests} holds no Deno.test")
    return ended.returncode == 0


def _import_map(sdk: Path, manifest: Manifest, more: dict[str, str]) -> str:
    told = json.dumps(msgspec.to_builtins(manifest), ensure_ascii=False)
    names = more | {
        "@l2proxy/sdk/testing": (sdk / "testing" / "index.js").as_uri(),
        "#runtime/": MODULES.as_uri() + "/",
        "#manifest": _data_url("text/javascript", f"export default {told};"),
    }
    return _data_url("application/json", json.dumps({"imports": names}))


def _data_url(kind: str, text: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"


def _listed(path: Path) -> str:
    return str(path).replace(",", ",,")  # deno's way to write a comma in a list


def _place(url: str) -> str:
    """Return host and port of a node's URL as deno's --allow-net takes them. Raises Failure."""
    parts = urlsplit(url)
    try:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (KeyError, ValueError):
        raise Failure(f"--l1: {url} is no http or https URL", USAGE) from None
    if not parts.hostname:
        raise Failure(f"--l1: {url} names no host", USAGE)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}"
