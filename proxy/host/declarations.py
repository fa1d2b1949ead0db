"""What a plugin's code declares, read in a plugin process, beside what its manifest declares (`l2proxy plugin check`)."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import msgspec

from middleware.errors import shorten
from middleware.nesting import deeper_than
from proxy.host import frames
from proxy.host.manifest import Action, Manifest
from proxy.host.process import spawn
from proxy.host.sandbox.report import Unsandboxed

SECONDS = 20.0
MAX_SENTENCE = 500  # characters
_PLACE = re.compile(r'File "plugin/([^"\n]{1,200})", line ([0-9]+)', re.ASCII)  # as tracebacks name the author's files
MAX_SAID = 64 * 1024  # bytes of what the process prints when it fails


class DeclarationFailed(ValueError):
    """The code could not be read; the message holds the last line it printed."""


class _Failed(msgspec.Struct):
    """What an npm plugin's process says instead: deno's stacks end in no sentence that could be shown."""

    failed: str


async def declared_by_code(folder: Path, manifest: Manifest) -> list[Action]:
    """Return the actions the code declares. Raises DeclarationFailed."""
    try:
        memory = manifest.permissions.memory_bytes
        process = await spawn(folder, manifest.entry, memory, "declare", runtime=manifest.runtime)
    except Unsandboxed as error:
        raise DeclarationFailed(f"the code is read in the sandbox alone, and there is none here: {error}") from None
    except OSError as error:
        raise DeclarationFailed(f"the process that reads the code cannot be started: {error.strerror}") from None
    process.stdin.close()
    try:
        async with asyncio.timeout(SECONDS):
            line, said = await asyncio.gather(_first_line(process.stdout), _tail(process.stderr))
            how = await process.wait()
    except TimeoutError:
        raise DeclarationFailed(f"the code did not declare its actions within {SECONDS:g} s") from None
    finally:
        process.close()
    if not line:
        raise DeclarationFailed(f"the code cannot be loaded: {_why(said.decode('utf-8', 'replace')) or how}")
    if deeper_than(frames.MAX_NESTING, line):  # the line is the plugin's to write
        raise DeclarationFailed("the code declares its actions in a text nested too deeply")
    try:
        declared = msgspec.convert(json.loads(line), list[Action] | _Failed)
    except (ValueError, msgspec.ValidationError) as error:
        raise DeclarationFailed(f"the code declares its actions in no known form: {error}") from None
    if isinstance(declared, _Failed):
        raise DeclarationFailed(f"the code cannot be loaded: {shorten(declared.failed, MAX_SENTENCE)}")
    for action in declared:
        _check_types(action)
    return declared


def _check_types(action: Action) -> None:
    for row in (*action.params, *action.returns):
        try:
            _typed(row.to_json())
        except ValueError as error:
            raise DeclarationFailed(f"action {shorten(action.name)}: {error}") from None


def differences(manifest: Manifest, coded: list[Action]) -> list[str]:
    """Return one sentence for each way in which the code's actions differ from the manifest's."""
    declared = {action.name: action for action in manifest.action}
    there = {action.name: action for action in coded}
    found = [f"action {name} is in the manifest and not in the code" for name in declared if name not in there]
    found += [f"action {name} is in the code and not in the manifest" for name in there if name not in declared]
    for name in declared.keys() & there.keys():
        ours, theirs = _essence(declared[name]), _essence(there[name])
        found += [
            f"action {name}: {part} is {json.dumps(ours[part])} in the manifest and {json.dumps(theirs[part])} in the code"
            for part in ours
            if ours[part] != theirs[part]
        ]
    return sorted(found)


def _essence(action: Action) -> dict[str, Any]:
    return {
        "params": [_typed(param.to_json()) for param in action.params],
        "returns": [_typed(param.to_json()) for param in action.returns],
        "spends": None if action.spends is None else [action.spends.param, action.spends.asset],
        "approval": action.approval,
        "idempotent": action.idempotent,
    }


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    from proxy.host.abi_types import canonical

    components = [_typed(component) for component in row.get("components", [])]
    return {"name": row["name"], "type": canonical(row["type"]), "components": components}


async def _first_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:
        raise DeclarationFailed(f"the code declares more than {frames.MAX_LINE} bytes of actions") from None


def _why(said: str) -> str:
    """Return the last line of what a failing process printed, with the newest of the author's own lines before it."""
    last = shorten("".join(said.strip().splitlines()[-1:]), MAX_SENTENCE)
    places = _PLACE.findall(said)
    return f"{places[-1][0]}, line {places[-1][1]}: {last}" if places else last


async def _tail(reader: asyncio.StreamReader) -> bytes:
    """Return the end of everything that is printed."""
    said = b""
    while chunk := await reader.read(MAX_SAID):
        said = (said + chunk)[-MAX_SAID:]
    return said
