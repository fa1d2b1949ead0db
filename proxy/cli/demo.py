"""`l2proxy demo`: the journey, step by step, with what happened and how long it took."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from middleware.errors import RpcError
from proxy.cli import JSON
from proxy.cli.session import FAILED, REFUSED, Failure, data_not_needed
from proxy.demo.funding import NotFunded
from proxy.demo.journey import PAYMENT, Journey
from proxy.demo.party import CommandFailed
from proxy.demo.processes import ProcessFailed
from proxy.demo.wei import WrongWei, ether
from proxy.upstream.addresses import shown
from proxy.upstream.known_chains import has_real_money
from proxy.upstream.l1 import L1

TEST_PHRASE = "test test test test test test test test test test test junk"


@click.command()
@click.option("--l1", metavar="URL", help="Do it on your node (http(s)://, ws(s):// or a socket path).")
@click.option("--mnemonic-file", type=click.Path(path_type=Path), help="With --l1: whose account 0 pays; - for stdin.")
@click.option("--serve", is_flag=True, help="Leave it all running and print lines to try.")
@data_not_needed
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a step, for programs.")
def demo(l1: str | None, mnemonic_file: Path | None, serve: bool, as_json: bool) -> None:
    """Run the whole journey and check every wei.

    An embedded L1, a payment-channel contract, its hub, two daemons with their real doors, the plugin installed the
    ordinary way: connect, deposit, 100 payments, pushed state, withdraw, close. In a temporary directory of its own.
    """
    if mnemonic_file and not l1:
        raise click.UsageError("--mnemonic-file goes with --l1; the embedded L1 uses the well-known test phrase")
    printer = _Printer(as_json or click.get_current_context().meta.get(JSON, False))
    with tempfile.TemporaryDirectory(prefix="l2proxy-demo-") as folder:
        phrase = Path(folder) / "phrase"
        phrase.touch(mode=0o600)
        phrase.write_text(_phrase(mnemonic_file))
        try:
            asyncio.run(_run(Journey(Path(folder), phrase, l1), serve, printer))
        except asyncio.CancelledError as error:
            raise Failure("the demo was stopped; its processes have ended", 128 + signal.SIGTERM) from error
        except NotFunded as error:
            raise Failure(str(error), REFUSED) from error
        except (CommandFailed, ProcessFailed, WrongWei, RpcError, RuntimeError, OSError) as error:
            raise Failure(f"the demo failed: {error}", FAILED) from error
        except ExceptionGroup as group:
            raise Failure(f"the demo failed: {'; '.join(map(str, group.exceptions))}", FAILED) from group


def _phrase(file: Path | None) -> str:
    if file is None:
        return TEST_PHRASE
    try:
        return sys.stdin.readline() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"the phrase cannot be read from {file}: {error}") from error


async def _run(journey: Journey, serve: bool, printer: _Printer) -> None:
    await _refuse_real_money(journey.l1)
    task = asyncio.current_task()
    if task is not None:  # a SIGTERM ends the processes of the journey too
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    started = time.monotonic()
    try:
        for number, (name, step) in enumerate(journey.steps, 1):
            begun = time.monotonic()
            printer.begin(number, len(journey.steps), name)
            printer.step(number, len(journey.steps), name, await step(), time.monotonic() - begun)
        printer.close(journey, time.monotonic() - started)
        if serve:
            await journey.reopen()
            printer.lines_to_try(journey)
            await _until_interrupted()
    finally:
        await journey.end()


async def _refuse_real_money(l1: str | None) -> None:
    if l1 is None:
        return
    identity = await L1.probe([l1])
    if has_real_money(identity.chain_id):
        raise Failure(
            f"{shown(l1)} serves chain {identity.chain_id}, where money is real; the demo is for test chains", REFUSED
        )


async def _until_interrupted() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


class _Printer:
    """Prints for a person, or one JSON object a line for a program."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._console = Console(highlight=False, soft_wrap=True)

    def begin(self, number: int, of: int, name: str) -> None:
        if not self._json and self._console.is_terminal:
            self._console.print(f"{number:2}/{of} {name:10} …", end="\r")

    def step(self, number: int, of: int, name: str, happened: str, seconds: float) -> None:
        if self._json:
            self._say({"step": name, "happened": happened, "seconds": round(seconds, 3)})
        else:
            self._console.print(f"{number:2}/{of} [bold]{name:10}[/] {seconds:6.2f} s  {escape(happened)}")

    def close(self, journey: Journey, seconds: float) -> None:
        if self._json:
            rows = [
                {"name": b.name, "address": b.address, "wei": str(b.has), "must": str(b.must)} for b in journey.balances
            ]
            self._say({"balances": rows, "payments": journey.payments, "seconds": round(seconds, 3)})
            return
        table = Table("", "must have, in wei", "has, in wei", "off by", box=None, pad_edge=False, header_style="bold")
        for line in journey.balances:
            table.add_row(line.name, f"{line.must:,}", f"{line.has:,}", f"{line.has - line.must} wei")
        self._console.print()
        self._console.print(table)
        paid = ether(journey.payments * PAYMENT)
        self._console.print(
            f"\nAlice paid Bob {paid} in {journey.payments} payments; every balance is right. {seconds:.1f} s in all."
        )

    def lines_to_try(self, journey: Journey) -> None:
        url, payee = journey.alice.token_url, journey.bob.address
        if self._json:
            self._say({"serving": True, "url": url, "payee": payee, "data": str(journey.alice.data)})
            return
        pay = f'["paychan","makePayment",{{"toAddress":"{payee}","value":"1000000000000000"}}]'
        self._console.print(f"""
Everything is left running; both channels are open again. Ctrl-C ends it. Try, in another terminal:

[bold]curl[/]
  curl -s -H 'content-type: application/json' {url} \\
    -d '{{"jsonrpc":"2.0","id":1,"method":"l2_invoke","params":{escape(pay)}}}'

[bold]web3.py[/]
  from web3 import Web3
  from l2proxy_sdk.client import L2
  w3 = Web3(Web3.HTTPProvider("{url}"))
  w3.attach_modules({{"l2": L2}})
  w3.l2.invoke("paychan", "makePayment", {{"toAddress": "{payee}", "value": 10**15}})

[bold]ethers[/]
  const provider = new ethers.JsonRpcProvider("{url}")
  await provider.send("l2_invoke", {escape(pay)})

[bold]the owner[/]
  l2proxy status --data {journey.alice.data}
""")

    def _say(self, value: dict[str, Any]) -> None:
        click.echo(json.dumps(value, ensure_ascii=False))
