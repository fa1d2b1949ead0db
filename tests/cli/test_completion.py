"""The completion scripts: bash's is sourced and asked, as a shell does at TAB."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.cli import COMMANDS, cli
from tests.conftest import need


def script(shell: str) -> str:
    done = CliRunner().invoke(cli, ["completion", shell])
    assert done.exit_code == 0
    return done.stdout


def completed(*words: str) -> list[str]:
    """Source the script in bash and return what TAB offers for the last of `words`."""
    bash = shutil.which("bash")
    need(bash is not None, "bash")
    assert bash is not None
    quoted = " ".join(f"'{word}'" for word in words)
    ask = (
        f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _l2proxy_completion l2proxy\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [bash, "--norc", "-c", f"{script('bash')}\n{ask}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=environment,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands_their_subcommands_and_options() -> None:
    assert completed("l2proxy", "") == list(COMMANDS)
    assert completed("l2proxy", "st") == ["status"]
    assert set(completed("l2proxy", "approval", "")) == {"approve", "list", "reject", "show"}
    assert completed("l2proxy", "run", "--log-f") == ["--log-format"]
    assert completed("l2proxy", "run", "--log-format", "") == ["text", "json"]
    assert set(completed("l2proxy", "completion", "")) == {"bash", "zsh", "fish"}


@pytest.mark.parametrize(
    ("shell", "has"), [("bash", "complete -o nosort"), ("zsh", "#compdef l2proxy"), ("fish", "--command l2proxy")]
)
def test_each_shell_has_its_script(shell: str, has: str) -> None:
    assert has in script(shell)
    assert "_L2PROXY_COMPLETE" in script(shell)


@pytest.mark.parametrize(
    "words",
    [
        *(("plugin", "add"), ("plugin", "update", "id"), ("rule", "attest"), ("account", "import")),
        *(("init", "--mnemonic-file"), ("run", "--password-file"), ("run", "--config"), ("unlock", "--password-file")),
    ],
    ids=" ".join,
)
def test_files_are_completed_where_files_are_given(words: tuple[str, ...]) -> None:
    asked = {"COMP_WORDS": f"l2proxy {' '.join(words)} x", "COMP_CWORD": str(len(words) + 1)}
    done = CliRunner().invoke(cli, prog_name="l2proxy", env={**asked, "_L2PROXY_COMPLETE": "bash_complete"})
    assert done.stdout.splitlines() == ["file,x"]


@pytest.mark.parametrize("words", [("completion", "fish", "--json"), ("--json", "completion", "fish")], ids=" ".join)
def test_programs_get_the_script_as_json(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(cli, words)
    assert json.loads(done.stdout) == {"shell": "fish", "script": script("fish").removesuffix("\n")}


def test_another_shell_is_one_sentence() -> None:
    done = CliRunner().invoke(cli, ["completion", "tcsh"])
    assert done.exit_code == 2
    assert "tcsh" in done.stderr


def test_completing_loads_no_daemon() -> None:
    """TAB waits for this: the names come from the table, options from the command's own module."""
    code = (
        "import sys, proxy.cli\n"
        "try:\n    proxy.cli.main([])\nexcept SystemExit: pass\n"
        "print([name for name in ('web3', 'aiohttp', 'uvloop', 'proxy.app.daemon') if name in sys.modules])"
    )
    environment = {
        **os.environ,
        "COMP_WORDS": "l2proxy run --p",
        "COMP_CWORD": "2",
        "_L2PROXY_COMPLETE": "bash_complete",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    assert "plain,--port" in done.stdout
    assert done.stdout.rstrip().endswith("[]")
