"""Every rule of hardening.md and security.md has tests that exist: tests/security/RULES.md keeps its word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
RULES = (TESTS / "security" / "RULES.md").read_text()
NAMED = re.findall(r"`([\w/]+\.py)::(test_\w+)`", RULES)


@pytest.mark.parametrize(("page", "rules"), [("hardening.md", 31), ("security.md", 27)])
def test_every_rule_has_a_test(page: str, rules: int) -> None:
    table = RULES.partition(f"\n## {page}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \|[^|]+\|(.*)\|$", table, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, rules + 1))
    assert all("::test_" in tests for _, tests in rows)


def test_every_test_named_there_exists() -> None:
    assert len(NAMED) > 150
    files = {file: (TESTS / file).read_text() for file, _ in NAMED}
    assert [f"{file}::{name}" for file, name in NAMED if f"def {name}(" not in files[file]] == []
