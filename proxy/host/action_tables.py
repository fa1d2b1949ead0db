"""The action tables of a `plugin.toml`, written from the code's actions (`l2proxy plugin check --fix`).

Changes the author's text and nothing but its `[[action]]` tables; the result is read again and compared before it is used.
"""

from __future__ import annotations

import json
import re

import msgspec

from proxy.host.manifest import Action, Manifest, ManifestError, Param, parse_manifest

_HEADER = re.compile(r"\[\[?\s*[A-Za-z]")
_ACTION = re.compile(r"\[\[\s*action\s*\]\]")


def with_actions(text: str, before: Manifest, coded: list[Action]) -> str:
    """Return the manifest's text with the tables of `coded`. Raises ManifestError where that cannot be done safely."""
    described = {action.name: action.description for action in before.action}
    tables = [_table(action, action.description or described.get(action.name, "")) for action in coded]
    kept, place = _without_tables(text.splitlines())
    lines = [*kept[:place], *[line for table in tables for line in (*table, "")], *kept[place:]]
    written = "\n".join(lines).rstrip() + "\n"
    after = parse_manifest(written.encode())
    if msgspec.structs.replace(after, action=[]) != msgspec.structs.replace(before, action=[]):
        raise ManifestError("the action tables are written in a way that cannot be replaced; write them anew by hand")
    return written


def _without_tables(lines: list[str]) -> tuple[list[str], int]:
    """Return the lines without action tables, and where these stood: the first one, else before [permissions], else the end."""
    kept: list[str] = []
    place: int | None = None
    inside = False
    for line in lines:
        if _HEADER.match(line):
            inside = _ACTION.match(line) is not None
            if place is None and (inside or line.startswith("[permissions]")):
                place = len(kept)
        if not inside:
            kept.append(line)
    if place is None:
        return [*kept, ""], len(kept) + 1
    return kept, place


def _table(action: Action, description: str) -> list[str]:
    lines = ["[[action]]", f"name = {_text(action.name)}"]
    if description:
        lines.append(f"description = {_text(description)}")
    for name, params in (("params", action.params), ("returns", action.returns)):
        if params:
            lines.append(f"{name} = [{', '.join(_param(param) for param in params)}]")
    if action.spends is not None:
        lines.append(f"spends = {{ param = {_text(action.spends.param)}, asset = {_text(action.spends.asset)} }}")
    lines.append(f"approval = {_text(action.approval)}")
    if action.idempotent:
        lines.append("idempotent = true")
    return lines


def _param(param: Param) -> str:
    parts = [f"name = {_text(param.name)}", f"type = {_text(param.type)}"]
    if param.description:
        parts.append(f"description = {_text(param.description)}")
    if param.components:
        parts.append(f"components = [{', '.join(_param(row) for row in param.components)}]")
    return f"{{ {', '.join(parts)} }}"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
