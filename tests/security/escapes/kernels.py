"""Attempts on the kernel: its lesser known doors, other ways into it, and memory that could be run."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import struct
import termios

from tests.security.escapes.calls import NUMBERS, by_number, raw, room
from tests.security.escapes.catalogue import KILLED, NOT_BUILT, ROOT, SWITCHED_OFF, attempt
from tests.security.escapes.scene import Scene

_MAYBE = (*NOT_BUILT, *SWITCHED_OFF)
_RWX = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
_X86 = platform.machine() == "x86_64"


@attempt("keyctl", expected=KILLED, lacking=(*_MAYBE, errno.EDQUOT))
def _(scene: Scene) -> None:
    raw("keyctl", 0, -2, 1)  # the own session's keyring, made where there is none


@attempt("add_key", expected=KILLED, lacking=(*_MAYBE, errno.EDQUOT))
def _(scene: Scene) -> None:
    raw("add_key", b"user", b"escape", b"x", 1, -2)


@attempt("shared memory of System V", lacking=NOT_BUILT)
def _(scene: Scene) -> None:
    ident = raw("shmget", 0, 4096, 0o1600)
    ctypes.CDLL(None).shmctl(ident, 0, None)


@attempt("semaphores of System V", lacking=NOT_BUILT)
def _(scene: Scene) -> None:
    ctypes.CDLL(None).semctl(raw("semget", 0, 1, 0o1600), 0, 0)


@attempt("messages of System V", lacking=NOT_BUILT)
def _(scene: Scene) -> None:
    ctypes.CDLL(None).msgctl(raw("msgget", 0, 0o1600), 0, None)


@attempt("a message queue", lacking=NOT_BUILT)
def _(scene: Scene) -> None:
    name = f"escape-{os.getpid()}".encode()
    os.close(raw("mq_open", name, os.O_CREAT | os.O_RDWR, 0o600, None))
    ctypes.CDLL(None).syscall(241 if _X86 else 181, name)


@attempt("a user namespace", expected=KILLED, lacking=(*_MAYBE, errno.ENOSPC, errno.EUSERS))
def _(scene: Scene) -> None:
    raw("unshare", 0x10000000)


@attempt(
    "setns", expected=KILLED, who=ROOT, lacking=SWITCHED_OFF, prepare=lambda scene: os.open("/proc/self/ns/uts", 0)
)
def _(scene: Scene) -> None:
    raw("setns", scene.prepared, 0)


@attempt("mount", expected=KILLED, who=ROOT, lacking=SWITCHED_OFF)
def _(scene: Scene) -> None:
    raw("unshare", 0x00020000)  # of its own, so that nothing is left of it
    raw("mount", b"none", b"/", None, (1 << 18) | (1 << 14), None)
    raw("mount", b"none", scene.folder.encode(), b"tmpfs", 0, None)


@attempt("mount by the newer calls", expected=KILLED, who=ROOT, lacking=_MAYBE)
def _(scene: Scene) -> None:
    raw("fsopen", b"tmpfs", 0)


@attempt("open a tree", expected=KILLED, lacking=NOT_BUILT)
def _(scene: Scene) -> None:
    raw("open_tree", -100, scene.folder.encode(), 0)


@attempt("chroot", expected=KILLED, who=ROOT, lacking=SWITCHED_OFF)
def _(scene: Scene) -> None:
    raw("chroot", scene.folder.encode())


@attempt("bpf", expected=KILLED, who=ROOT, lacking=_MAYBE)
def _(scene: Scene) -> None:
    raw("bpf", 0, struct.pack("=IIII", 2, 4, 4, 1).ljust(72, b"\0"), 72)  # an array of one


@attempt("perf_event_open", expected=KILLED, lacking=_MAYBE)
def _(scene: Scene) -> None:
    flags = 1 | 1 << 5 | 1 << 6  # disabled, exclude_kernel, exclude_hv
    raw("perf_event_open", struct.pack("=IIQQQQQ", 1, 64, 0, 0, 0, 0, flags).ljust(64, b"\0"), 0, -1, -1, 0)


@attempt("userfaultfd", expected=KILLED, lacking=_MAYBE)
def _(scene: Scene) -> None:
    raw("userfaultfd", 1)


@attempt("io_uring", expected=KILLED, lacking=(*_MAYBE, errno.ENOMEM))
def _(scene: Scene) -> None:
    raw("io_uring_setup", 4, room(120))


@attempt("personality", expected=KILLED)
def _(scene: Scene) -> None:
    raw("personality", 0x0400000)  # READ_IMPLIES_EXEC


@attempt("a filter with a listener of its own", lacking=(errno.EBUSY, *NOT_BUILT))
def _(scene: Scene) -> None:
    ctypes.CDLL(None).prctl(38, ctypes.c_ulong(1), *[ctypes.c_ulong(0)] * 3)
    allow = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000), 8)
    raw("seccomp", 1, 8, struct.pack("=H6xQ", 1, ctypes.addressof(allow)))


@attempt("a call by its x32 number", expected=KILLED, lacking=(errno.ENOSYS,))
def _(scene: Scene) -> None:
    by_number(0x40000000 | NUMBERS["getpid"])


@attempt("a call by int 0x80", expected=KILLED, lacking=(errno.ENOSYS, errno.EINVAL), prepare=lambda scene: _int_80())
def _(scene: Scene) -> None:
    answer = ctypes.CFUNCTYPE(ctypes.c_int)(_address(scene.prepared))()
    assert answer == os.getpid()


def _int_80() -> mmap.mmap:
    """Return a page that asks for the pid as a program of 32 bits would."""
    if not _X86:
        raise OSError(errno.ENOSYS, "only x86_64 has int 0x80")
    page = mmap.mmap(-1, 4096, prot=_RWX)
    page.write(bytes.fromhex("53 b8 14 00 00 00 cd 80 5b c3"))  # push rbx; mov eax, 20; int 0x80; pop rbx; ret
    return page


def _address(page: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(page))


@attempt("memory to write and run")
def _(scene: Scene) -> None:
    mmap.mmap(-1, 4096, prot=_RWX)


@attempt("memory to run")
def _(scene: Scene) -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)


@attempt("make its memory runnable", prepare=lambda scene: mmap.mmap(-1, 4096))
def _(scene: Scene) -> None:
    by_number(10 if _X86 else 226, _address(scene.prepared), 4096, _RWX)


@attempt("make its memory runnable by a key", lacking=NOT_BUILT, prepare=lambda scene: mmap.mmap(-1, 4096))
def _(scene: Scene) -> None:
    raw("pkey_mprotect", _address(scene.prepared), 4096, _RWX, -1)


@attempt("write to memory that was runnable", expected="SIGSEGV", prepare=lambda scene: mmap.mmap(-1, 4096, prot=_RWX))
def _(scene: Scene) -> None:
    ctypes.memset(_address(scene.prepared), 0xC3, 1)


@attempt("load a library that was dropped", expected="OSError")
def _(scene: Scene) -> None:
    ctypes.CDLL(scene.library)


@attempt("type into its terminal", lacking=(errno.EIO, *SWITCHED_OFF), prepare=lambda scene: os.openpty())
def _(scene: Scene) -> None:
    os.setsid()
    fcntl.ioctl(scene.prepared[1], termios.TIOCSCTTY, 0)
    fcntl.ioctl(scene.prepared[1], termios.TIOCSTI, b"x")


@attempt("take a terminal", prepare=lambda scene: os.openpty())
def _(scene: Scene) -> None:
    fcntl.ioctl(scene.prepared[1], termios.TIOCSWINSZ, bytes(8))


@attempt("memory nobody else sees", expected=KILLED, lacking=_MAYBE)
def _(scene: Scene) -> None:
    raw("memfd_secret", 0)


@attempt("read the clock's discipline", expected=KILLED)
def _(scene: Scene) -> None:
    raw("adjtimex", room(256))


@attempt("the kernel's log by syslog", expected=KILLED, lacking=_MAYBE)
def _(scene: Scene) -> None:
    raw("syslog", 10, None, 0)


@attempt("ports of the machine", expected=KILLED, who=ROOT, lacking=_MAYBE)
def _(scene: Scene) -> None:
    raw("iopl", 3)


@attempt("segments of its own", expected=KILLED, lacking=NOT_BUILT)
def _(scene: Scene) -> None:
    raw("modify_ldt", 0, room(64), 64)


@attempt("take capabilities", who=ROOT)
def _(scene: Scene) -> None:
    raw("capset", struct.pack("=Ii", 0x20080522, 0), bytes(24))


@attempt("a ruleset of its own", lacking=NOT_BUILT)
def _(scene: Scene) -> None:
    raw("landlock_create_ruleset", None, 0, 1)


@attempt("statistics of the machine")
def _(scene: Scene) -> None:
    raw("sysinfo", room(128))


@attempt(
    "share pages with others, to learn of theirs",
    lacking=(errno.EINVAL, *NOT_BUILT),
    prepare=lambda scene: mmap.mmap(-1, 4096),
)
def _(scene: Scene) -> None:
    by_number(28 if _X86 else 233, _address(scene.prepared), 4096, 12)


@attempt("a lock that lends its priority", prepare=lambda scene: mmap.mmap(-1, 4096))
def _(scene: Scene) -> None:
    by_number(202 if _X86 else 98, _address(scene.prepared), 128 | 6, 0, None)
