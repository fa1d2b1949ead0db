"""The JavaScript author's commands from `plugin new --npm` to an installed archive whose action is called; and what they say when
something is wrong.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from middleware.errors import PluginFailed, RpcError
from middleware.waist import OWNER, Context
from proxy.cli.plugin import plugin
from proxy.host.archives import unpack
from proxy.methods.plugin_administration import admin_handlers
from tests.host.conftest import bundler_cache  # noqa: F401 - the fixture
from tests.host.neighbours import Home, new_keyring

READ = """        {
          name: "read",
          approval: "never",
          call: this.read.bind(this),
          params: [{ name: "how", type: "string" }],
          returns: [{ name: "total", type: "uint64" }],
        },
"""
METHODS = """
  async read(how) {
    if (how === "refuse") throw Object.assign(new Error("not today"), { name: "ActionError", code: 3, spent: false });
    if (how === "late") setTimeout(() => console.error(new Error("said later", { cause: new Error("its cause") })), 0);
    if (how === "fail") await this.broken(how);
    return { total: await this.total() };
  }

  async broken(how) {
    throw new TypeError(`secret-${how}`);
  }
}
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(plugin, arguments)


def written(folder: Path) -> Path:
    """Return a new project with a second action in its code."""
    project = folder / "two-words"
    ended = run("new", "--npm", str(project), "--json")
    assert ended.exit_code == 0, ended.output
    assert {"two-words.js", "tests/two-words.test.js", "types/index.d.ts"} <= set(json.loads(ended.output)["files"])
    module = project / "two-words.js"
    text = module.read_text().replace("      actions: [\n", f"      actions: [\n{READ}")
    module.write_text(text.rstrip().removesuffix("}").rstrip() + "\n" + METHODS)
    return project


def test_from_new_to_a_call_of_what_was_packed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    project, archive = written(tmp_path), tmp_path / "packed.tar.gz"
    installed = project / "node_modules" / "seven"  # as npm leaves it
    installed.mkdir(parents=True)
    (installed / "package.json").write_text('{"name": "seven", "main": "./index.js"}')
    (installed / "index.js").write_text("exports.seven = 7;")
    (project / "tests" / "more.test.js").write_text(
        'import { seven } from "seven";\nDeno.test("npm", () => { if (seven !== 7) throw seven; });\n'
    )
    tested = run("test", str(project), "--json")
    assert (tested.exit_code, json.loads(tested.output)) == (0, {"passed": True})
    assert "2 passed" in capfd.readouterr().err
    assert "action read is in the code and not in the manifest" in run("check", str(project)).output
    assert "actions 2" in run("check", str(project), "--fix").output
    packed = json.loads(run("pack", str(project), "--output", str(archive), "--json").output)
    names = [file.name.partition("/")[2] for file in unpack(archive.read_bytes(), archive.name)]
    assert names == ["package.json", "plugin.toml", "two-words.js"]
    asyncio.run(_call(tmp_path, f"{archive}#sha256={packed['sha256']}"))


async def _call(folder: Path, source: str) -> None:
    home = Home(folder / "data", new_keyring(folder))
    await home.open().start()
    try:
        await home.add(Path(source))
        assert await home.invoke("two-words", "add", {"amount": 2}) == {"total": "0x2"}
        assert await home.invoke("two-words", "read", ["late"]) == {"total": "0x2"}
        with pytest.raises(PluginFailed) as own:
            await home.invoke("two-words", "read", ["refuse"])
        assert own.value.to_json()["data"]["message"] == "not today"
        with pytest.raises(RpcError) as bug:
            await home.invoke("two-words", "read", ["fail"])
        assert not re.search(r"secret|TypeError|plugin:|\.js|data:|at ", json.dumps(bug.value.to_json()))
    finally:
        await home.close()  # what it printed is in the log then
    home.open()
    try:
        await _logs_tell_where(home)
    finally:
        await home.close()


async def _logs_tell_where(home: Home) -> None:
    """What `l2proxy plugin logs` shows: the stack down to the author's lines, and not one of ours."""

    handlers = admin_handlers(home.plugins.catalog)
    found: Any = await handlers["admin_pluginLogs"]({"id": "two-words", "limit": 100}, Context(OWNER))
    text = "\n".join(found["lines"])
    assert "TypeError: secret-fail" in text
    assert re.search(r"at TwoWords\.broken \(plugin:\d+:\d+\)\n.*at (?:async )?TwoWords\.read \(plugin:\d+:\d+\)", text)
    assert text.index("Error: said later") < text.index("Caused by Error: its cause")
    assert not re.search(r"data:|l2proxy:|session\.js|refuse|not today", text)


def test_what_is_wrong_is_said_where_it_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    project = written(tmp_path)
    module, good = project / "two-words.js", (project / "two-words.js").read_text()
    wrong = {
        "(at plugin:1:7)": "class {",
        "'uint6' is not a Solidity ABI type": good.replace("uint64", "uint6"),
        "action add has no function as its `call`": good.replace("call: this.add.bind(this),", ""),
        "it imports another file; an npm plugin is one module": 'import "./other.js";',
        "it imports the package left-pad; an npm plugin is one module": 'import "left-pad";',
        'read access to "/etc/passwd", which no plugin has (at plugin:1:6)': 'Deno.readTextFileSync("/etc/passwd");',
        "nothing is not defined (at new TwoWords (plugin:": good.replace(
            "    this.database", "    nothing();\n    this.database"
        ),
    }
    for said, code in wrong.items():
        module.write_text(code)
        ended = run("check", str(project))
        assert (ended.exit_code, said in ended.output, ended.output.count("\n")) == (1, True, 1), ended.output
    assert run("test", str(project)).exit_code == 1
    assert "nothing is not defined" in capfd.readouterr().out
    (project / "tests" / "two-words.test.js").unlink()
    assert "there is no tests/….test.js" in run("test", str(project)).output
    (project / "plugin.toml").write_text("id = 1")
    assert "plugin.toml" in run("test", str(project)).output


def test_the_bundle_is_tested_where_packages_need_a_bundler(tmp_path: Path, bundler_cache: Path) -> None:  # noqa: F811
    project, data = written(tmp_path), tmp_path / "data"
    shutil.copytree(bundler_cache, data / "cache")
    module, manifest = project / "two-words.js", project / "plugin.toml"
    module.write_text('import "./part";\n' + module.read_text())  # no runtime resolves a folder, every bundler does
    (project / "part").mkdir()
    (project / "part" / "index.js").write_text("globalThis.bundled = true;\n")
    (project / "npm-shrinkwrap.json").write_text('{"lockfileVersion": 3, "packages": {"": {}}}')
    manifest.write_text(manifest.read_text().replace("api = 1\n", 'api = 1\ndependencies = "npm-shrinkwrap.json"\n'))
    assert "; --bundled tests what will be installed" in run("test", str(project)).output
    (project / "tests" / "more.test.js").write_text(
        'import "../two-words.js";\nDeno.test("one module", () => { if (!bundled) throw 1; });\n'
    )
    ended = run("test", str(project), "--bundled", "--data", str(data))
    assert ended.exit_code == 0, ended.output


def test_the_environment_is_as_empty_as_in_the_daemon(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    project = written(tmp_path)
    (project / "tests" / "env.test.js").write_text("""
import { env } from "node:process";
import * as named from "node:process";
Deno.test("empty", () => {
  const seen = [env.HOME ?? null, "PATH" in process.env, Object.keys(named.env), named.execPath, process.argv.length];
  if (JSON.stringify(seen) !== '[null,false,[],"deno",2]') throw new Error(JSON.stringify(seen));
});
""")
    ended = run("test", str(project))
    assert ended.exit_code == 0, ended.output + capfd.readouterr().out


@pytest.mark.parametrize("name", ["plugin", "error", "big-int", "under_score"])
def test_a_name_the_template_needs_itself(tmp_path: Path, name: str) -> None:
    ended = run("new", "--npm", str(tmp_path / name))
    assert (ended.exit_code, ended.output.count("\n"), list(tmp_path.iterdir())) == (2, 1, [])


def test_a_node_is_for_npm_alone(tmp_path: Path) -> None:
    assert run("new", "--python", str(tmp_path / "tally")).exit_code == 0
    ended = run("test", str(tmp_path / "tally"), "--l1", "http://127.0.0.1:1")
    assert (ended.exit_code, "reach any node by themselves" in ended.output) == (2, True)


def test_a_file_without_a_test_is_no_success(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    project = written(tmp_path)
    for file in (project / "tests").glob("*.test.js"):
        file.write_text("console.log('nothing to see');\n")
    ended = run("test", str(project), "--json")
    assert (ended.exit_code, "no test ran" in ended.output, "passed" in ended.stdout) == (1, True, False)
    assert "nothing to see" in capfd.readouterr().err
