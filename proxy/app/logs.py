"""What the daemon writes on standard error: text for people or one JSON object a line, and never a secret.

Every record of the standard library's logging ends here, with the number of the call it belongs to (`middleware.asking`).
What could be a token, or the private part of an upstream's URL, is struck out of every line, tracebacks included: a
mistake elsewhere must not become a leak (security.md 5, hardening.md 19). There is no access log: calls are counted
(`/metrics`), and only the slow ones, the failed ones and what an owner must know have lines.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable
from typing import Any

from middleware.asking import asking
from proxy.config import LogSettings

OWNER = "l2proxy.owner"
"""The logger of what an owner must read whatever the level: questions, refusals, where the doors are."""

_URL = re.compile(r"\b(https?|wss?)://(?:[^\s/?#@\"'<>]*@)?([^\s/?#\"'<>\\),;]+)([/?#][^\s\"'<>\\),;]*)?")
_TOKEN = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")  # 32 bytes in base64url
_TEXT = "%(asctime)s %(levelname)s %(name)s%(call)s: %(message)s"


def set_up(settings: LogSettings) -> None:
    """Send every record of this process to standard error as `settings` say; replaces what was set up before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if settings.format == "json" else TextLines())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
    logging.getLogger(OWNER).setLevel(logging.INFO)
    logging.captureWarnings(True)


def notices(settings: LogSettings, plain: Callable[[str], None]) -> Callable[[str], None]:
    """Return how the owner is told something: `plain` for people, a record where every line is to be JSON."""
    if settings.format == "text":
        return plain
    owner = logging.getLogger(OWNER)
    return lambda line: owner.info(line.removeprefix("l2proxy: "), stacklevel=2)


def slow_calls(settings: LogSettings) -> Callable[[str, float], None]:
    """Return what writes the line of a slow call: (label of the method, seconds)."""
    log = logging.getLogger("l2proxy.slow")

    def slow(method: str, seconds: float) -> None:
        log.info("%s took %.3f s ([log] slow_call is %g s)", method, seconds, settings.slow_call)

    return slow


def without_secrets(text: str) -> str:
    """Return `text` with tokens, and userinfo, path and query of URLs, struck out."""
    shown = _URL.sub(lambda url: f"{url[1]}://{url[2]}{'/…' if url[3] and url[3] != '/' else ''}", text)
    return _TOKEN.sub("[token]", shown)


class TextLines(logging.Formatter):
    """`TIME LEVEL LOGGER [r7 web http]: MESSAGE`; what a terminal might obey is escaped (hardening.md 19)."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the lines of a traceback behind it."""
        call = asking()
        record.call = f" [{' '.join(call.values())}]" if call else ""
        lines = without_secrets(super().format(record)).split("\n")
        return "\n".join(_printable(line) for line in lines)


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message; request, origin, transport of a call; error: a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
            **asking(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            entry["error"] = without_secrets(self.formatException(record.exc_info))
        elif record.exc_text:
            entry["error"] = without_secrets(record.exc_text)
        return json.dumps(entry, ensure_ascii=True)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\t" else f"\\u{ord(c):04x}" for c in text)
