"""A plugin's log: what it says by `log` and on standard error, escaped, rate limited, in two files of bounded size.

Read by `l2proxy plugin logs`. Everything in it is of foreign origin: control and bidi characters are written as escapes,
so that no terminal obeys them (hardening.md 19). It must never grow beyond its bounds nor slow the daemon down.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from middleware.errors import InvalidParams

MAX_FILE = 1024 * 1024  # bytes; one file before it is kept
MAX_TEXT = 4096  # characters of one line
RATE, ALLOWANCE = 50.0, 500.0  # lines a second, and at once
LEVELS = ("debug", "info", "warning", "error")


class PluginLog:
    """The two files `<id>.log` and `<id>.log.1` of one plugin."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._allowance = ALLOWANCE
        self._refilled = clock()
        self._dropped = 0

    def from_plugin(self, params: dict[str, Any]) -> None:
        """Write one `log {level, message, fields}` notification; what is not one is said in a line of its own."""
        level, message, fields = params.get("level", "info"), params.get("message"), params.get("fields") or {}
        if level not in LEVELS or not isinstance(message, str) or not isinstance(fields, dict):
            self._limited("warning", "a log notification that is not {level, message, fields}")
            return
        text = f"{message} {json.dumps(fields, ensure_ascii=False)}" if fields else message
        self._limited(level, text)

    def stderr(self, text: str) -> None:
        """Write one line the process printed."""
        self._limited("stderr", text)

    def host(self, text: str) -> None:
        """Write one line of the host's own about this plugin; not rate limited."""
        self._write("host", text)

    def blame(self, text: str) -> None:
        """Write one line of the host's own about something that a site may repeat."""
        self._limited("host", text)

    def read(self, after: str | None = None, limit: int = 1000) -> tuple[list[str], str]:
        """Return the newest `limit` lines, or those after a cursor that `read` gave; and the cursor of the end."""
        files = [path for path in (self.path.with_suffix(".log.1"), self.path) if path.exists()]
        if not files:
            return [], "0:0"
        inode, offset = _cursor(after)
        known = {str(path.stat().st_ino): path for path in files}
        lines: list[str] = []
        for path in files:
            skip = offset if str(path.stat().st_ino) == inode else 0
            if inode in known and files.index(path) < files.index(known[inode]):
                continue
            with path.open("rb") as file:
                file.seek(skip)
                lines += file.read(2 * MAX_FILE).decode("utf-8", "replace").splitlines()
        stat = self.path.stat() if self.path.exists() else files[-1].stat()
        return lines[-limit:], f"{stat.st_ino}:{stat.st_size}"

    def _limited(self, level: str, text: str) -> None:
        now = self._clock()
        self._allowance = min(ALLOWANCE, self._allowance + max(0.0, now - self._refilled) * RATE)
        self._refilled = now
        if self._allowance < 1:
            self._dropped += 1
            return
        self._allowance -= 1
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._write("host", f"{dropped} lines were dropped: more than {RATE:g} a second")
        self._write(level, text)

    def _write(self, level: str, text: str) -> None:
        stamp = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        line = f"{stamp} {level} {escaped(text)}\n".encode()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size + len(line) > MAX_FILE:
            self.path.replace(self.path.with_suffix(".log.1"))
        with open(self.path, "ab", opener=_private) as file:
            file.write(line)


def escaped(text: str) -> str:
    """Return `text` as one bounded line in which nothing is left for a terminal to obey."""
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[:MAX_TEXT])
    return shown if len(text) <= MAX_TEXT else shown + "…"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _cursor(after: str | None) -> tuple[str, int]:
    if after is None:
        return "", 0
    inode, _, offset = after.partition(":")
    if not inode.isdigit() or not offset.isdigit() or len(after) > 64:
        raise InvalidParams("after", "a cursor that `plugin logs` gave", after)
    return inode, int(offset)
