"""What the author reads of an error: its traceback on standard error, the plugin's log, and what a plugin may not do at all.

A caller never sees any of it. The advice stands before the traceback, whose last line says what is wrong, and once a process.
"""

from __future__ import annotations

import functools
import sys
import traceback

ADVICE = (
    "a plugin opens no file, socket, thread or process: it keeps data by self.store, and reaches its operator by self.hub and "
    'L1 by self.layer1 (docs/plugin-authors.md, "The sandbox")'
)
_NO_THREAD = "can't start new thread"


def show(error: BaseException) -> None:
    """Print `error` with its traceback."""
    if _was_denied(error):
        _advise()
    traceback.print_exception(error, file=sys.stderr)


def _was_denied(error: BaseException | None) -> bool:
    """Tell whether an error, or one it came of, is how the sandbox says no."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, PermissionError) or (isinstance(error, RuntimeError) and str(error) == _NO_THREAD):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


@functools.cache  # once
def _advise() -> None:
    print(ADVICE, file=sys.stderr)  # noqa: T201 - stderr is the plugin's log
