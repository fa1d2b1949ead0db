"""`plugin new|check --fix|test|pack`: what an author types and what comes of it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.plugin import plugin
from proxy.host.archives import unpack
from tests.host.neighbours import package

SDK = "from l2proxy_sdk import Plugin, Uint8, action\nclass Main(Plugin):\n    @action\n    async def go(self, n: Uint8) -> None: ...\n"
# A hostile one: it answers in our place, over whichever descriptor leads to the host.
DEEP = """import os
for number in range(3, 64):
    try: os.write(number, b"[" * 50000 + b"\\n")
    except OSError: pass
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(plugin, arguments)


def test_a_pack_is_the_same_bytes_again_and_leaves_the_tests_out(tmp_path: Path) -> None:
    project = tmp_path / "one"
    assert run("new", str(project)).exit_code == 0
    first, second = tmp_path / "first.tar.gz", tmp_path / "second.tar.gz"
    said = json.loads(run("pack", str(project), "--output", str(first), "--json").output)
    for path in project.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o755)
    assert run("pack", str(project), "--output", str(second)).exit_code == 0
    assert first.read_bytes() == second.read_bytes()
    assert said["sha256"] == hashlib.sha256(first.read_bytes()).hexdigest()
    assert [file.name for file in unpack(first.read_bytes(), "x.tar.gz")] == [
        "one-0.1.0/one.py",
        "one-0.1.0/plugin.toml",
    ]


@pytest.mark.parametrize("name", ["X", "a", "ünï", "plugin", "with_underscore", "-x"])
def test_a_name_that_is_none(tmp_path: Path, name: str) -> None:
    ended = run("new", "--", str(tmp_path / name))
    assert (ended.exit_code, ended.output.count("\n")) == (2, 1)
    assert not (tmp_path / name).exists()


def test_new_overwrites_nothing(tmp_path: Path) -> None:
    assert run("new", str(tmp_path)).exit_code != 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ("-> None: ...", "-> None ...", "code_of.py, line 4: SyntaxError"),
        ("n: Uint8", "n: int", "code_of.py, line 2: l2proxy_sdk.errors.DeclarationError: n: int has no ABI size"),
        ("n: Uint8", "n", "n has no type; write n: Uint256"),
        ("async def", "def", "action go: an action is an `async def` method"),
        ("class Main", "x = {}['a']\nclass Main", "code_of.py, line 2: KeyError: 'a'"),
        ("class Main", "class Man", "code_of holds no class Main, which `entry` in plugin.toml names"),
        ("class Main(Plugin)", "class Main", "Main is no l2proxy_sdk.Plugin: write class Main(Plugin)"),
        ("class Main", "import os\nos._exit(3)\nclass Main", "exited with status 3"),
        ("class Main", "open('x', 'w')\nclass Main", "code_of.py, line 2: PermissionError: [Errno 1]"),
        ("class Main", DEEP + "class Main", "the code declares its actions in a text nested too deeply"),
    ],
)
def test_a_beginner_is_told_what_and_where(tmp_path: Path, right: str, wrong: str, says: str) -> None:
    folder = package(tmp_path, "begun", SDK.replace(right, wrong))
    ended = run("check", str(folder))
    assert ended.exit_code == 1
    assert says in ended.output


def test_fix_writes_the_tables_and_nothing_else(tmp_path: Path) -> None:
    more = '\n# a comment of mine\n[keys]\npath = "m/7002\'/3\'/0\'"  # and another\n\n[[action]]\nname = "gone"\nparams = [\n  { name = "x", type = "bool" },\n]\n\n[permissions]\nstore_bytes = 7\n'
    folder = package(tmp_path, "fixed", SDK, more)
    assert "action gone" in run("check", str(folder)).output
    assert run("check", str(folder), "--fix").exit_code == 0
    assert run("check", str(folder)).exit_code == 0
    text = (folder / "plugin.toml").read_text()
    assert (
        text.index("# a comment")
        < text.index("# and another")
        < text.index('name = "go"')
        < text.index("store_bytes = 7")
    )
    assert "gone" not in text


def test_fix_leaves_alone_what_it_cannot_replace(tmp_path: Path) -> None:
    folder = package(tmp_path, "inline", SDK, 'action = [{ name = "gone" }]\n')
    before = (folder / "plugin.toml").read_text()
    ended = run("check", str(folder), "--fix")
    assert (ended.exit_code, "left as it was" in ended.output) == (1, True)
    assert (folder / "plugin.toml").read_text() == before


def test_failing_and_missing_tests(tmp_path: Path) -> None:
    folder = package(tmp_path, "tested", SDK)
    assert "there is no tests/test_" in run("test", str(folder)).output
    (folder / "tests").mkdir()
    (folder / "tests" / "test_it.py").write_text("async def test_it():\n    assert False\n")
    ended = run("test", str(folder), "--json")
    assert (ended.exit_code, "no test ran" in ended.output, "passed" in ended.stdout) == (1, True, False)
    (folder / "tests" / "test_it.py").write_text(
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.fail()\n"
    )
    ended = run("test", str(folder))
    assert (ended.exit_code, "the tests failed" in ended.output) == (1, True)
