"""The attempts by name, and what each is expected to meet in the jail. The modules beside this one fill it by importing it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.security.escapes.scene import Scene

KILLED = "SIGSYS"
ANYBODY, ROOT, NOBODY = "anybody", "root", "nobody"


@dataclass(frozen=True)
class Attempt:
    """`work` returns when it got through and raises when not; `prepare` runs before the lock.

    `expected`: how the jail must answer: the name of an errno or of an exception, or `KILLED`. `who` succeeds without the jail;
    `lacking`: errors that mean this machine has not what it needs (no module, switched off), and then `why`.
    """

    name: str
    work: Callable[[Scene], object]
    expected: str = "EPERM"
    who: str = ANYBODY
    lacking: tuple[int, ...] = ()
    why: str = ""
    prepare: Callable[[Scene], Any] | None = None


ATTEMPTS: dict[str, Attempt] = {}

NOT_BUILT = (errno.ENOSYS, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ENODEV, errno.ENOENT, errno.EOPNOTSUPP)
SWITCHED_OFF = (errno.EPERM, errno.EACCES)


def attempt(name: str, **more: Any) -> Callable[[Callable[[Scene], object]], Callable[[Scene], object]]:
    """Enter a function as an attempt."""

    def enter(work: Callable[[Scene], object]) -> Callable[[Scene], object]:
        assert name not in ATTEMPTS, name
        ATTEMPTS[name] = Attempt(name, work, **more)
        return work

    return enter
