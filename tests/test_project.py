"""The project's own files keep their promises."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["proxy", "middleware", "plugins", "l2proxy_sdk"])
def test_nobody_else_owns_our_import_names(name: str) -> None:
    owners = set(packages_distributions().get(name, []))
    assert owners <= {"l2proxy", "l2proxy-sdk"}, owners


@pytest.mark.parametrize(
    "file",
    [
        *("requirements.lock", "tests/package-lock.json", "plugins/paychan/contract/package-lock.json"),
        "benchmarks/metamask/package-lock.json",
    ],
)
def test_lock_files_name_no_registry(file: str) -> None:
    path = ROOT / file
    if file.endswith(".json"):
        packages = json.loads(path.read_text())["packages"]
        assert not [name for name, entry in packages.items() if "resolved" in entry]
        assert all("integrity" in entry for name, entry in packages.items() if name)
    else:
        assert not re.search(r"https?://", path.read_text())


def test_every_requirement_is_hashed() -> None:
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", (ROOT / "requirements.lock").read_text())
    named = [block for block in blocks if re.match(r"[a-zA-Z0-9][\w.-]*==", block)]
    assert len(named) > 50
    assert all("--hash=sha256:" in block for block in named)


def test_the_recorded_exchanges_keep_their_licence() -> None:
    assert "CC0" in (ROOT / "tests" / "conformance" / "execution-apis" / "LICENSE").read_text()


@pytest.mark.timeout(300)  # it may collect the tests a second time
def test_the_readme_counts_the_security_tests(request: pytest.FixtureRequest) -> None:
    folder = ROOT / "tests" / "security"
    here = [item for item in request.session.items if item.path.is_relative_to(folder)]
    counted = len(here) if here and _all_of_them(request.config) else _collected(folder)
    assert f"`tests/security/` holds {counted} tests" in (ROOT / "README.md").read_text()


def _all_of_them(config: pytest.Config) -> bool:
    """Tell whether this very run has collected every test: a second collection takes as long as some tests do."""
    security = ROOT / "tests" / "security"
    left_out = [Path(path).resolve() for path in config.option.ignore or []]
    return (
        config.args_source is config.ArgsSource.TESTPATHS
        and not config.option.keyword
        and not config.option.markexpr
        and not any(path.is_relative_to(security) or security.is_relative_to(path) for path in left_out)
    )


def _collected(folder: Path) -> int:
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"^(\d+) tests collected", collected.stdout, re.MULTILINE)
    assert found is not None, collected.stdout
    return int(found[1])
