"""What plugins cost, every bar of issue 4 in one run: an echo beside a MetaMask snap's, durable writes beside raw LevelDB, and the rest.

`python -m benchmarks.plugins [--seconds S] [--rounds R] [--out FOLDER]`: under three minutes; prints the bars and writes
RESULTS-plugins.md. Rounds of ours and of theirs alternate. The disk of `--folder` is what `persist` is measured on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import aiohttp
import click
import plyvel
import uvloop

from benchmarks import field
from benchmarks.load import run
from benchmarks.machine import facts
from benchmarks.plugin_daemon import NPM, PYTHON, Running, daemon, install, invoke, with_token
from benchmarks.plugin_page import Found, bar_table, page
from proxy.config import PluginSettings
from proxy.demo.processes import Process
from tests.upstream.fake_node import FakeNode

HERE = Path(__file__).parent
SNAPS = HERE / "snaps"
COLD_STARTS = 5
AT_ONCE = (1, 8, 64)
INSTALLING = 180.0  # seconds for a hundred plugins


def say(text: str) -> None:
    """Tell whoever waits what was measured just now."""
    click.echo(text, err=True)


async def snap(seconds: float, environment: Mapping[str, str]) -> float | None:
    """Return the p50 of an echo snap in MetaMask's simulation, µs; None where it is not installed."""
    if not shutil.which("node") or not (SNAPS / "node_modules").is_dir():
        return None
    program = str(SNAPS / "echo.mjs")
    child = await asyncio.create_subprocess_exec(
        "node",
        program,
        str(seconds),
        PluginSettings().npm,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await child.communicate()
    if child.returncode:
        raise click.ClickException("the snap's simulation failed; what it says stands above")
    return 1000 * float(json.loads(said)["p50"])


def asked(folder: Path, plugin: str) -> Path:
    """Write the one body of an echo."""
    return field.bodies(folder, plugin, [("l2_invoke", [plugin, "echo", ["hello"]])])


async def echoes(here: Running, url: str, folder: Path, seconds: float, rounds: int, found: Found) -> None:
    """Measure the echo with one client and with sixteen, in turn with the snap's."""
    pids = {name: (here.services.plugins.status(name)["pid"],) for name in (PYTHON, NPM)}
    bodies = {name: asked(folder, name) for name in (PYTHON, NPM)}
    for number in range(rounds):
        theirs = await snap(seconds, {})
        found.add("snap", theirs)
        found.add("snap bare", await snap(seconds, {"NODE_ENV": "production"}))
        for name in (PYTHON, NPM):
            alone = await run(url, bodies[name], connections=1, seconds=seconds)
            found.add(f"{name} p50", alone.p50)
        began = time.process_time()
        many = await run(url, bodies[PYTHON], connections=16, seconds=seconds, pids=pids[PYTHON])
        found.add("rate", many.rate)
        found.add("daemon cpu", 1e6 * (time.process_time() - began) / many.requests)
        found.add("plugin cpu", many.cpu)
        say(
            f"  {number + 1}/{rounds}: snap {theirs or 0:.0f} µs; echo {found.last(f'{PYTHON} p50'):.0f} µs, npm "
            f"{found.last(f'{NPM} p50'):.0f} µs; 16 clients {many.rate:,.0f}/s ({found.last('daemon cpu'):.0f} + {many.cpu:.0f} µs of CPU)"
        )


def raw_puts(folder: Path, seconds: float) -> float:
    """Return synced puts a second of LevelDB alone, one after another."""
    database = plyvel.DB(str(folder / "raw"), create_if_missing=True)
    count, until = 0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        database.put(b"k%d" % count, b"v" * 32, sync=True)
        count += 1
    database.close()
    return count / seconds


async def writes(ask: Callable[..., Awaitable[dict[str, str]]], folder: Path, seconds: float, found: Found) -> None:
    """Measure `persist`, as many at once as each of AT_ONCE, each between two measurements of raw puts."""
    seconds = max(1, round(seconds))
    before = raw_puts(folder, seconds / 2)
    for at_once in AT_ONCE:
        count = int((await ask(PYTHON, "persist", seconds, at_once))["count"], 16)
        after = raw_puts(folder, seconds / 2)
        raw = (before + after) / 2
        found.add(f"persist {at_once}", count / seconds / raw)
        say(f"  persist, {at_once} at once: {count / seconds:,.0f}/s; raw puts {raw:,.0f}/s")
        before = after


async def starts(
    here: Running, ask: Callable[..., Awaitable[dict[str, str]]], found: Found, times: int = COLD_STARTS
) -> None:
    """Measure cold start to the first answer, and the memory of an idle plugin."""
    for name in (PYTHON, NPM):
        for _ in range(times):
            await here.services.plugins.rehost(name)
            began = time.perf_counter()
            await ask(name, "echo", "cold")
            found.add(f"{name} cold", 1000 * (time.perf_counter() - began))
        found.add(f"{name} memory", here.services.plugins.status(name)["residentBytes"] / 1e6)
        say(
            f"  {name}: first answer after {found.median(f'{name} cold'):.0f} ms, {found.last(f'{name} memory'):.1f} MB"
        )


async def gateway(folder: Path, seconds: float, rounds: int, installed: int, found: Found) -> None:
    """Measure plain calls through a daemon with many plugins, half of them running, in turn with one without any."""
    async with field.mock(folder) as node:
        bodies = field.bodies(folder, "balances", field.balances(1000))
        homes = [folder / "none", folder / "many"]
        for home in homes:
            home.mkdir()
        module = [sys.executable, "-m", "benchmarks.plugin_daemon"]
        none = [*module, str(homes[0]), node.ipc, "0", "0"]
        many = [*module, str(homes[1]), node.ipc, str(installed), str(installed // 2)]
        async with _process("none", none, folder) as without, _process("many", many, folder) as crowded:
            for number in range(2 * rounds):
                order = ((without, "without"), (crowded, "with many"))
                for process, name in order if number % 2 else reversed(order):
                    load = await run(process.ready["url"], bodies, connections=32, seconds=seconds, pids=(process.pid,))
                    found.add(name, load.rate)
                    found.add(f"{name} cpu", load.cpu)
        say(f"  gateway: without plugins {found.median('without'):,.0f}/s, with {found.median('with many'):,.0f}/s")


@contextlib.asynccontextmanager
async def _process(name: str, command: list[str], folder: Path) -> AsyncIterator[Process]:
    process = await Process.start(name, command, folder / f"{name}.log", timeout=INSTALLING)
    try:
        yield process
    finally:
        await process.stop()


async def measure(folder: Path, seconds: float, rounds: int, installed: int) -> Found:
    """Measure everything."""
    found = Found(installed)
    own = folder / "own"
    own.mkdir()
    async with FakeNode().http() as l1, daemon(own, l1) as here, aiohttp.ClientSession() as session:
        await install(here, own, PYTHON, 0)
        await install(here, own, NPM, 1, "npm")
        url = await with_token(here, (PYTHON, NPM))

        async def ask(plugin: str, action: str, *params: object) -> dict[str, str]:
            return await invoke(session, url, plugin, action, *params)

        for name in (PYTHON, NPM):
            await ask(name, "echo", "warm")
        await echoes(here, url, own, seconds, rounds, found)
        await writes(ask, own, seconds, found)
        await starts(here, ask, found)
    await gateway(folder, seconds, rounds, installed, found)
    return found


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seconds", type=float, default=2.0, help="How long one round of one target lasts.")
@click.option("--rounds", type=click.IntRange(1, 100), default=3, help="How many interleaved rounds.")
@click.option("--installed", type=click.IntRange(2, 1000), default=100, help="How many plugins the crowded daemon has.")
@click.option("--folder", default="/tmp", help="Where the temporary folder is made: the disk that is measured.")  # noqa: S108
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=HERE, help="Where RESULTS-plugins.md goes."
)
def main(seconds: float, rounds: int, installed: int, folder: str, out: Path) -> None:
    """Measure every bar of the plugin host side by side, print them, write RESULTS-plugins.md."""
    stood = uvloop.run(facts())
    with tempfile.TemporaryDirectory(dir=folder, prefix="l2b-") as home:
        found = uvloop.run(measure(Path(home), seconds, rounds, installed))
    click.echo(bar_table(found))
    command = shlex.join(["python", "-m", "benchmarks.plugins", *sys.argv[1:]])
    said = f"{rounds} interleaved rounds of {seconds:g} s, medians"
    (out / "RESULTS-plugins.md").write_text(page(found, stood, command, said))
    say(f"written: {out / 'RESULTS-plugins.md'}")


if __name__ == "__main__":
    main()
