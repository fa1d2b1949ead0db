"""What the bundler is told while it bundles one graph, and whether what it made may be taken.

Every import and every file it asks for is answered from the files in memory; what is outside of them is never looked for. What
is refused is collected, so that an author reads all of it at once. The result is compared with what the bundler says went in.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable
from typing import Any

from middleware.errors import shorten
from proxy.host.bundling.built_ins import ALLOWED, DENIED, built_in
from proxy.host.bundling.packages import MODULES
from proxy.host.bundling.resolution import BuiltIn, Graph, Module, Nothing
from proxy.host.bundling.session import build
from proxy.host.manifest import ManifestError

MAX_BUNDLE = 16 * 1024 * 1024
LOADERS = {".js": "js", ".mjs": "js", ".cjs": "js", ".json": "json", ".ts": "ts"}
_MOST_TOLD = 5
_AS_JSON = " with { type: 'json' }"  # what esbuild puts behind the name of a file imported so
_AT_RUN_TIME = frozenset(f"node:{name}" for name in ALLOWED)
_NOTHING = {"id": 1, "contents": b"", "loader": "js"}

Reply = dict[str, Any]


class Run:
    """One build of `entry` out of `files`."""

    def __init__(self, files: dict[str, bytes], entry: str) -> None:
        self._graph, self._entry = Graph(files), entry
        self._refused: set[str] = set()
        self._denied: dict[str, str] = {}  # a built-in, and who wants it

    def result(self, program: int) -> tuple[bytes, set[str]]:
        """Return the bundle and the graph's files in it; `program`: an open descriptor. Raises ManifestError."""
        reply = build(program, self._entry, self._answer)
        if self._refused:
            raise ManifestError("; ".join(sorted(self._refused)[:_MOST_TOLD]))
        if errors := reply.get("errors"):
            raise ManifestError(self._told(errors))
        outputs = reply.get("outputFiles")
        if not isinstance(outputs, list) or len(outputs) != 1 or not isinstance(outputs[0].get("contents"), bytes):
            raise ManifestError("the packages cannot be bundled: the bundler gave not one module")
        data: bytes = outputs[0]["contents"]
        if len(data) > MAX_BUNDLE:
            raise ManifestError(f"the bundle has {len(data)} bytes; the limit is {MAX_BUNDLE}")
        return data, self._checked_inputs(reply.get("metafile"))

    def _checked_inputs(self, metafile: Any) -> set[str]:
        """Return the graph's files that went in; refuse what came from elsewhere, and what would be imported at run time."""
        try:
            said = json.loads(metafile)
            inputs, (output,) = set(said["inputs"]), said["outputs"].values()
            imported = {row["path"] for row in output["imports"] if row["kind"] != "require-call"}
        except (TypeError, ValueError, KeyError, AttributeError):
            raise ManifestError("the packages cannot be bundled: the bundler does not say what went in") from None
        ours = {name.removeprefix("graph:").removesuffix(_AS_JSON) for name in inputs if name.startswith("graph:")}
        others = {name for name in inputs if not name.startswith(("graph:", "built-in:", "value:", "nothing:"))}
        others |= ours - self._graph.files.keys()
        others |= {name for name in imported if name.startswith((".", "/")) or ":" in name} - _AT_RUN_TIME
        if others:
            raise ManifestError(f"the bundle would hold or want what is not in the package: {listed(others)}")
        return ours

    def _told(self, errors: list[Reply]) -> str:
        if self._denied:
            wanted = [f"{name} (by {importer})" for name, importer in self._denied.items()]
            return f"it imports modules of node that no plugin may use: {listed(wanted)}"
        rows = []
        for error in errors[:_MOST_TOLD]:
            place = error.get("location")
            where = ""
            if isinstance(place, dict):
                where = f"{str(place.get('file')).removeprefix('graph:')}:{place.get('line')}: "
            rows.append(shorten(f"{where}{error.get('text')}", 200))
        return "the packages cannot be bundled: " + "; ".join(rows)

    def _answer(self, request: Reply) -> Reply:
        resolving = request["command"] == "on-resolve"
        try:
            return self._resolved(request) if resolving else self._loaded(request)
        except ManifestError as error:
            self._refused.add(str(error))
            return {"id": 0, "path": "refused", "external": True} if resolving else _NOTHING

    def _resolved(self, request: Reply) -> Reply:
        wanted, importer, namespace = str(request["path"]), str(request["importer"]), request["namespace"]
        if namespace == "built-in":
            return {"id": 0, "path": importer, "namespace": "value"}
        if namespace == "value":
            return {"id": 0, "path": wanted, "external": True}
        if request.get("with") not in ({}, {"type": "json"}):
            raise ManifestError(
                f"{shorten(importer)} imports {shorten(wanted)!r} as something that is no module and no JSON"
            )
        if request["kind"] == "entry-point":
            return {"id": 0, "path": self._entry, "namespace": "graph"}
        return self._imported(wanted, importer, required=str(request["kind"]).startswith("require"))

    def _imported(self, wanted: str, importer: str, *, required: bool) -> Reply:
        found = self._graph.resolve(wanted, importer, "require" if required else "import")
        if isinstance(found, Module):
            return {"id": 0, "path": found.path, "namespace": "graph", "sideEffects": found.has_effects}
        if isinstance(found, Nothing):
            return {"id": 0, "path": found.path, "namespace": "nothing"}
        if isinstance(found, BuiltIn) and required:
            return {"id": 0, "path": found.name, "namespace": "built-in"}
        if isinstance(found, BuiltIn):
            return {"id": 0, "path": f"node:{found.name}", "external": True}
        return self._missing(wanted, importer, required=required)

    def _missing(self, wanted: str, importer: str, *, required: bool) -> Reply:
        """Leave it to esbuild, which takes it where the code catches it; an import of a denied built-in is never taken."""
        name = built_in(wanted)
        if name not in DENIED:
            return {}
        self._denied.setdefault(name, shorten(importer))
        return {} if required else {"id": 0, "errors": [_error(f"{name} is denied")]}

    def _loaded(self, request: Reply) -> Reply:
        path, namespace = str(request["path"]), request["namespace"]
        if namespace == "built-in":
            return _text(f'module.exports = require("{path}").default;')
        if namespace == "value":
            return _text(f'import value from "node:{path}"; export default value;')
        if namespace == "nothing":
            return _NOTHING
        if namespace != "graph" or path not in self._graph.files:
            raise ManifestError(f"{shorten(path)!r} is no file of the package or its lock")
        end = posixpath.splitext(path)[1]
        if end not in LOADERS or (end == ".ts" and path.startswith(MODULES)):
            known = ", ".join(LOADERS)
            raise ManifestError(f"{shorten(path)} is imported; only {known} can be, and .ts of the plugin's own alone")
        return {"id": 1, "contents": self._graph.files[path], "loader": LOADERS[end]}


def listed(names: Iterable[str]) -> str:
    """Return the first few of these names in one line."""
    rows = sorted(names)
    more = f" and {len(rows) - _MOST_TOLD} more" if len(rows) > _MOST_TOLD else ""
    return ", ".join(shorten(row, 120) for row in rows[:_MOST_TOLD]) + more


def _text(source: str) -> Reply:
    return {"id": 1, "contents": source.encode(), "loader": "js"}


def _error(text: str) -> Reply:
    return {"id": "", "pluginName": "", "text": text, "location": None, "notes": [], "detail": 0}
