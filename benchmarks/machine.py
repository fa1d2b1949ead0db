"""What this run stood on: the machine, the versions, and what is missing and how to get it."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import platform
import shutil
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.field import ANVIL, METAMASK, find_nginx

LIBRARIES = ("uvloop", "aiohttp", "msgspec")


def present() -> tuple[frozenset[str], list[str]]:
    """Return which peers can run here, and for each that cannot a sentence that says what to do."""
    have, missing = set(), []
    for name, there, how in (
        ("nginx", find_nginx(), "apt-get install nginx-light"),
        ("wrk", shutil.which("wrk"), "apt-get install wrk"),
        (
            "metamask",
            shutil.which("node") and (METAMASK / "node_modules").is_dir(),
            "Node.js 20, and `make bench`, which runs npm ci",
        ),
    ):
        if there:
            have.add(name)
        else:
            missing.append(f"{name} is not here and is left out ({how})")
    return frozenset(have), missing


async def facts() -> dict[str, str]:
    """Return machine and versions by name, in the order to print them."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "load before the run": f"{os.getloadavg()[0]:.2f}",
        "l2proxy": f"{importlib.metadata.version('l2proxy')}, commit {await _said('git', 'rev-parse', '--short', 'HEAD')}",
        "Python": f"{platform.python_version()}, "
        + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES),
        "anvil": await _said(ANVIL, "--version"),
        "nginx": (await _said(find_nginx() or "nginx", "-v")).removeprefix("nginx version: "),
        "Node.js": await _said("node", "--version"),
        "MetaMask": ", ".join(f"{name} {version}" for name, version in _metamask().items()),
        "wrk": (await _said("wrk", "-v")).split(" [")[0],
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _metamask() -> dict[str, str]:
    packages: dict[str, str] = json.loads((METAMASK / "package.json").read_text())["dependencies"]
    return packages


async def _said(*command: str | Path) -> str:
    """Return the first line a command says, whichever way, or "not here"."""
    if not shutil.which(command[0]):
        return "not here"
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=Path(__file__).parent
    )
    output, _ = await process.communicate()
    return output.decode().strip().partition("\n")[0] or "says nothing"
