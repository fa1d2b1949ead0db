"""Which modules of node an npm plugin may import: those that compute. The rest wants what its jail denies (plugin.md).

Deno brings them all and its jail refuses what they would do; a plugin that needs one of the others is told at install and not
by a failure while it holds money.
"""

from __future__ import annotations

_COMPUTING = """
    assert assert/strict async_hooks buffer console constants crypto diagnostics_channel events path path/posix path/win32
    perf_hooks process punycode querystring stream stream/consumers stream/promises stream/web string_decoder timers
    timers/promises url util util/types zlib
"""
_REACHING = """
    child_process cluster dgram dns dns/promises domain fs fs/promises http http2 https inspector inspector/promises module
    net os readline readline/promises repl sea sqlite sys test test/reporters tls trace_events tty v8 vm wasi worker_threads
"""
ALLOWED, DENIED = frozenset(_COMPUTING.split()), frozenset(_REACHING.split())
_ONLY_PREFIXED = frozenset({"sea", "sqlite", "test", "test/reporters"})


def built_in(specifier: str) -> str | None:
    """Return the built-in's name without `node:`, None for anything else. `node:` before an unknown name: that name."""
    if specifier.startswith("node:"):
        return specifier.removeprefix("node:")
    return specifier if specifier in (ALLOWED | DENIED) - _ONLY_PREFIXED else None
