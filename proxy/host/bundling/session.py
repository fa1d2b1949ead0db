"""One run of the bundler: a jailed process that asks for every import and every file, and is answered from memory.

Started for one bundle and ended after it. It has no file, network, environment or process of its own; `launch` locks it before
it becomes esbuild. Time, memory and what it may send are bounded, and whatever it sends is checked. Runs in a thread of its own:
the process is tied to that thread's life.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from middleware.errors import shorten
from proxy.host.bundling.messages import Malformed, packet, parsed, read_packet
from proxy.host.bundling.program import VERSION
from proxy.host.manifest import ManifestError

MEMORY = 1024 * 1024 * 1024
SECONDS = 60.0
MAX_PACKET = 64 * 1024 * 1024
FLAGS = (
    "--bundle",
    "--format=esm",
    "--platform=neutral",
    "--target=esnext",
    "--charset=utf8",
    "--tsconfig-raw={}",
    '--define:process.env.NODE_ENV="production"',
    "--metafile",
    "--log-level=silent",
    "--log-limit=20",
)
_ASKS = {"on-resolve": ("path", "importer", "namespace", "kind"), "on-load": ("path", "namespace")}
LAUNCH = Path(__file__).with_name("launch.py")
CODE = Path(__file__).parent.parent.parent.parent

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def build(program: int, entry: str, answer: Answer, seconds: float = SECONDS) -> dict[str, Any]:
    """Return esbuild's answer to one build: `errors`, `outputFiles`, `metafile`. Raises ManifestError.

    `program`: an open descriptor. `answer(request)` is asked for each `on-resolve` and `on-load`; what it raises ends the build.
    """
    with _process(program, seconds) as (process, overdue):
        output, writing = process.stdout, process.stdin
        if output is None or writing is None:
            raise RuntimeError("the bundler is spawned with pipes")
        try:
            _check_lock(output.readline(MAX_PACKET))
            _check_version(read_packet(output, 64).decode("ascii", "replace"))
            with _writer(writing) as send:
                send(packet(0, _request(entry), answer=False))
                return _converse(output, send, answer)
        except EOFError:
            bounds = f"ended before it was done; it may use {MEMORY >> 20} MiB"
            why = f"did not end within {seconds:g} s" if overdue.is_set() else bounds
            raise ManifestError(f"the packages cannot be bundled: the bundler {why}") from None
        except Malformed as error:
            raise ManifestError(f"the packages cannot be bundled: {error}") from None


def _converse(output: IO[bytes], send: Callable[[bytes], None], answer: Answer) -> dict[str, Any]:
    while True:
        number, is_answer, value = parsed(read_packet(output, MAX_PACKET))
        if not isinstance(value, dict):
            raise Malformed("a packet that is no object")
        if is_answer:
            return _checked_reply(value)
        if value.get("command") in _ASKS:
            _check_question(value)
            send(packet(number, answer(value), answer=True))
        else:
            send(packet(number, {"errors": [], "warnings": []}, answer=True))


def _check_question(value: dict[str, Any]) -> None:
    if not all(isinstance(value.get(name), str) for name in _ASKS[value["command"]]):
        raise Malformed("a question without its parts")


def _checked_reply(value: dict[str, Any]) -> dict[str, Any]:
    if "error" in value:
        raise Malformed(shorten(str(value["error"]), 200))
    for name in ("errors", "outputFiles"):
        rows = value.get(name) or []
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Malformed(f"{name} that are no list of objects")
    return value


def _request(entry: str) -> dict[str, Any]:
    every = {"filter": ".*", "namespace": ""}
    hooks = {"onStart": False, "onEnd": False, "onResolve": [{"id": 0, **every}], "onLoad": [{"id": 1, **every}]}
    return {
        "command": "build",
        "key": 0,
        "entries": [["", entry]],
        "flags": list(FLAGS),
        "write": False,
        "stdinContents": None,
        "stdinResolveDir": "",
        "absWorkingDir": "/",
        "nodePaths": [],
        "context": False,
        "plugins": [{"name": "graph", **hooks}],
    }


def _check_lock(line: bytes) -> None:
    if not line.endswith(b"\n"):
        raise EOFError
    report = json.loads(line)
    if "why" in report:
        raise ManifestError(f"no npm graph can be bundled here, for the bundler cannot be locked in: {report['why']}")


def _check_version(said: str) -> None:
    if said != VERSION:
        raise Malformed(f"the bundler is version {shorten(said)}")


@contextlib.contextmanager
def _process(program: int, seconds: float) -> Iterator[tuple[subprocess.Popen[bytes], threading.Event]]:
    """Start it, and end it when it is done with or `seconds` have passed."""
    config = {
        "parent": os.getpid(),
        "code": str(CODE),
        "program": program,
        "memory": MEMORY,
        "seconds": int(2 * seconds) + 1,
        "arguments": ["esbuild", f"--service={VERSION}"],
    }
    process = subprocess.Popen(  # noqa: S603 - its arguments are ours
        [sys.executable, "-I", "-S", "-B", str(LAUNCH), json.dumps(config)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=(program,),
        env={},
        cwd="/",
        start_new_session=True,
    )
    overdue = threading.Event()

    def end() -> None:
        overdue.set()
        process.kill()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield process, overdue
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@contextlib.contextmanager
def _writer(pipe: IO[bytes]) -> Iterator[Callable[[bytes], None]]:
    """Write beside the reading: the process may wait to be read while it is written to."""
    waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def run() -> None:
        with contextlib.suppress(OSError, ValueError):  # it ended: the reader hears of that
            while (data := waiting.get()) is not None:
                pipe.write(data)
                pipe.flush()

    thread = threading.Thread(target=run, name="bundler's input", daemon=True)
    thread.start()
    try:
        yield waiting.put
    finally:
        waiting.put(None)
