"""The hot path may be compiled: nothing that compiling would change is in it, and what is older than its source is told."""

from __future__ import annotations

import ast
import os
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from proxy.app.compiled import outdated

ROOT = Path(__file__).parents[2]
COMPILED = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["l2proxy"]["compiled"]


@pytest.mark.parametrize("path", COMPILED)
def test_no_class_of_the_hot_path_needs_its_annotations_at_run_time(path: str) -> None:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base) for base in node.bases]
            assert not {"msgspec.Struct", "Struct"} & set(bases), (
                f"{node.name} is read by msgspec: see proxy/server/members.py"
            )


@pytest.mark.parametrize("path", COMPILED)
def test_nothing_of_the_hot_path_is_awaited_while_an_exception_is_handled(path: str) -> None:
    """mypyc 2.4 loses count there: the exception stays behind, and some later `finally` of somebody else raises it again."""
    waiting = (ast.Await, ast.AsyncWith, ast.AsyncFor, ast.Yield, ast.YieldFrom)
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Try):
            handling = [*node.finalbody, *(step for handler in node.handlers for step in handler.body)]
            found = [one.lineno for step in handling for one in ast.walk(step) if isinstance(one, waiting)]
            assert not found, (
                f"{path}:{found[0]} waits inside `except` or `finally`; wait behind it, or in another file"
            )
        elif isinstance(
            node, ast.AsyncWith
        ):  # its end may wait as well: a timeout's, a semaphore's and a group's do not
            what = [ast.unparse(item.context_expr) for item in node.items]
            assert not any("Stack" in one or "closing" in one for one in what), f"{path}:{node.lineno} {what}"


def test_what_was_compiled_from_an_older_source_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert outdated() == []
    made, source = tmp_path / "example.cpython-311-x86_64-linux-gnu.so", tmp_path / "example.py"
    for file, time in ((made, 2000), (source, 1000)):
        file.touch()
        os.utime(file, (time, time))
    module = ModuleType("proxy.example")
    module.__file__ = str(made)
    monkeypatch.setitem(sys.modules, "proxy.example", module)
    assert outdated() == []
    os.utime(source, (3000, 3000))
    assert outdated() == ["proxy.example"]
