"""What the owner decides about a plugin beside its source, compared with what its manifest asks for.

Used at install and at update. Raises `InstallRefused` in one sentence for a choice that does not fit; grants nothing by itself.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from middleware.errors import RpcError, shorten
from proxy.host.abi_values import check_address
from proxy.host.manifest import GRANTS, NAMED_GRANTS, Manifest, ManifestError, check_hub_url
from proxy.host.registry import Override


class InstallRefused(RpcError):
    """The plugin cannot be installed or removed so; the message says why and what to do. Code -32602."""

    def __init__(self, message: str) -> None:
        super().__init__(-32602, message)


@dataclass(frozen=True)
class Choices:
    """What the owner decided beside the source. `grants`: exact names, or "all" for what need not be named."""

    owner: str | None = None
    hub: str | None = None
    gateways: tuple[str, ...] = ()
    grants: tuple[str, ...] = ()


def overrides(given: tuple[str, ...], manifest: Manifest) -> tuple[Override, ...]:
    """Return the gateway addresses that `[NAME:]CHAIN=ADDRESS` texts name. Raises InstallRefused."""
    names = list(dict.fromkeys(entry.name for entry in manifest.gateway))
    found: dict[tuple[str, int], Override] = {}
    for text in given:
        place, _, address = text.partition("=")
        name, _, chain = place.rpartition(":")
        if not name and len(names) == 1:
            name = names[0]
        if not chain.isascii() or not chain.isdigit() or not 0 < int(chain[:20]) < 2**53:
            raise InstallRefused(f"--gateway {shorten(text)}: expected [NAME:]CHAIN=ADDRESS, CHAIN a decimal number")
        if name not in names:
            known = ", ".join(names) or "none"
            raise InstallRefused(f"--gateway {shorten(text)}: name one of the manifest's gateways ({known})")
        try:
            override = Override(name, int(chain), check_address(address, "--gateway"))
        except RpcError as error:
            raise InstallRefused(error.message) from None
        if (name, int(chain)) in found:
            raise InstallRefused(f"--gateway {shorten(text)}: {name} on chain {chain} is given twice")
        found[name, int(chain)] = override
    return tuple(found.values())


def chosen_grants(given: tuple[str, ...], manifest: Manifest) -> frozenset[str]:
    """Return the grants that were named; "all" leaves out what must be named. Raises InstallRefused."""
    requested = manifest.requested()
    grants: set[str] = set()
    for name in given:
        if name == "all":
            grants |= requested - NAMED_GRANTS
        elif name not in GRANTS:
            raise InstallRefused(f"--grant {shorten(name)}: there are all, {', '.join(GRANTS)}")
        elif name not in requested:
            raise InstallRefused(f"--grant {name}: {manifest.id} does not ask for it")
        else:
            grants.add(name)
    if "keys.export" in grants and "keys" not in grants:
        raise InstallRefused("--grant keys.export needs keys as well")
    return frozenset(grants)


def chosen_hub(given: str | None, manifest: Manifest) -> str | None:
    """Return the hub's address where it is another than the manifest's, or agreed to by name. Raises InstallRefused."""
    if manifest.hub is None:
        if given is not None:
            raise InstallRefused(f"{manifest.id} has no hub; leave --hub out")
        return None
    url = given or manifest.hub.url
    try:
        check_hub_url(url)
    except ManifestError as error:
        raise InstallRefused(str(error)) from None
    private = _is_private(urlsplit(url).hostname or "")
    if private and given is None:
        raise InstallRefused(f"the hub {url} has a private address; say --hub {url} to agree to it")
    if not private and urlsplit(url).scheme in ("ws", "http"):
        raise InstallRefused(f"the hub {url} is not encrypted; wss:// or https:// is needed outside private networks")
    return given


def _is_private(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal")) or "." not in host
