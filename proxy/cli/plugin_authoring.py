"""`l2proxy plugin check|test|pack`: does this folder install, do its tests pass, and its archive.

Runs without a daemon and needs no data directory; `check` asks the index of its config where there is one. For `check` the
code is read in a plugin process with the limits of a real one; `test` runs the author's own tests, in a process of their own
with the SDK that l2proxy brings along.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proxy.cli.session import USAGE, Failure, Session, session_options

if TYPE_CHECKING:
    from proxy.host.indexes import Indexes
    from proxy.host.inspection import Inspected
    from proxy.host.manifest import Action, Manifest
    from proxy.host.package import File

_FOR_EDITORS = ("jsconfig.json", ".d.ts")  # how what `plugin new --npm` writes for the author's editor ends
_DIRECTORY = click.argument("directory", type=click.Path(path_type=Path), default=".")


@click.command()
@_DIRECTORY
@click.option("--fix", is_flag=True, help="Write the action tables of plugin.toml from the code.")
@session_options
def check(session: Session, directory: Path, fix: bool) -> None:
    """Say whether the plugin in DIRECTORY would install.

    Validates its manifest and compares the actions it declares with those of its code.
    """
    from proxy.host.declarations import differences

    inspected, found = asyncio.run(_read(directory.absolute(), session.data))
    wrong = differences(inspected.manifest, found)
    if wrong and fix:
        _write_actions(directory, inspected, found)
        inspected, found = asyncio.run(_read(directory.absolute(), session.data))
        wrong = differences(inspected.manifest, found)
    if wrong:
        raise Failure(f"{inspected.manifest.id}: " + "; ".join(wrong))
    shown: dict[str, Any] = {"id": inspected.manifest.id, "digest": inspected.digest, "actions": len(found)}
    session.show(shown, lambda value: f"{value['id']} would install: actions {value['actions']}, {value['digest']}")


@click.command()
@_DIRECTORY
@click.option(
    "--l1", metavar="URL", help="A node the tests of an npm plugin may reach; they get the URL as Deno.args[0]."
)
@click.option("--bundled", is_flag=True, help="Test an npm plugin as it will be installed: fetch what its lock names.")
@session_options
def test(session: Session, directory: Path, l1: str | None, bundled: bool) -> None:
    """Run the tests in DIRECTORY/tests with the SDK that l2proxy brings along; no daemon, no registry.

    Python: unittest, tests/test_….py. npm: the deno that runs plugins, tests/….test.js, with nothing open but reading the project.
    """
    from proxy.config import ConfigError
    from proxy.host.manifest import read_manifest

    folder = directory.absolute()
    hint = ""
    try:
        manifest = read_manifest(folder)
        if manifest.runtime == "npm":
            from proxy.cli.plugin_javascript import run_tests

            entry = _entry(asyncio.run(_packable(folder, session.data))) if bundled else None
            passed = run_tests(folder, manifest, l1, quiet=session.json, entry=entry)
            hint = "" if bundled or manifest.dependencies is None else "; --bundled tests what will be installed"
        elif l1 is not None or bundled:
            raise Failure("--l1 and --bundled are for npm plugins; tests in Python reach any node by themselves", USAGE)
        else:
            passed = _run_unittest(folder, quiet=session.json)
    except (ValueError, ConfigError) as error:
        raise Failure(str(error)) from None
    if not passed:
        raise Failure(f"the tests failed{hint}")
    session.show({"passed": True}, lambda _: "the tests passed")


def _entry(packed: tuple[Manifest, list[File]]) -> bytes:
    manifest, files = packed
    return next(file.data for file in files if file.name == manifest.entry)


def _run_unittest(folder: Path, *, quiet: bool) -> bool:
    import l2proxy_sdk

    if not any((folder / "tests").glob("test*.py")):
        raise Failure(f"there is no tests/test_….py in {folder}")
    sdk = Path(l2proxy_sdk.__file__).parent.parent
    ended = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", _UNITTEST],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{sdk}", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=2 if quiet else None,
        check=False,
    )
    if ended.returncode == _NOTHING_RAN:
        raise Failure(f"no test ran: {folder / 'tests'} holds no unittest.TestCase with a method test…")
    return ended.returncode == 0


_NOTHING_RAN = 5  # as unittest of Python 3.12 has it; 3.11 calls that a success
_UNITTEST = f"""
import sys, unittest
result = unittest.main(None, argv=["unittest", "discover", "-s", "tests"], exit=False).result
sys.exit({_NOTHING_RAN} if result.wasSuccessful() and not result.testsRun else not result.wasSuccessful())
"""


@click.command("pack")
@_DIRECTORY
@click.option("--output", metavar="FILE", type=click.Path(path_type=Path), help="Default: ID-VERSION.tar.gz here.")
@session_options
def pack_(session: Session, directory: Path, output: Path | None) -> None:
    """Write the plugin in DIRECTORY as one archive, the same bytes on every machine, and say its digest.

    Folders tests and dist stay out, of an npm plugin also types (.d.ts) and jsconfig.json; what its lock names is bundled into its entry, and
    the lock stays out, too. `l2proxy plugin add FILE --sha256 HEX` installs it.
    """
    from proxy.config import ConfigError
    from proxy.host.packing import pack

    try:
        manifest, files = asyncio.run(_packable(directory.absolute(), session.data))
        data = pack(manifest, files)
    except (ValueError, ConfigError) as error:
        raise Failure(str(error)) from None
    target = output or Path(f"{manifest.id}-{manifest.version}.tar.gz")
    try:
        target.write_bytes(data)
    except OSError as error:
        raise Failure(f"{target} cannot be written: {error.strerror}") from None
    shown = {"id": manifest.id, "version": manifest.version, "file": str(target), "files": len(files)}
    shown["sha256"] = hashlib.sha256(data).hexdigest()
    session.show(shown, lambda value: f"{target}: {len(files)} files\nsha256 {value['sha256']}")


async def _packable(folder: Path, data: Path) -> tuple[Manifest, list[File]]:
    """Return the manifest and the files that go into the archive. Raises ManifestError, ConfigError."""
    from proxy.host.bundling.bundle import without_lock
    from proxy.host.inspection import check_files
    from proxy.host.manifest import MANIFEST, parse_manifest, read_manifest
    from proxy.host.package import read_package
    from proxy.host.packing import LEFT_OUT
    from proxy.host.sources import Source, with_dependencies
    from proxy.wallet import paths

    manifest = read_manifest(folder)
    files = read_package(folder, LEFT_OUT)
    if manifest.runtime == "npm":
        files = [file for file in files if not file.name.endswith(_FOR_EDITORS)]
    if manifest.runtime == "npm" and manifest.dependencies is not None:
        files = without_lock(manifest, await with_dependencies(manifest, files, _indexes(data)))
        manifest = parse_manifest(next(file.data for file in files if file.name == MANIFEST))
    check_files(Source("directory", str(folder)), manifest, files, paths, _allowed)
    return manifest, files


def _indexes(data: Path) -> Indexes:
    """Return the indexes of the data directory's config, the common ones where there is none. Raises ConfigError."""
    from proxy.config import PluginSettings, load
    from proxy.host.indexes import Indexes

    settings = load(config).plugins if (config := data / "config.toml").is_file() else PluginSettings()
    return Indexes(settings.pypi, settings.npm, data / "cache" if data.is_dir() else None)


def _write_actions(directory: Path, inspected: Inspected, coded: list[Action]) -> None:
    from proxy.host.action_tables import with_actions
    from proxy.host.manifest import MANIFEST, ManifestError
    from proxy.storage.files import write_atomic

    path = directory / MANIFEST
    try:
        write_atomic(path, with_actions(path.read_text("utf-8"), inspected.manifest, coded).encode(), 0o644)
    except (ManifestError, OSError) as error:
        raise Failure(f"{path} is left as it was: {error}") from None


def _allowed(method: str) -> bool:
    from middleware.methods import MethodClass, MethodTable

    return MethodTable().classify(method) is MethodClass.PASS and not method.startswith("eth_send")


async def _read(directory: Path, data: Path) -> tuple[Inspected, list[Action]]:
    """Return the plugin as it would be installed, and the actions its code declares. Raises Failure."""
    from proxy.config import ConfigError
    from proxy.host.declarations import declared_by_code
    from proxy.host.inspection import inspect_source, laid_out
    from proxy.wallet import paths

    try:
        inspected = await inspect_source(str(directory), paths, _allowed, _indexes(data))
        with laid_out(inspected.files) as folder:
            return inspected, await declared_by_code(folder, inspected.manifest)
    except (ValueError, ConfigError) as error:
        raise Failure(str(error)) from None
