"""`python -m benchmarks`: run the suites, print the bars, write RESULTS.md and results.svg."""

from __future__ import annotations

import shlex
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import uvloop

from benchmarks import suites
from benchmarks.bars import Results
from benchmarks.field import ANVIL
from benchmarks.load import LoadFailed, generator
from benchmarks.machine import facts, present
from benchmarks.plot import plot
from benchmarks.report import bar_table, results_page
from proxy.demo.processes import ProcessFailed

HERE = Path(__file__).parent
SUITES = {
    "throughput": suites.throughput,
    "headroom": suites.headroom,
    "cache": suites.cache,
    "latency": suites.latency,
    "large": suites.large,
    "heads": suites.new_heads,
    "memory": suites.memory,
}


def say(line: str) -> None:
    """Tell whoever waits what was measured just now."""
    click.echo(line, err=True)


async def measure(plan: suites.Plan, chosen: list[str], folder: Path) -> Results:
    """Run the chosen suites one after the other, each in a folder of its own below `folder`."""
    have, _ = present()
    found: dict[str, Any] = {}
    for suite in chosen:
        say(f"{suite}:")
        home = folder / suite
        home.mkdir()
        found[suite] = await SUITES[suite](home, plan, say, have)
    return Results(**found)


def write(out: Path, results: Results, stood: dict[str, str], plan: suites.Plan, command: str) -> None:
    """Write the page and the picture into `out`."""
    _, missing = present()
    out.mkdir(parents=True, exist_ok=True)
    said = f"{plan.words}; load by {generator()}"
    (out / "RESULTS.md").write_text(results_page(results, stood, said, command, missing))
    if results.throughput is not None:
        under = f"medians, {stood['processor']}, {stood['date']}"
        (out / "results.svg").write_text(plot(results.throughput, results.cache, under))
    say(f"written: {out / 'RESULTS.md'}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--full", is_flag=True, help="Longer rounds, and a million calls for the memory figure.")
@click.option(
    "--quick", is_flag=True, help="One short round of everything, about a minute; nothing is written without --out."
)
@click.option("--smoke", is_flag=True, help="The smallest there is, for a test; nothing is written without --out.")
@click.option(
    "--only",
    default="",
    help=f"Some of the suites, with commas: {', '.join(SUITES)}. Nothing is written without --out.",
)
@click.option("--rounds", type=click.IntRange(1, 100), help="How many interleaved rounds.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Where RESULTS.md and results.svg go (benchmarks/)."
)
def main(full: bool, quick: bool, smoke: bool, only: str, rounds: int | None, out: Path | None) -> None:
    """Run l2proxy and its peers side by side against the same node, and print the bars of issue 3."""
    chosen = [name.strip() for name in only.split(",") if name.strip()] or list(SUITES)
    if unknown := set(chosen) - set(SUITES):
        raise click.UsageError(f"there is no suite {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    if not ANVIL.exists():
        raise click.ClickException(f"the node is missing ({ANVIL}); `make bench` installs it")
    plan = suites.FULL if full else suites.QUICK if quick else suites.SMOKE if smoke else suites.USUAL
    if rounds is not None:
        plan = replace(plan, rounds=rounds)
    if out is None and not (quick or smoke or only):
        out = HERE
    for sentence in present()[1]:
        say(sentence)
    stood = uvloop.run(facts())
    try:
        with tempfile.TemporaryDirectory(prefix="l2b-", dir="/tmp") as folder:
            results = uvloop.run(measure(plan, chosen, Path(folder)))
    except (ProcessFailed, LoadFailed, TimeoutError) as error:
        raise click.ClickException(str(error) or "a process did not answer in time") from error
    click.echo(bar_table(results))
    if out is not None:
        write(out, results, stood, plan, shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
