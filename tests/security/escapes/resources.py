"""Attempts to use up what everybody shares. CPU, floods and silence are the host's to hold: tests/security/test_plugins.py."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal

from tests.security.escapes.calls import raw
from tests.security.escapes.catalogue import attempt
from tests.security.escapes.scene import Scene

_MUCH = 384 * 1024 * 1024  # bytes, untouched: it is the address space that must end


@attempt("fill the heap", expected="MemoryError")
def _(scene: Scene) -> None:
    assert len(bytes(_MUCH)) == _MUCH


@attempt("fill the heap piece by piece", expected="MemoryError")
def _(scene: Scene) -> None:
    held = [bytes(1 << 24) for _ in range(24)]
    assert len(held) == 24


@attempt("map memory", expected="ENOMEM")
def _(scene: Scene) -> None:
    mmap.mmap(-1, _MUCH)


@attempt("open descriptors without end", expected="EMFILE")
def _(scene: Scene) -> None:
    for _ in range(64):
        os.dup(2)


@attempt("make pipes, for the buffers behind them")
def _(scene: Scene) -> None:
    os.pipe()


@attempt("make counters of the kernel's")
def _(scene: Scene) -> None:
    raw("eventfd2", 0, 0)


@attempt("make timers of the kernel's")
def _(scene: Scene) -> None:
    raw("timerfd_create", 1, 0)


@attempt("make event queues of the kernel's")
def _(scene: Scene) -> None:
    raw("epoll_create1", 0)


@attempt("hold memory in place", lacking=(errno.ENOMEM,), prepare=lambda scene: mmap.mmap(-1, 4096))
def _(scene: Scene) -> None:
    page = scene.prepared
    page.write(b"x")

    raw("mlock", ctypes.addressof(ctypes.c_char.from_buffer(page)), 4096)


@attempt(
    "grow a file it held",
    prepare=lambda scene: os.open(scene.path("grown"), os.O_CREAT | os.O_WRONLY),
    expected="EFBIG",
)
def _(scene: Scene) -> None:

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    assert os.write(scene.prepared, b"x" * 10) == 10


@attempt("stretch a file it held", prepare=lambda scene: os.open(scene.path("grown"), os.O_CREAT | os.O_WRONLY))
def _(scene: Scene) -> None:
    os.ftruncate(scene.prepared, 1 << 20)
