"""The running daemon: every part made once, handed to those who need it, and ended in the reverse order.

Doors open last and close first: nobody is answered before everything behind the door works, and what is in flight is
finished before anything behind it goes.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from middleware.chain import Chain, Link
from middleware.forward import Forward
from middleware.methods import MethodTable, in_vain
from middleware.metrics import RequestFigures
from middleware.waist import OWNER
from middleware.web3_adapter import configured_links
from proxy.app import logs
from proxy.app.allocator import keep_freed_memory
from proxy.app.compiled import outdated
from proxy.app.exposition import Exposition
from proxy.app.ground import open_ground
from proxy.app.health import Health, Nodes, Stores, Watched, check_doors
from proxy.app.layer1 import open_l1
from proxy.app.one_phrase import take_phrase, take_phrase_when_unlocked
from proxy.app.options import RunOptions, StartRefused
from proxy.app.services import Services
from proxy.app.standing import Standing
from proxy.config import LimitSettings
from proxy.host.gateways import Gateways
from proxy.methods.dispatcher import Dispatcher
from proxy.server.connections import Connections
from proxy.server.door import Door
from proxy.server.http import DappListener
from proxy.server.socket import SocketListener, socket_path
from proxy.storage.directory import DataDirectory
from proxy.storage.phrase_lock import PhraseLock
from proxy.wallet import key_libraries
from proxy.wallet.keystore import Keystore, KeystoreError, Secrets
from proxy.wallet.sealing import WrongPassword

Notice = Callable[[str], None]
DESCRIPTORS = 65_536
SPARE = 2.0  # seconds beyond the longest call, for its answer to be sent
SAID_AFTER = 1.0  # seconds of an end that its owner need not be told of
DAPP_SOCKET, ADMIN_SOCKET = "l2proxy.ipc", "admin.ipc"


@dataclass(frozen=True)
class Doors:
    """Where the daemon answers."""

    dapp: DappListener
    ipc: SocketListener
    admin: SocketListener


def serve(options: RunOptions, notice: Notice) -> None:
    """Run a daemon until SIGTERM or SIGINT. Raises `StartRefused`, or what keeps it from starting."""
    logs.set_up(options.config.log)
    _raise_descriptor_limit()
    keep_freed_memory()
    uvloop.run(_serve(options, logs.notices(options.config.log, notice)))


def _raise_descriptor_limit() -> None:
    """Take as many descriptors as we may need: each connection has one, and 1,024 is the usual soft limit."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(now, wanted), most))


async def _serve(options: RunOptions, notice: Notice) -> None:
    ending = Ending(asyncio.current_task())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.signalled, number)
    try:
        async with open_daemon(options, notice) as (services, doors):
            ending.starting = None
            ready = _ready_line(doors.dapp, options.data, services.l1.chain_id)
            gc.freeze()  # what stands for the whole life is not looked through again
            if options.json:
                sys.stdout.write(json.dumps(ready) + "\n")
                sys.stdout.flush()
            else:
                _greet(services, ready, notice)
            await ending.asked.wait()
    except asyncio.CancelledError:
        if not ending.asked.is_set():
            raise


class Ending:
    """Whether the daemon was told to end. `starting`: the task that starts it, until every door is open."""

    def __init__(self, starting: asyncio.Task[None] | None) -> None:
        self.starting = starting
        self.asked = asyncio.Event()

    def signalled(self, number: int) -> None:
        """Begin to end; at the second signal end at once: what was acknowledged is on disk already.

        A start is given up: it may wait long for a node, and nothing is in flight yet.
        """
        if self.asked.is_set():
            os._exit(128 + number)
        self.asked.set()
        if self.starting is not None:
            self.starting.cancel()


def _greet(services: Services, ready: dict[str, Any], notice: Notice) -> None:
    l1 = services.l1
    if old := outdated():
        notice(f"l2proxy: {', '.join(old)}: compiled from an older source, which is what runs; `make` compiles anew")
    notice(f"l2proxy: chain {l1.chain_id} ({l1.client_version or 'not reached yet'})")
    notice(f"l2proxy: dapps at {ready['dapp']} and {ready['ws']}, programs at {ready['ipc']}")
    if services.keyring.locked and services.keyring.addresses():
        notice("l2proxy: the accounts are locked; `l2proxy unlock` opens them")


@asynccontextmanager
async def open_daemon(options: RunOptions, notice: Notice) -> AsyncIterator[tuple[Services, Doors]]:
    """Start everything, yield the services with their doors open, end everything."""
    configured = configured_links(options.config.middleware)  # what cannot be loaded is said before anything starts
    async with AsyncExitStack() as stack:
        directory = DataDirectory(options.data)
        directory.lock()
        stack.callback(directory.release)
        keystore = Keystore(directory.keystore)
        phrase = PhraseLock(options.data)
        stack.callback(phrase.release)
        if not options.dev:
            take_phrase(phrase, keystore, notice)
        secrets = await _opened(keystore, options, notice)
        l1 = await open_l1(options, directory, (account.address for account in keystore.accounts()), notice)
        stack.push_async_callback(l1.close)
        gateways = Gateways(l1, directory.chain_database.space("gateways"))
        ground = open_ground(directory, options.config, notice, gateways.check)
        if not options.dev:
            take_phrase_when_unlocked(phrase, ground.keyring, notice)
        if secrets is not None:
            ground.keyring.admit(secrets)
        table = MethodTable(options.config.methods.allow, dev=options.dev)
        for row in in_vain(options.config.methods.allow):
            notice(f"l2proxy: [methods] allow has {row}, which lets nothing pass: it is never sent to the L1 node")
        services = Services(ground, l1, gateways, table, notice, options.allow_unsandboxed)
        chain = _chain(services, options, configured)
        services.bind(chain)
        stack.push_async_callback(services.close)
        await services.start()
        stores = Stores((directory.owner_database, directory.chain_database))
        stack.push_async_callback(stores.close)
        nodes = Nodes(l1)
        stack.push_async_callback(nodes.close)
        doors = _doors(services, chain, options, nodes, stores)
        await _open(doors, options, stack)
        services.own_ports = frozenset({doors.dapp.port})
        stack.push_async_callback(_finish, services, doors, _grace(options.config.limits), notice)
        yield services, doors


def _grace(limits: LimitSettings) -> float:
    """Return the seconds for what is in flight when the daemon ends: as long as any call may take by its own limit."""
    return max(limits.upstream_call, limits.plugin_call) + SPARE


async def _finish(services: Services, doors: Doors, grace: float, notice: Notice) -> None:
    """Take nothing new at any door, and finish what is in flight at all of them within one time.

    What waits for the owner is told that the daemon stops: nobody will answer it any more.
    """
    said = f"l2proxy: finishing what is in flight, {grace:g} s at most; a second signal ends at once"
    telling = asyncio.get_running_loop().call_later(SAID_AFTER, notice, said)
    await services.authority.approvals.close()
    await asyncio.gather(*(door.close(grace) for door in (doors.dapp, doors.ipc, doors.admin)))
    telling.cancel()


async def _opened(keystore: Keystore, options: RunOptions, notice: Notice) -> Secrets | None:
    """Return what the password opens, before anything is started in vain; None without keystore or password."""
    await asyncio.to_thread(key_libraries.load)
    if not keystore.exists:
        notice(f"l2proxy: there are no accounts yet; `l2proxy init --data {shlex.quote(str(options.data))}` makes them")
        return None
    if options.password is None:
        return None
    try:
        return await asyncio.to_thread(keystore.open, options.password)
    except (WrongPassword, KeystoreError) as error:
        raise StartRefused(str(error)) from error


def _chain(services: Services, options: RunOptions, configured: Sequence[Link]) -> Chain:
    own = Dispatcher(services.dapp_handlers(), services.read_already())
    terminal = Forward(services.table, services.l1, own, own)
    unknown_sites = "read" if options.dev and options.config.unknown_sites == "ask" else options.config.unknown_sites
    links = services.links(unknown_sites)
    return Chain(links, terminal, configured, services.table)


def _doors(services: Services, chain: Chain, options: RunOptions, nodes: Nodes, stores: Stores) -> Doors:
    limits, path = options.config.limits, services.ground.directory.path
    connections = Connections(limits.connections, limits.connections_per_caller, limits.connections_per_site)
    slow = options.config.log.slow_call
    figures = RequestFigures(services.table.names(), slow=slow, on_slow=logs.slow_calls(options.config.log))
    sockets = (socket_path(path, DAPP_SOCKET), socket_path(path, ADMIN_SOCKET))
    unguarded, stale_after = services.operations.unguarded, options.config.l1.stale_after
    health = Health(nodes, stores, lambda: check_doors(dapp.port, sockets), unguarded, stale_after)
    disk = services.l1.keeping
    door = Door(chain, batch=limits.batch, response=limits.response, figures=figures, disk=disk)
    dapp = DappListener(
        door,
        tokens=services.authority.tokens,
        connections=connections,
        hosts=options.config.listen.hosts,
        most_bytes=limits.body,
        may_ask=services.may_ask,
        operations=Watched(health, Exposition(services, figures, connections)),
    )
    ipc = SocketListener(door, sockets[0], connections=connections, most_bytes=limits.body)
    standing = Standing(services, health, figures, connections.__len__)
    owner = Dispatcher(services.admin_handlers(lambda: _ready_line(dapp, path, services.l1.chain_id), standing))
    admin = SocketListener(Door(owner), sockets[1], origin=OWNER)
    return Doors(dapp, ipc, admin)


def _ready_line(dapp: DappListener, data: Path, chain_id: int) -> dict[str, Any]:
    """Return the ready line of rpc.md, "Command line"."""
    return {
        "ready": True,
        "dapp": f"http://127.0.0.1:{dapp.port}",
        "ws": f"ws://127.0.0.1:{dapp.port}",
        "ipc": str(socket_path(data, DAPP_SOCKET)),
        "admin": str(socket_path(data, ADMIN_SOCKET)),
        "console": None,
        "chainId": hex(chain_id),
    }


async def _open(doors: Doors, options: RunOptions, stack: AsyncExitStack) -> None:
    for listener in (doors.admin, doors.ipc):
        stack.push_async_callback(listener.close)
        await listener.start()
    stack.push_async_callback(doors.dapp.close)
    await doors.dapp.start(options.port)
