"""Load from another process: wrk where it is installed, our own generator (loader.py) where it is not."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.children import cpu_seconds

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Round:
    """What one round of load against one target came to. Latencies in microseconds."""

    requests: int
    seconds: float
    p50: int
    p99: int
    errors: int
    cpu: float  # µs of CPU the target used for a call

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


class LoadFailed(Exception):
    """The generator ended badly, or answers were missing."""


def generator() -> str:
    """Name the generator that will be used."""
    return "wrk" if shutil.which("wrk") else "benchmarks/loader.py (wrk is not installed: figures are lower)"


async def run(url: str, bodies: Path, *, connections: int, seconds: float, pids: Sequence[int] = ()) -> Round:
    """Send the lines of `bodies` in turn over `connections` for `seconds`. Raise `LoadFailed` when any call failed."""
    if shutil.which("wrk"):
        options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "20s"]
        command: list[str | Path] = ["wrk", *options, "-s", HERE / "calls.lua", url, "--", bodies]
    else:
        command = [sys.executable, "-m", "benchmarks.loader", url, bodies, str(connections), str(seconds)]
    before = cpu_seconds(pids)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    used = cpu_seconds(pids) - before
    found = [line for line in output.decode().splitlines() if line.startswith("figures ")]
    if process.returncode != 0 or not found:
        raise LoadFailed(f"the load on {url} failed: {output.decode().strip()[-400:]}")
    figures = json.loads(found[-1].removeprefix("figures "))
    if not figures["requests"] or figures["errors"]:
        raise LoadFailed(f"{figures['errors']} of {figures['requests']} calls to {url} failed")
    return Round(
        figures["requests"],
        figures["microseconds"] / 1e6,
        figures["p50"],
        figures["p99"],
        figures["errors"],
        used / figures["requests"] * 1e6,
    )
