"""Computations over what a plugin sent, in a process of their own with a second of computing each (hardening.md 28).

A few kilobytes can keep a library busy for seconds, and a thread of the daemon would hold up everybody by it. The worker is started when
it is needed first, takes one computation at a time, and is killed when one takes too long: the next finds a new one. It gets the code of
this package and no descriptor but its pipes; what it is asked is checked data, what it answers comes from our own code.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from typing import IO, Any

from middleware.errors import InternalError, InvalidParams, LimitExceeded

SECONDS = 1.0  # of computing: where other things keep the machine busy, nothing harmless is refused
WALL = 10.0
START = 60.0  # seconds for the libraries to be loaded, on a machine that has other things to do
MEMORY = 1 << 30  # bytes of addresses
_LENGTH = struct.Struct(">I")
_CODE = "from proxy.host.services.worker import serve; serve()"

Work = Callable[..., Any]


class TooSlow(InvalidParams):
    """The computation took longer than its second, or more memory than there is for it."""

    def __init__(self) -> None:
        super().__init__("params", f"what takes at most {SECONDS:g} s to compute", "more")


class Worker:
    """One worker process, started anew as often as need be. `warm`: work that makes it load what is slow to load."""

    def __init__(self, warm: Work, *given: Any) -> None:
        self._warm = pickle.dumps((warm, given))
        self._turn = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    async def run(self, work: Work, *given: Any) -> Any:
        """Return what `work`, a function of a module, returns for `given`. Raises `InvalidParams`, `LimitExceeded`, `TooSlow`."""
        async with self._turn:
            running = asyncio.ensure_future(asyncio.to_thread(self._ask, pickle.dumps((work, given))))
            try:
                kind, answer = await asyncio.shield(running)
            except asyncio.CancelledError:
                self.close()
                await asyncio.wait([running])
                raise
        if kind == "ok":
            return answer
        if kind == "invalid":
            raise InvalidParams(*answer)
        if kind == "limit":
            raise LimitExceeded(*answer)
        raise InternalError(f"{time.time_ns():x}")

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _ask(self, job: bytes) -> tuple[str, Any]:
        try:
            process = self._process or self._start()
            self._process = process
            if process.stdin is None or process.stdout is None:
                raise RuntimeError("a worker is started with two pipes")
            _put(process.stdin, job)
            found: tuple[str, Any] = pickle.loads(_read(process.stdout, WALL))  # noqa: S301 - what our own code wrote
        except TimeoutError:
            self.close()
            raise TooSlow from None
        except (OSError, EOFError):
            self.close()  # it was ended: by the system for its second, or for want of memory
            raise TooSlow from None
        return found

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        process = subprocess.Popen(  # noqa: S603 - ours
            [sys.executable, "-c", _CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a worker is started with two pipes")
        try:
            _put(process.stdin, self._warm)
            _read(process.stdout, START)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return process


def _read(pipe: IO[bytes], seconds: float) -> bytes:
    """Return the next message. Raise TimeoutError, EOFError."""
    until, data, wanted = time.monotonic() + seconds, b"", _LENGTH.size
    while len(data) < wanted:
        left = until - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            raise TimeoutError
        more = os.read(pipe.fileno(), 1 << 16)
        if not more:
            raise EOFError
        data += more
        if len(data) >= _LENGTH.size:
            wanted = _LENGTH.size + int(_LENGTH.unpack(data[: _LENGTH.size])[0])
    return data[_LENGTH.size :]


def serve() -> None:
    """Be the worker: compute until the pipe closes."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    answers, questions = os.fdopen(os.dup(1), "wb"), sys.stdin.buffer
    os.dup2(2, 1)  # what a library prints is no answer
    warm = False
    while head := questions.read(_LENGTH.size):
        work, given = pickle.loads(questions.read(_LENGTH.unpack(head)[0]))  # noqa: S301 - what the daemon wrote
        signal.setitimer(signal.ITIMER_PROF, SECONDS if warm else START)  # SIGPROF ends the process
        # And SIGALRM one that waits: the daemon, which would, may be gone.
        signal.setitimer(signal.ITIMER_REAL, 2 * (WALL if warm else START))
        outcome = _done(work, given)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        warm = True
        _put(answers, pickle.dumps(outcome))


def _done(work: Work, given: tuple[Any, ...]) -> tuple[str, Any]:
    try:
        return "ok", work(*given)
    except InvalidParams as error:
        return "invalid", tuple(error.data[name] for name in ("param", "expected", "got"))
    except LimitExceeded as error:
        return "limit", (error.data["limit"], error.message)
    except Exception as error:  # noqa: BLE001 - it is the asker's to say
        return "failed", type(error).__name__


def _put(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()
