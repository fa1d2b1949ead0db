"""docs/tutorial.md, its blocks pasted into a shell in their order, as a newcomer does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"


@pytest.mark.timeout(240)  # some twenty commands, each a process of its own
def test_every_block_of_the_tutorial_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", TUTORIAL.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 12
    program = tmp_path / "bin" / "l2proxy"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m proxy "$@"\n')
    program.chmod(0o755)
    script = "set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + "".join(blocks)
    ended = subprocess.run(
        ["/bin/bash", "-c", script],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(TUTORIAL.parents[1]),
            "XDG_STATE_HOME": str(tmp_path / "state"),
        },
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for said in (
        "the tests passed",
        "tally would install: actions 1",
        "tally would install: actions 2",
        "tally 0.1.0 is installed",
        '"result":{"total":"0x0"}',
        "the plugin runs",
        "version 0.1.0 becomes 0.2.0",
        "tally is 0.2.0 now",
        "tally is 0.1.0 again",
        "1 passed",
        "abacus would install: actions 2",
        "abacus 0.1.0 is installed",
    ):
        assert said in ended.stdout
    assert 'approval = "never"' in (tmp_path / "tally" / "plugin.toml").read_text()
