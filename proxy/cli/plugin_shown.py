"""What the owner reads of a package before agreeing to it, and how a source is written on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from proxy.cli.session import printable

PURPOSE = {
    "store": "keep data of its own on this machine",
    "keys": "make and use keys below its own path",
    "keys.export": "get the PRIVATE KEYS below its path; it can then sign anything with them",
    "hub": "talk to its hub, and to nothing else",
    "gateway": "ask you for deposits into and withdrawals from its gateway",
    "layer1": "read the L1 chain with the methods it lists",
    "transfer": "ask you for transfers from your main account to any address",
    "eth_sendRawTransaction": "send transactions signed with its own keys to L1",
}


def terminal() -> bool:
    """Tell whether somebody can be asked."""
    return sys.stdin.isatty()


def absolute(source: str, sha256: str | None = None) -> str:
    """Return a source as the daemon takes it: paths absolute, the digest behind it."""
    body, mark, digest = source.partition("#sha256=")
    if sha256 is not None:
        mark, digest = "#sha256=", sha256.removeprefix("sha256:")
    if not body.startswith(("pypi:", "npm:")):
        body = str(Path(body).expanduser().absolute())
    return body + mark + digest.lower()


def shown(found: dict[str, Any], owner: str | None, hub: str | None, gateways: tuple[str, ...]) -> str:
    """Return what an inspected package is and asks for, as lines."""
    lines = [
        f"{found['id']} {found['version']}: {found['name']}. {found['description']}",
        f"  source   {found['source']}",
        f"  digest   {found['digest']}",
    ]
    if (bundle := found.get("bundle")) is not None:
        lines.append(f"  bundled  by {bundle['bundler']} from {', '.join(bundle['packages']) or 'its own modules'}")
    if owner is not None:
        lines.append(f"  owner    {owner}")
    if found["keys"] is not None:
        lines.append(f"  keys     below {found['keys']['path']}")
    if found["hub"] is not None:
        lines.append(f"  hub      {hub or found['hub']}")
    for row in found["gateways"]:
        lines.append(f"  gateway  {row['name']} on chain {row['chain']}: {row['address']}")
        for kind in ("deposit", "withdraw", "dispute"):
            lines += [f"           {kind} {function}" for function in row[kind]]
    lines += [f"  gateway  {text} (yours)" for text in gateways]
    for row in found["actions"]:
        spends = f", spends {row['spends']['asset']} up to {row['spends']['param']}" if row["spends"] else ""
        unasked = "; connected sites may call this unasked" if row["approval"] == "never" else ""
        lines.append(f"  action   {row['name']} ({row['approval']}{spends}{unasked})")
    lines.append(f"  asks for {', '.join(found['requests']) or 'nothing'}")
    if found["permissions"]["layer1"]:
        lines.append(f"           layer1: {', '.join(found['permissions']['layer1'])}")
    lines.append("  Budgets bind the sites that call it, not the plugin: it can lose what you deposit into it;")
    lines.append(f"  `l2proxy plugin set-cap {found['id']} ETH WEI` bounds what that may come to.")
    return "\n".join(printable(line) for line in lines)
