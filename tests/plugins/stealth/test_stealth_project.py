"""plugins/stealth in process: the scheme beside other code, the scan, payments and sweeps under FakeHost; one run of deno."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey, PublicKey

from proxy.cli.plugin_javascript import run_tests
from proxy.host.manifest import read_manifest
from tests.conftest import need
from tests.plugins.stealth.bob import ORDER, Receiver
from tests.plugins.stealth.bundles import FOLDER, PROJECT, locked, probe

VECTORS = 200


def vectors(chance: random.Random) -> list[dict[str, Any]]:
    rows = []
    for _ in range(VECTORS):
        spending, viewing, ephemeral = (chance.randrange(1, ORDER).to_bytes(32, "big") for _ in range(3))
        receiver, sender = Receiver(spending, viewing), PrivateKey(ephemeral).public_key
        address, tag, key = receiver.address(sender)
        short = "0x" + receiver.spending.public_key.format().hex()
        rows.append(
            {
                "spendingKey": "0x" + spending.hex(),
                "viewingKey": "0x" + viewing.hex(),
                "ephemeralKey": "0x" + ephemeral.hex(),
                "metaAddress": short + receiver.viewing.public_key.format().hex(),
                "shortMetaAddress": short,
                "shortStealthAddress": Receiver(spending, spending).address(sender)[0],
                "ephemeralPublicKey": "0x" + sender.format().hex(),
                "stealthAddress": address,
                "viewTag": tag,
                "stealthKey": f"0x{key:064x}",
            }
        )
    return rows


@pytest.fixture
def project(tmp_path: Path, node_modules: Path) -> Path:
    name = {"x86_64": "linux-x64", "aarch64": "linux-arm64"}[os.uname().machine]
    esbuild = node_modules / "@esbuild" / name / "bin" / "esbuild"
    need(esbuild.is_file(), "esbuild, the bundler of npm plugins,")
    folder = shutil.copytree(PROJECT, tmp_path / "project", ignore=shutil.ignore_patterns("probe.js"))
    probe(esbuild, folder / "probe.js")
    return folder


def test_scheme_scan_payments_and_sweeps(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rows = vectors(random.Random(5564))
    (project / "vectors.json").write_text(json.dumps(rows))
    passed = run_tests(project, read_manifest(FOLDER), None, quiet=False)
    said = capfd.readouterr()
    assert passed, said.out + said.err
    made = [json.loads(line[5:]) for line in said.out.splitlines() if line.startswith("MADE ")]
    assert len(made) == VECTORS // 2
    for row in made:  # what the plugin made with a key of its own is found here
        known = rows[row["at"]]
        receiver = Receiver(bytes.fromhex(known["spendingKey"][2:]), bytes.fromhex(known["viewingKey"][2:]))
        address, tag, _ = receiver.address(PublicKey(bytes.fromhex(row["ephemeralPublicKey"][2:])))
        assert (address, tag) == (row["stealthAddress"], row["viewTag"])


def test_the_lock_names_no_registry_and_what_the_tests_have() -> None:
    theirs = {(row["version"], row.get("integrity")) for row in locked(Path("tests/package-lock.json")).values()}
    for place, row in locked(FOLDER / "npm-shrinkwrap.json").items():
        assert "resolved" not in row, place
        assert (row["version"], row["integrity"]) in theirs, place
