"""Runs attempts, each in a forked process of its own that first becomes a user and then, or not, locks itself.

`python -m tests.security.escapes.runner` in the root of the repository: a line of JSON on standard input is a job, and gets a
line of JSON on standard output. It imports everything before it forks: in the jail there is no file to import from, and an attempt
that failed for want of a module would prove nothing. The launcher's switches are used here and nowhere else.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - name look-ups import it late
import errno
import gc
import json
import os
import select
import signal
import socket
import sys

from proxy.host.sandbox import launcher
from proxy.host.sandbox.profiles import DENO, PYTHON
from tests.security.escapes import files, kernels, networks, processes, resources  # noqa: F401 - they fill the catalogue
from tests.security.escapes.catalogue import ATTEMPTS, Attempt
from tests.security.escapes.scene import Scene, Stage, become

MEMORY = 256 * 1024 * 1024
SECONDS = 60.0  # for an answer; making and taking down namespaces takes seconds on a busy machine
THREADS = "threads"  # among the layers left out: the filter is deno's, which has threads


def outcome(attempt: Attempt, scene: Scene) -> str:
    """Run the attempt here; return "done" or the name of what it met."""
    try:
        attempt.work(scene)
    except OSError as error:
        known = errno.errorcode.get(error.errno or 0)
        return known if known is not None and not isinstance(error, socket.gaierror) else type(error).__name__
    except Exception as error:  # noqa: BLE001 - whatever it meets is the answer
        return type(error).__name__
    return "done"


def child(attempt: Attempt, scene: Scene, user: int, without: frozenset[str] | None) -> str:
    """Become the user, lock unless `without` is None, and run."""
    become(user)
    if attempt.prepare is not None:
        try:
            scene.prepared = attempt.prepare(scene)
        except OSError as error:
            return f"unprepared: {errno.errorcode.get(error.errno or 0, str(error))}"
    if without is not None:
        profile = DENO if THREADS in without else PYTHON
        jail = launcher.lock(profile, MEMORY, os.getppid(), None, without)
        wanted = [name for name in launcher.LAYERS if name not in without]
        if jail.layers != wanted:
            return f"unlocked: {jail.missing}"
    return outcome(attempt, scene)


def run(attempt: Attempt, stage: Stage, number: int, without: frozenset[str] | None) -> str:
    """Fork a process for the attempt; return its outcome, or "SIGSYS" and the like when it was ended, or "no answer"."""
    scene = stage.scene(number)
    reading, scene.answer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        os.set_inheritable(scene.answer, True)
        try:
            said = child(attempt, scene, stage.user, without)
        except BaseException as error:  # noqa: BLE001 - said instead of lost
            said = f"broken: {type(error).__name__}: {error}"
        os.write(scene.answer, said.encode()[:4000])
        os._exit(0)
    os.close(scene.answer)
    ready, _, _ = select.select([reading], [], [], SECONDS)
    said = os.read(reading, 4096).decode().strip() if ready else ""
    os.close(reading)
    if not ready:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if not said and ready and os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return said or "no answer"


def library() -> str:
    """Return the path of some shared library of this process, for the attempt that drops one."""
    with open("/proc/self/maps") as maps:
        return next(row.split()[-1] for row in maps if "libm.so" in row or "libm-" in row or "libc.so" in row)


def main() -> None:
    """Do the jobs as they come: rows of (attempt, user, layers left out or null)."""
    gc.disable()
    gc.freeze()  # a collection in a child would copy every page it shares
    stages: dict[int, Stage] = {}
    try:
        for number, line in enumerate(sys.stdin):
            name, user, without = json.loads(line)
            if user not in stages:
                stages[user] = Stage(user, library())
            left_out = None if without is None else frozenset(without)
            said = run(ATTEMPTS[name], stages[user], number, left_out)
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()
    finally:
        for stage in stages.values():
            stage.close()


if __name__ == "__main__":
    main()
