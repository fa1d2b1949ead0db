"""Which addresses a hub may have, decided for each connection when its socket is made (hardening.md 30).

A name the owner approved may lead elsewhere tomorrow: what counts is the very address that is about to be connected. Never link-local
ones (clouds answer there), multicast or none at all, never the proxy's own listeners; private ones only where the owner wrote the
hub's address (`--hub`). No name is looked up here, and none is remembered.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable, Collection
from typing import Any

import aiohttp

AddressInfo = tuple[int, int, int, str, Any]
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Refused(OSError):
    """The address is none a hub may have."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EACCES, why)


class HubSessions:
    """The sessions hubs are reached by. `own_ports`: where the proxy itself listens on this machine."""

    def __init__(self, own_ports: Callable[[], Collection[int]]) -> None:
        self._own_ports = own_ports
        self._public, self._private = self._session(private=False), self._session(private=True)

    def of(self, *, private: bool) -> aiohttp.ClientSession:
        """Return the session of a hub; `private`: the owner wrote its address."""
        return self._private if private else self._public

    async def close(self) -> None:
        """Close both."""
        await self._public.close()
        await self._private.close()

    def _session(self, *, private: bool) -> aiohttp.ClientSession:
        def made(info: Any) -> socket.socket:
            check(info[4], self._own_ports(), private=private)
            return socket.socket(family=info[0], type=info[1], proto=info[2])

        connector = aiohttp.TCPConnector(use_dns_cache=False, socket_factory=made)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)


def check(target: Any, own_ports: Collection[int], *, private: bool) -> None:
    """Raise `Refused` unless a hub may have the socket address `target`."""
    address = _plain(ipaddress.ip_address(str(target[0]).partition("%")[0]))
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        raise Refused(f"{address} is an address no hub may have")
    if not address.is_global and not private:
        raise Refused(f"{address} is a private address; the owner did not agree to one with --hub")
    if target[1] in own_ports and (address.is_loopback or not address.is_global):
        raise Refused("the proxy itself listens there")


def _plain(address: IpAddress) -> IpAddress:
    """Return the IPv4 address that hides in an IPv6 one (mapped, 6to4, NAT64), or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    hidden = address.ipv4_mapped or address.sixtofour
    if hidden is None and address in ipaddress.ip_network("64:ff9b::/96"):
        hidden = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address if hidden is None else hidden
