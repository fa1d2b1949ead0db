"""`l2_addPlugin`: a site asks the owner to install a plugin, as `wallet_addEthereumChain` does for chains (hardening.md 11).

Two questions: before the first nothing is read, fetched or looked up, so that it is the same one whether or not the plugin is
there; the second shows what came. Whatever goes wrong after it was asked is 4001 in one wording. It never updates or downgrades,
and grants nothing that has to be named.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from typing import Any, Protocol

from middleware.errors import InvalidParams, Refused, RpcError
from middleware.questions import Decision, Facts, Question, digest_of
from middleware.waist import Context, Handler
from proxy.host.choices import Choices, InstallRefused
from proxy.host.inspection import Inspected
from proxy.host.installer import Installer
from proxy.host.manifest import NAMED_GRANTS, ManifestError
from proxy.host.plugins import Plugins
from proxy.host.registry import Registry
from proxy.host.sources import Source, parse_source

log = logging.getLogger("l2proxy.methods")

SHOWN = 64  # characters of a stranger's name or description
NOT_ADDED = "the plugin was not added"


class Approvals(Protocol):
    """Who decides."""

    async def ask(self, question: Question) -> Decision:
        """Return a yes; raise 4001 and what else keeps it from one."""


def handlers(plugins: Plugins, approvals: Approvals) -> dict[str, Handler]:
    """Return the method by name."""
    installer, registry = plugins.catalog.installer, plugins.catalog.registry

    async def add_plugin(params: Any, context: Context) -> str:
        source = _read(params)
        await approvals.ask(_may_look(source, context))
        try:
            return await _add(source, context, installer, registry, plugins, approvals)
        except Refused:
            raise
        except (RpcError, OSError, ValueError) as error:
            log.warning("%s asked for %s, which was not added: %s", context.origin, source.text, error)
            raise Refused(NOT_ADDED) from None

    return {"l2_addPlugin": add_plugin}


async def _add(
    source: Source, context: Context, installer: Installer, registry: Registry, plugins: Plugins, approvals: Approvals
) -> str:
    inspected = await installer.inspect(source.text)
    present = registry.get(inspected.manifest.id)
    if present is not None and present.digest != inspected.digest:
        raise InstallRefused("it is installed at another digest, and a site never updates")
    choices = Choices(grants=("all",))
    installer.record(inspected, choices)  # refuses now what could not be installed after a yes
    await approvals.ask(_may_install(inspected, context))
    if registry.get(inspected.manifest.id) is None:
        record = await installer.install(inspected, choices)
        await plugins.rehost(record.id)
    return inspected.manifest.id


def _may_look(source: Source, context: Context) -> Question:
    return Question(
        origin=context.origin,
        kind="plugin",
        summary=f"{context.origin} asks you to install {source.text}; fetch it and look at what it is (nothing is installed yet)",
        digest=digest_of({"kind": "plugin", "step": "look", "origin": str(context.origin), "source": source.text}),
        facts=Facts("l2_addPlugin", always_ask=True),
        details={"source": source.text},
        presence=context.presence,
    )


def _may_install(inspected: Inspected, context: Context) -> Question:
    shown = inspected.to_json()
    requests = [name for name in shown["requests"] if name not in NAMED_GRANTS]
    details = {
        part: shown[part] for part in ("id", "version", "source", "digest", "keys", "hub", "gateways", "actions")
    }
    return Question(
        origin=context.origin,
        kind="plugin",
        summary=f"install the plugin {shown['id']} from {shown['source']} for {context.origin}, with {', '.join(requests) or 'nothing'}",
        digest=digest_of(
            {"kind": "plugin", "step": "install", "origin": str(context.origin), "digest": inspected.digest}
        ),
        facts=Facts("l2_addPlugin", plugin=shown["id"], always_ask=True),
        details=details | {"grants": requests},
        quoted={"name": _plain(shown["name"]), "description": _plain(shown["description"])},
        presence=context.presence,
    )


def _plain(text: str) -> str:
    """Return at most `SHOWN` printable characters; bidi controls are none."""
    return "".join(char for char in text if char.isprintable())[:SHOWN]


def _read(params: Any) -> Source:
    """Return the exact version with its sha256 that is asked for. Raises InvalidParams."""
    asked = params[0] if isinstance(params, list) and len(params) == 1 else params
    if not isinstance(asked, dict) or asked.keys() != {"source", "integrity"}:
        raise InvalidParams("0", '{"source": "pypi:…==… or npm:…@…", "integrity": "sha256-…"}', asked)
    source, sha256 = asked["source"], _sha256(asked["integrity"])
    if not isinstance(source, str) or not source.startswith(("pypi:", "npm:")) or "#" in source:
        raise InvalidParams("source", "pypi:NAME==VERSION or npm:NAME@VERSION", source)
    try:
        return parse_source(f"{source}#sha256={sha256}")
    except ManifestError:
        raise InvalidParams("source", "an exact version, pypi:NAME==VERSION or npm:NAME@VERSION", source) from None


def _sha256(text: Any) -> str:
    if isinstance(text, str):
        if re.fullmatch(r"sha256:[0-9a-f]{64}", text):
            return text.removeprefix("sha256:")
        if text.startswith("sha256-"):
            try:
                found = base64.b64decode(text.removeprefix("sha256-"), validate=True)
            except (binascii.Error, ValueError):
                found = b""
            if len(found) == 32:
                return found.hex()
    raise InvalidParams("integrity", "sha256-BASE64 or sha256:HEX of the wheel or tarball", text)
