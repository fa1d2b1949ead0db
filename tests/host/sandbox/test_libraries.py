"""What pure wheels do when they are imported beside importing modules: read their version, a table of theirs, what they hold.

hexbytes, eth-typing, eth-utils, rlp and tzdata each do one of these; without it none of them can be a dependency.
"""

from __future__ import annotations

from pathlib import Path

from tests.host.neighbours import package
from tests.host.sandbox.test_jailed import said_by

WHEEL = {
    "rlpish/__init__.py": """
import json, os, pkgutil
from importlib.metadata import version
from pathlib import Path
__version__ = version("rlp-ish")
with open(os.path.join(os.path.dirname(__file__), "tables", "networks.json")) as file:
    NETWORKS = json.load(file)
assert json.loads((Path(__file__).parent / "tables" / "networks.json").read_bytes()) == NETWORKS
assert json.loads(Path(__file__).resolve().parent.joinpath("tables/networks.json").read_text()) == NETWORKS
SUBMODULES = sorted(name for _, name, _ in pkgutil.iter_modules(__path__))
""",
    "rlpish/tables/networks.json": '{"1": "\u00e9"}',
    "rlpish/codec.py": "",
    "rlpish/deep/__init__.py": "",
    "rlp_ish-1.2.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: rlp-ish\nVersion: 1.2.0\nRequires-Dist: six\n",
    "rlp_ish-1.2.0.dist-info/entry_points.txt": "[rlp.plugins]\nx = rlpish.codec\n",
    "rlp_ish-1.2.0.dist-info/WHEEL": "Root-Is-Purelib: true\n",
}


async def said(tmp_path: Path, code: str) -> str:
    folder = package(tmp_path, "user", f"import sys\n{code}\nraise SystemExit(7)\n")
    for name, text in WHEEL.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    printed, how = await said_by(folder)
    assert how == "exited with status 7", printed
    return printed


async def test_a_wheel_reads_its_version_and_its_tables(tmp_path: Path) -> None:
    code = """
import importlib.metadata as metadata, rlpish
assert rlpish.__version__ == "1.2.0"
assert rlpish.NETWORKS == {"1": "\u00e9"}
assert rlpish.SUBMODULES == ["codec", "deep"]
assert metadata.version("RLP_ish") == metadata.distribution("rlp.ish").version == "1.2.0"
assert metadata.requires("rlp-ish") == ["six"]
assert [row.value for row in metadata.entry_points(group="rlp.plugins")] == ["rlpish.codec"]
assert [row.metadata["Name"] for row in metadata.distributions()] == ["rlp-ish"]
try:
    metadata.version("eth-utils")
except metadata.PackageNotFoundError:
    print("not there", file=sys.stderr)
"""
    assert await said(tmp_path, code) == "not there\n"


async def test_resources_of_a_package(tmp_path: Path) -> None:
    code = """
import importlib.resources as resources
tables = resources.files("rlpish") / "tables"
assert tables.is_dir() and not tables.is_file() and tables.name == "tables"
assert [row.name for row in tables.iterdir()] == ["networks.json"]
assert tables.joinpath("networks.json").read_text() == '{"1": "\u00e9"}'
with tables.joinpath("networks.json").open("rb") as file:
    assert file.read(3) == b'{"1'
assert resources.files("rlpish.deep").joinpath("__init__.py").read_bytes() == b""
assert not resources.files("rlpish").joinpath("none").is_file()
try:
    tables.joinpath("none").read_bytes()
except FileNotFoundError:
    print("none", file=sys.stderr)
"""
    assert await said(tmp_path, code) == "none\n"


async def test_open_finds_the_plugins_own_files_and_no_other(tmp_path: Path) -> None:
    code = """
import os
for path, mode in (
    ("/etc/passwd", "r"), ("plugin/../etc/passwd", "r"), ("/plugin/../../etc/passwd", "rb"), ("plugin/none", "r"), ("plugin", "r"),
    ("plugin/rlpish/codec.py", "w"), ("plugin/rlpish/codec.py", "r+"), ("plugin/rlpish/codec.py", "a"), (b"/etc/passwd", "r"),
):
    try:
        open(path, mode)
    except OSError as error:
        print(path, mode, type(error).__name__, file=sys.stderr)
assert open("plugin/rlpish/codec.py", "rb").read() == open("/plugin/rlpish/./codec.py", mode="rb").read() == b""
"""
    refused = [row.rsplit(" ", 1)[1] for row in (await said(tmp_path, code)).splitlines()]
    missing, denied = "FileNotFoundError", "PermissionError"
    assert refused == [denied, denied, denied, missing, missing, denied, denied, denied, denied]
