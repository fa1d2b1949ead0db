"""The escape battery: what a Python plugin that holds ctypes tries against the kernel, and none of it gets through (plugin.md).

Every attempt runs in processes of its own: without the jail, where it must succeed, or the battery would prove nothing; and in
the jail, as root and as an ordinary user, with and without Landlock and user namespaces, where it must fail for the reason
that was meant; last under the filter of npm plugins, which lets V8 have threads. A missing answer is a failure. Where this
machine itself has not what an attempt needs, `lacking` in its entry says which errors mean so, and it counts for nothing.
"""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from proxy.host.sandbox.syscalls import architecture
from tests.security.escapes import files, kernels, networks, processes, resources  # noqa: F401 - they fill the catalogue
from tests.security.escapes.catalogue import ATTEMPTS, ROOT
from tests.security.escapes.runner import THREADS
from tests.security.escapes.scene import is_almighty, users

pytestmark = pytest.mark.skipif(architecture() is None, reason="Linux on x86_64 and aarch64 alone can sandbox")

USERS = users()
WITHOUT: tuple[tuple[str, ...], ...] = ((), ("landlock",), ("namespaces",), ("landlock", "namespaces"))
DENOS = tuple(sorted({*WITHOUT[-1], THREADS}))
OF_DENO = {  # where deno's filter differs: what V8 lives on, and the host watches what memory is used
    "start a thread": "done",
    "hide behind another name": "done",
    "map memory": "done",
    "ask where another may run": "ENOSYS",
    "say where another may run": "ENOSYS",
}
WITHOUT_THE_CAPABILITY = () if is_almighty() else ("EPERM", "EINVAL")  # root of a container
REPOSITORY = Path(__file__).parent.parent.parent
AT_LEAST = 60

Job: TypeAlias = tuple[str, int, tuple[str, ...] | None]
Jobs: TypeAlias = list[Job]
Outcomes: TypeAlias = dict[Job, str]


class Battery:
    """The runner, and what it has said so far: each worker of the tests asks its own for what its tests need."""

    def __init__(self, runner: subprocess.Popen[str], forms: list[tuple[str, ...] | None]) -> None:
        self.forms = forms
        self._runner = runner
        self._known: Outcomes = {}

    def run(self, jobs: Jobs) -> Outcomes:
        """Have the runner make all attempts it has not made; it must answer for each."""
        return {job: self._once(job) for job in jobs}

    def _once(self, job: Job) -> str:
        if job not in self._known:
            assert self._runner.stdin is not None
            assert self._runner.stdout is not None
            self._runner.stdin.write(json.dumps(job) + "\n")
            self._runner.stdin.flush()
            said = self._runner.stdout.readline()
            assert said, "the runner has ended; what it said is on standard error"
            self._known[job] = json.loads(said)
        return self._known[job]


@pytest.fixture(scope="module")
def battery() -> Iterator[Battery]:
    """The runner of all attempts: free, and in every form of the jail this machine has."""
    command = [sys.executable, "-m", "tests.security.escapes.runner"]
    forms = [None, *_jails(), DENOS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True) as runner:
        yield Battery(runner, forms)
        assert runner.stdin is not None
        runner.stdin.close()
        assert runner.wait() == 0


def _jails() -> list[tuple[str, ...]]:
    """Return which layers are left out, in turn; a layer the machine has not is left out of all."""
    absent = frozenset(name for name, holds in _optional_layers().items() if not holds)
    return sorted({tuple(sorted(absent | set(without))) for without in WITHOUT})


def _optional_layers() -> dict[str, bool]:
    asked = (
        "import json, os; from proxy.host.sandbox.launcher import lock; from proxy.host.sandbox.profiles import PYTHON;"
    )
    asked += "print(json.dumps(lock(PYTHON, 1 << 28, os.getppid()).layers))"
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, cwd=REPOSITORY, check=True)
    layers = json.loads(said.stdout)
    return {name: name in layers for name in ("landlock", "namespaces")}


def _is_lacking(name: str, outcome: str) -> bool:
    lacking = {errno.errorcode[number] for number in ATTEMPTS[name].lacking}
    return outcome.removeprefix("unprepared: ") in lacking


@pytest.mark.parametrize("name", ATTEMPTS)
def test_it_gets_through_without_the_jail_and_nowhere_else(name: str, battery: Battery) -> None:
    attempt = ATTEMPTS[name]
    outcomes = battery.run([(name, user, how) for user in USERS for how in battery.forms])
    for user in USERS:
        free = outcomes[name, user, None]
        if _is_lacking(name, free) or (attempt.who == ROOT and (user != 0 or free in WITHOUT_THE_CAPABILITY)):
            continue  # it proves nothing here, and is not counted
        assert free == "done", f"as {user} without the jail: the attempt itself is broken"
    for key, outcome in outcomes.items():
        if key[2] is not None and not outcome.startswith("unprepared"):
            expected = OF_DENO.get(name, attempt.expected) if key[2] == DENOS else attempt.expected
            assert outcome == expected, f"as {key[1]}, without {key[2]}"


def test_enough_attempts_are_shown_to_succeed_without_the_jail(battery: Battery) -> None:
    outcomes = battery.run([(name, user, None) for name in ATTEMPTS for user in USERS])
    for user in USERS:
        assert sum(outcomes[name, user, None] == "done" for name in ATTEMPTS) >= AT_LEAST


def test_every_layer_behind_the_filter_holds_by_itself(battery: Battery) -> None:
    """Without the system call filter the others must still refuse what they are there for."""
    layers = _optional_layers()
    wanted = {
        "landlock": {
            "read /etc/passwd": "EACCES",
            "connect by TCP over IPv4": "EACCES",
            "signal another process": "EPERM",
        },
        "namespaces": {
            "read /etc/passwd": "ENOENT",
            "connect by TCP over IPv4": "ENETUNREACH",
            "list the processes": "ENOENT",
        },
        "neither": {"map memory": "ENOMEM", "open descriptors without end": "EMFILE", "grow a file it held": "EFBIG"},
    }
    for alone, attempts in wanted.items():
        if layers.get(alone, True):
            left_out = tuple(sorted({"landlock", "namespaces", "seccomp"} - {alone}))
            found = battery.run([(name, user, left_out) for name in attempts for user in USERS])
            assert found == {key: attempts[key[0]] for key in found}, alone
