"""`python -m plugins.paychan.hub`: puts the hub together, says when it answers, ends on SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import re
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

from .book import Book
from .contract import Contract, deploy
from .digests import Domain, Key
from .layer1 import Node, NodeError, connect
from .ledger import Ledger
from .server import Server
from .watch import Watch

DEV_NODES = ("anvil", "hardhat", "ganache", "eth-tester", "ethertester")


class Misused(Exception):
    """Something the operator can put right; the message says what."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="paychan-hub", description="The hub of the payment channel plugin.")
    parser.add_argument("--l1", required=True, metavar="URL|SOCKET", help="the L1 node: http(s) URL or socket path")
    parser.add_argument("--key-file", required=True, type=Path, help="file with the hub's private key as hex")
    parser.add_argument("--gateway", metavar="ADDRESS", help="the PayChan contract this hub serves")
    parser.add_argument("--data", type=Path, metavar="DIR", help="where the hub keeps its book")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8700, help="port to listen on; 0 means any (default 8700)")
    parser.add_argument("--since", type=int, default=0, help="first block worth reading (the deployment's)")
    parser.add_argument("--confirmations", type=int, help="blocks until a deposit counts (default 12, on a dev node 1)")
    parser.add_argument("--collateral", type=int, default=10**17, metavar="WEI", help="least amount of a funding")
    parser.add_argument(
        "--deploy", action="store_true", help="deploy a PayChan with this key as its hub, print it, end"
    )
    parser.add_argument(
        "--window", type=int, default=86_400, help="--deploy: seconds to answer a close (default a day)"
    )
    parser.add_argument("--json", action="store_true", help="print the ready line as JSON")
    return parser.parse_args()


def read_key(file: Path) -> Key:
    """Read a private key. Raises Misused, never with the key in it."""
    try:
        text = file.read_text().strip().removeprefix("0x")
    except OSError as error:
        raise Misused(f"the key file {file} cannot be read: {error.strerror}") from None
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise Misused(f"the key file {file} does not hold 32 bytes of hex")
    try:
        return Key(bytes.fromhex(text))
    except ValueError:
        raise Misused(f"the key in {file} is not a secp256k1 key") from None


async def serve(options: argparse.Namespace, node: Node, key: Key) -> None:
    """Run the hub until a signal."""
    if options.gateway is None or options.data is None:
        raise Misused("--gateway and --data are needed (or --deploy to make a contract first)")
    if not re.fullmatch("0x[0-9a-fA-F]{40}", options.gateway):
        raise Misused(f"--gateway {options.gateway!r} is not an address")
    chain_id = int(await node.request("eth_chainId"), 16)
    contract = Contract(node, options.gateway, chain_id, key)
    expected = str(await contract.call("hub()", returns="address")).lower()
    if expected != key.address:
        raise Misused(f"the contract belongs to the hub {expected}, the key file to {key.address}")
    window = int(await contract.call("challengeWindow()", returns="uint64"))
    ledger = open_ledger(options.data)
    bind_ledger(ledger, chain_id, contract.address)
    domain = Domain(chain_id, contract.address)
    book = Book(ledger, domain, key)
    book.chain_time = int(ledger.fact("chain_time") or 0)
    dev, confirmations = await depth(node, options.confirmations)
    server: Server | None = None

    def changed(channel: str) -> None:
        if server is not None:
            server.channel_changed(channel)

    watch = Watch(
        node, contract, ledger, book, key.address, confirmations=confirmations, since=options.since, changed=changed
    )
    facts: dict[str, Any] = {"chainId": hex(chain_id), "gateway": contract.address, "hub": key.address}
    facts |= {"challengeWindow": window, "collateral": options.collateral}
    server = Server(book, ledger, watch, domain, facts)
    await watch.scan()
    await _listen(options, server, watch, facts, 0.2 if dev else 3.0)
    ledger.close()


async def _listen(
    options: argparse.Namespace, server: Server, watch: Watch, facts: dict[str, Any], interval: float
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    app = web.Application()
    app.router.add_get("/ws", server.accept)
    runner = web.AppRunner(app, shutdown_timeout=2)
    await runner.setup()
    site = web.TCPSite(runner, options.host, options.port)
    try:
        await site.start()
    except OSError as error:
        raise Misused(f"cannot listen on {options.host}:{options.port}: {error.strerror}") from None
    port = runner.addresses[0][1]
    url = f"ws://{options.host}:{port}/ws"
    watching = asyncio.create_task(watch.run(interval))
    announce({"ready": True, "url": url} | facts | {"collateral": str(facts["collateral"])}, options.json)
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({stopped, watching}, return_when=asyncio.FIRST_COMPLETED)
    for task in (stopped, watching):
        task.cancel()
    await server.close()
    await watch.close()
    await runner.cleanup()
    with contextlib.suppress(asyncio.CancelledError):
        await watching  # raises what broke it


def open_ledger(data: Path) -> Ledger:
    """Open the book in a data directory. Raises Misused."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Ledger(data / "hub.sqlite3")
    except (OSError, sqlite3.Error) as error:
        raise Misused(f"the data directory {data} cannot be used ({error}); does another hub run on it?") from None


def bind_ledger(ledger: Ledger, chain_id: int, contract: str) -> None:
    """Refuse a book that was written for another chain or contract."""
    mine = f"{chain_id} {contract}"
    known = ledger.fact("contract")
    if known is None:
        with ledger.transaction():
            ledger.remember("contract", mine)
    elif known != mine:
        raise Misused(f"this data directory belongs to chain and contract {known}, not to {mine}; use another --data")


async def depth(node: Node, wanted: int | None) -> tuple[bool, int]:
    """Return whether the node is a dev node, and how many confirmations count."""
    version = str(await node.request("web3_clientVersion")).lower()
    dev = any(name in version for name in DEV_NODES)
    if wanted is not None and wanted < 1:
        raise Misused("--confirmations is at least 1")
    return dev, wanted or (1 if dev else 12)


def announce(facts: dict[str, Any], as_json: bool) -> None:
    """Print the ready line."""
    text = json.dumps(facts) if as_json else ", ".join(f"{name} {value}" for name, value in facts.items())
    print(text, flush=True)  # noqa: T201 - the ready line is this program's output


async def run(options: argparse.Namespace) -> None:
    """Deploy or serve."""
    key = read_key(options.key_file)
    node = connect(options.l1)
    try:
        if options.deploy:
            address = await deploy(node, key, options.window)
            announce({"gateway": address, "hub": key.address, "challengeWindow": options.window}, options.json)
        else:
            await serve(options, node, key)
    finally:
        await node.close()


def main() -> int:
    """Run the hub; return the exit status."""
    options = arguments()
    # Some Ethereum libraries raise it to 100,000 when imported; deeply nested JSON would then end the process.
    sys.setrecursionlimit(1000)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(run(options))
    except (Misused, NodeError) as error:
        print(f"paychan-hub: {error}", file=sys.stderr)  # noqa: T201 - for the operator
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
