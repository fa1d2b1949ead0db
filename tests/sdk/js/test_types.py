"""index.d.ts and testing/index.d.ts beside what the runtime really injects and the twin really has, name by name.

The names come from the running code; deno's TypeScript then demands of each type exactly these (`Record<keyof T, true>` wants
every name and no other). The project that `plugin new --npm` writes is checked against the types in the same run.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from proxy.cli.plugin import plugin
from proxy.cli.plugin_javascript import sdk_folder
from proxy.host.sandbox.deno_command import MODULES, deno_program

NAMES = """
import { declared } from "RUNTIME/session.js";
import * as testing from "@l2proxy/sdk/testing";
const { FakeHost, FakeHub, FakeLayer1, FakeClock, PretendCrypto } = testing;
const members = (object) => Object.keys(object).concat(Object.getOwnPropertyNames(Object.getPrototypeOf(object)))
  .filter((name) => name !== "constructor").sort();
let injected;
declared(class { constructor(given) { injected = given; } });
const parts = Object.entries(injected).filter(([, part]) => typeof part === "object");
const host = new FakeHost(class {});
const made = { FakeHost: host, FakeHub: new FakeHub(), FakeLayer1: new FakeLayer1(), FakeClock: new FakeClock(), PretendCrypto: new PretendCrypto() };
console.log(JSON.stringify({
  injected: Object.keys(injected),
  parts: Object.fromEntries(parts.map(([name, part]) => [name, Object.keys(part)])),
  testing: Object.keys(testing),
  classes: Object.fromEntries(Object.entries(made).map(([name, object]) => [name, members(object)])),
}));
"""
OURS_ALONE = {"FakeHost": {"look"}, "FakeLayer1": {"chainId"}, "FakeHub": {"answer", "respond"}}  # not the author's


def deno(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    program = deno_program()
    assert program is not None
    environment = {"DENO_DIR": str(cwd / "cache"), "DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1", "PATH": os.defpath}
    return subprocess.run(
        [str(program), *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_types_name_what_there_is_and_nothing_else(tmp_path: Path) -> None:
    found = _names(tmp_path)
    session = (MODULES / "session.js").read_text("utf-8")
    hooks = {"layer2Interface", "start", *re.findall(r'\b(?:said|hook)\("(\w+)"', session)}
    assert len(hooks) == 12  # else the pattern reads nothing
    checks = [_exactly("keyof Injected", found["injected"]), _exactly("keyof Plugin", hooks)]
    checks += [_exactly(f'keyof Injected["{name}"]', parts) for name, parts in found["parts"].items()]
    checks.append(_exactly("keyof typeof testing", found["testing"]))
    for name, members in found["classes"].items():
        checks.append(_exactly(f"keyof testing.{name}", set(members) - OURS_ALONE.get(name, set())))
    assert len(checks) == 16
    sdk = sdk_folder()
    written = tmp_path / "check.ts"
    written.write_text(
        f'import type {{ Injected, Plugin }} from "{sdk / "index.d.ts"}";\n'
        f'import type * as testing from "{sdk / "testing" / "index.d.ts"}";\n' + "\n".join(checks)
    )
    new = CliRunner().invoke(plugin, ["new", "--npm", str(tmp_path / "tally")])
    assert new.exit_code == 0, new.output
    project = tmp_path / "tally"
    (project / "package.json").unlink()  # with one, deno wants the types of node's modules from npm
    config = json.loads((project / "jsconfig.json").read_text())
    (project / "deno.json").write_text(
        json.dumps(
            {"compilerOptions": {"checkJs": True, "strict": True}, "imports": config["compilerOptions"]["paths"]}
        )
        .replace('["', '"')
        .replace('"]', '"')
    )
    flags = ("--no-remote", "--no-lock", "--quiet", "--cached-only")
    types = deno(
        "check",
        *flags,
        "--config",
        str(project / "deno.json"),
        "check.ts",
        "tally/tally.js",
        "tally/tests/tally.test.js",
        cwd=tmp_path,
    )
    assert types.returncode == 0, types.stderr


def _names(folder: Path) -> dict[str, Any]:
    sdk = sdk_folder()
    imports = {
        "@l2proxy/sdk/testing": (sdk / "testing" / "index.js").as_uri(),
        "#runtime/": MODULES.as_uri() + "/",
        "#manifest": "data:text/javascript,export default null",
    }
    (folder / "map.json").write_text(json.dumps({"imports": imports}))
    (folder / "names.js").write_text(NAMES.replace("RUNTIME", MODULES.as_uri()))
    ran = deno("run", "--no-remote", "--no-config", "--no-lock", "--import-map=map.json", "names.js", cwd=folder)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def _exactly(type_: str, names: Any) -> str:
    rows = ", ".join(f"{json.dumps(name)}: true" for name in sorted(names))
    return f"({{ {rows} }}) satisfies Record<{type_}, true>;"
