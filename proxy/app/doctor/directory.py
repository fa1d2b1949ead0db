"""The doctor's look at the data directory: who may read it, whether it can be written and synced, what lies in it."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from proxy.app.doctor.finding import Finding, fail, ok, warn
from proxy.storage import StorageError
from proxy.storage.directory import DataDirectory, DirectoryInUse
from proxy.upstream.identity import BadPin, read_pin
from proxy.wallet.keystore import Keystore, KeystoreError
from proxy.wallet.sealing import DEFAULT_N

LITTLE = 1 << 30  # bytes free below which the owner is told
NOTHING = 64 << 20  # bytes free below which nothing can be promised
SLOW = 0.25  # seconds for a small synced write
FLEETING = ("tmpfs", "ramfs")
REMOTE = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p")


def look(data: Path) -> Iterator[Finding]:
    """Yield what is found."""
    if not data.exists():
        yield warn("data directory", f"{data} does not exist yet", f"`l2proxy init --data {quote(str(data))}` makes it")
        return
    mode = _mode(data)
    yield mode
    if mode.level == "fail":
        return
    yield _disk(data)
    yield from _written(data)
    yield _pin(data)
    yield from _keystore(data / "keystore.json")


def look_inside(data: Path) -> Iterator[Finding]:
    """Yield whether the stores open; for when no daemon runs."""
    directory = DataDirectory(data)
    if not directory.exists:
        return
    try:
        directory.lock()
    except DirectoryInUse:
        yield warn(
            "lock",
            f"another l2proxy process holds {data}, and none answers on its admin socket",
            "wait for the command that runs, or for the daemon to start; `fuser` names the process",
        )
        return
    except OSError as error:
        yield fail("lock", f"{error.filename}: {error.strerror}", "let the user who runs l2proxy own the directory")
        return
    try:
        for name in ("owner.db", "chain.db"):
            if (data / name).exists():
                yield _store(directory, name)
    finally:
        directory.release()


def _store(directory: DataDirectory, name: str) -> Finding:
    try:
        _ = directory.owner_database if name == "owner.db" else directory.chain_database
    except StorageError as error:
        return fail(f"store {name}", str(error), "nothing was changed: put back a copy of the data directory")
    return ok(f"store {name}", "opens")


def _mode(data: Path) -> Finding:
    status = data.stat()
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISDIR(status.st_mode):
        return fail("data directory", f"{data} is no directory", "choose another with --data")
    if status.st_uid != os.getuid():
        return fail("data directory", f"{data} belongs to user {status.st_uid}", "run l2proxy as that user")
    if mode & 0o077:
        return fail(
            "data directory", f"{data} has mode {mode:04o}: others may look in", f"`chmod 700 {quote(str(data))}`"
        )
    return ok("data directory", f"{data}, mode {mode:04o}")


def _disk(data: Path) -> Finding:
    free, kind = shutil.disk_usage(data).free, _file_system(data)
    found = f"{free // 2**20} MiB free{f' on {kind}' if kind else ''}"
    if free < NOTHING:
        return fail("disk", found, "make room: a full disk stops everything that must be recorded")
    if kind in FLEETING:
        return warn("disk", found, "what is there is lost when the machine stops; choose a disk with --data")
    if kind in REMOTE:
        return warn("disk", found, "locks and syncs of a network file system cannot be trusted; choose a local disk")
    if free < LITTLE:
        return warn("disk", found, "make room: stores, plugins and logs grow")
    return ok("disk", found)


def _file_system(data: Path) -> str:
    """Return the type of the file system `data` lies on; empty where the system does not say."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text("utf-8").splitlines()]
    except OSError:
        return ""
    real = data.resolve()
    above = [(len(row[1]), row[2]) for row in mounts if len(row) > 2 and real.is_relative_to(row[1])]
    return max(above)[1] if above else ""


def _written(data: Path) -> Iterator[Finding]:
    """Write a small file, sync it and take it away."""
    probe = data / f".doctor.{os.getpid()}"
    started = time.perf_counter()
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, b"l2proxy doctor\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            probe.unlink()
    except OSError as error:
        yield fail("writing", f"a small file could not be written and synced: {error.strerror}", "mend the disk")
        return
    took = time.perf_counter() - started
    found = f"a small synced write takes {took * 1000:.0f} ms"
    if took > SLOW:
        yield warn("writing", found, "every decision waits for one: a faster disk makes every approval faster")
    else:
        yield ok("writing", found)


def _pin(data: Path) -> Finding:
    try:
        pinned = read_pin(DataDirectory(data).pin)
    except BadPin as error:
        return fail("chain", str(error), "put back chain.json from a backup")
    return ok("chain", "none yet: the first start decides" if pinned is None else f"pinned to {pinned}")


def _keystore(file: Path) -> Iterator[Finding]:
    if not file.exists():
        yield warn(
            "keystore",
            "there is none",
            f"`l2proxy init --data {quote(str(file.parent))}` makes one; reads work without",
        )
        return
    try:
        accounts = Keystore(file).accounts()
        strength = json.loads(file.read_bytes())["kdf"]["n"]
    except KeystoreError as error:
        yield fail("keystore", str(error), "put back a copy of it; without it the phrase is the only way")
        return
    except (OSError, ValueError, KeyError, TypeError):
        yield fail("keystore", f"{file} is damaged: how it is sealed cannot be read", "put back a copy of it")
        return
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        yield fail("keystore", f"{file} has mode {mode:04o}: others may copy it", f"`chmod 600 {quote(str(file))}`")
    elif not isinstance(strength, int) or strength < DEFAULT_N:
        found = f"sealed with scrypt N={strength}, less than {DEFAULT_N}: a copy of it is easier to open by guessing"
        yield warn("keystore", found, "export the accounts and import them into a keystore of this version")
    else:
        yield ok("keystore", f"{len(accounts)} accounts, sealed with scrypt N={strength}")
