"""Opens the L1 chain of a data directory: embedded node, pin, what `--dev` may and may not do (hardening.md 7).

Runs before any database of the chain is open, because a vanished dev chain's state may have to go aside first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from middleware.errors import Disconnected
from proxy.app.options import RunOptions, StartRefused
from proxy.storage.directory import DataDirectory
from proxy.upstream.addresses import parse, shown
from proxy.upstream.embedded.launch import EmbeddedError, ensure
from proxy.upstream.identity import BadPin, ChainIdentity, read_pin
from proxy.upstream.known_chains import public_name
from proxy.upstream.l1 import L1

EMBEDDED = "dev"
EMBEDDED_ETHER = 10_000 * 10**18  # for each of the owner's first accounts


async def open_l1(
    options: RunOptions, directory: DataDirectory, accounts: Iterable[str], notice: Callable[[str], None]
) -> L1:
    """Return the started L1. Raise `StartRefused`, or `Disconnected` when no node answers and nothing is pinned."""
    urls = await _real_urls(options.urls, directory, accounts)
    try:
        pinned = read_pin(directory.pin)
    except BadPin as error:
        raise StartRefused(str(error)) from error
    if options.dev:
        await _as_developer(urls, pinned, directory, notice)
    limits = options.config.limits
    l1 = L1(
        urls,
        pin=directory.pin,
        call_seconds=limits.upstream_call,
        response_limit=limits.response,
        folder=directory.path,
        notice=notice,
    )
    try:
        await l1.start()
    except BaseException:
        await l1.close()
        raise
    return l1


async def _real_urls(urls: Sequence[str], directory: DataDirectory, accounts: Iterable[str]) -> list[str]:
    real = []
    for url in urls:
        if url == EMBEDDED:
            try:
                node = await ensure(directory.embedded_l1, dict.fromkeys(accounts, EMBEDDED_ETHER))
            except EmbeddedError as error:
                raise StartRefused(str(error)) from error
            real.append(str(node.socket))
        else:
            try:
                parse(url)
            except ValueError as error:
                raise StartRefused(str(error)) from error
            real.append(url)
    return real


async def _as_developer(
    urls: Sequence[str], pinned: ChainIdentity | None, directory: DataDirectory, notice: Callable[[str], None]
) -> None:
    if pinned is not None and not pinned.is_dev:
        raise StartRefused(
            f"{directory.path} belongs to chain {pinned.chain_id}, which is no dev chain; --dev is for dev nodes: "
            "use another --data, or run without --dev"
        )
    try:
        found = await L1.probe(urls)
    except Disconnected:
        if pinned is None:
            raise
        return
    if not found.is_dev:
        name = public_name(found.chain_id) or f"chain {found.chain_id}"
        raise StartRefused(
            f"--dev is for a dev node (embedded, anvil, Hardhat, Ganache or eth-tester on this machine), "
            f"and {', '.join(map(shown, urls))} serves {name} with {found.client_version or 'an unknown node'}"
        )
    if pinned is not None and not pinned.same_chain(found):
        aside = directory.set_aside(pinned.genesis)
        notice(f"l2proxy: another {found} answers; the state of the vanished chain was set aside in {aside}")
