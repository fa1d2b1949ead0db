"""Locks the calling process into the jail: the layers in their order, what each of them found, and a last try of the door.

Called by the bootstrap in a plugin's own process, before the first byte of the plugin is parsed, and by the tests, which
alone may leave a layer out. Without limits, identity or seccomp there is no jail: `NotJailed`. Namespaces and Landlock hold
what they can where the system has them; nothing relies on them, for nothing needs a path after the lock (plugin.md).
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.host.sandbox import attempts, identity, kernel, landlock, memory, namespaces, rlimits, seccomp
from proxy.host.sandbox.profiles import Profile
from proxy.host.sandbox.report import NO_SANDBOX
from proxy.host.sandbox.syscalls import architecture

REQUIRED = ("rlimits", "identity", "seccomp")
OPTIONAL = ("namespaces", "landlock")
LAYERS = ("rlimits", "identity", "namespaces", "landlock", "seccomp")


@dataclass
class Jail:
    """The layers that hold, and why the others do not. `tells`: the host hears which tripwire was touched."""

    layers: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    tells: bool = False

    def to_json(self) -> dict[str, object]:
        """Return it as the bootstrap reports it."""
        return {"layers": self.layers, "missing": self.missing, "tells": self.tells}

    def refused(self, why: str) -> NotJailed:
        """Return the error of a process that is not in the jail, with what holds all the same."""
        return NotJailed(why, self)

    def try_layer(self, name: str, step: Callable[[], object]) -> None:
        """Run one step; a step the system refuses is a missing layer."""
        try:
            step()
        except OSError as error:
            self.missing[name] = error.strerror or str(error)
        else:
            self.layers.append(name)


class NotJailed(Exception):
    """The process is not in the jail; the message says what is missing, `jail` what holds all the same."""

    def __init__(self, why: str, jail: Jail) -> None:
        super().__init__(why)
        self.jail = jail


def tie_to_host(parent: int) -> None:
    """End with the host: ask for the signal, then see whether the host is still there (it may be process 1)."""
    if sys.platform.startswith("linux"):
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)


def lock(
    profile: Profile,
    memory_bytes: int,
    parent: int,
    line: socket.socket | None = None,
    without: frozenset[str] = frozenset(),
) -> Jail:
    """Lock this process for good and return what holds. Raises NotJailed.

    `line`: where the listener of the tripwires goes. `without`: layers a test takes away, to see that the others hold alone.
    """
    jail = Jail()
    steps: dict[str, Callable[[], object]] = {
        "rlimits": lambda: rlimits.lock(memory_bytes, address_space=profile.address_space, threads=profile.threads),
        "identity": lambda: _become_nobody(jail, parent, without),
        "landlock": landlock.lock,
        "seccomp": lambda: _filter(jail, profile, line),
    }
    if architecture() is None:
        raise jail.refused(NO_SANDBOX)
    memory.seal()
    for name, step in steps.items():
        if name not in without:
            jail.try_layer(name, step)
    for name in REQUIRED:
        if name in jail.missing:
            raise jail.refused(f"{name}: {jail.missing[name]}")
    if "seccomp" not in without and (found := attempts.succeeding()):
        raise jail.refused(f"the lock does not hold: {', '.join(found)}")
    jail.layers.sort(key=LAYERS.index)
    return jail


def become_nobody(jail: Jail, parent: int, leave_paths: Callable[[], object] | None) -> None:
    """Leave root, then every path (`leave_paths`, the layer of namespaces), then every capability; last what a change of ids or
    namespaces would undo. Every launcher's first step, before its exec where it has one.
    """
    identity.leave_root()
    if leave_paths is not None:
        jail.try_layer("namespaces", leave_paths)
    identity.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    tie_to_host(parent)


def _become_nobody(jail: Jail, parent: int, without: frozenset[str]) -> None:
    become_nobody(jail, parent, None if "namespaces" in without else namespaces.lock)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def _filter(jail: Jail, profile: Profile, line: socket.socket | None) -> None:
    policy = profile.policy()
    if line is None:
        seccomp.lock(policy)
    else:
        jail.tells = seccomp.lock_and_tell(policy, line)
