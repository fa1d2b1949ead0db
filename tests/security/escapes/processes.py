"""Attempts on processes: to start one, to look into one, to disturb one, to become somebody else."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import signal
import struct
import subprocess
import threading

from tests.security.escapes.calls import raw, room
from tests.security.escapes.catalogue import KILLED, NOT_BUILT, ROOT, SWITCHED_OFF, attempt
from tests.security.escapes.scene import SECRET, Scene

_YAMA = (errno.EPERM,)  # where only a parent may trace
_SAY_DONE = ["/bin/echo", "done"]
_F_SETSIG, _F_SETPIPE_SZ = 10, 1031


def _leave(pid: int) -> None:
    """End the child; collect it in the parent."""
    if pid == 0:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


@attempt("fork")
def _(scene: Scene) -> None:
    _leave(os.fork())


@attempt("clone by hand")
def _(scene: Scene) -> None:
    _leave(raw("clone", signal.SIGCHLD, 0, 0, 0, 0))


@attempt("clone3", expected="ENOSYS")
def _(scene: Scene) -> None:
    _leave(raw("clone3", struct.pack("=8Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0), 64))


@attempt("start a thread", expected="RuntimeError")
def _(scene: Scene) -> None:
    threading.Thread(target=lambda: None).start()


@attempt("subprocess")
def _(scene: Scene) -> None:
    subprocess.run(["/bin/true"], check=True)


@attempt("posix_spawn")
def _(scene: Scene) -> None:
    assert os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1] == 0


@attempt("execve", expected=KILLED)
def _(scene: Scene) -> None:
    os.dup2(scene.answer, 1)
    os.execv(_SAY_DONE[0], _SAY_DONE)  # noqa: S606


@attempt("execveat of a file in memory it held", expected=KILLED, prepare=lambda scene: _program_in_memory())
def _(scene: Scene) -> None:
    os.dup2(scene.answer, 1)
    pointers = (ctypes.c_char_p * 3)(b"/bin/echo", b"done", None)
    raw("execveat", scene.prepared, b"", ctypes.addressof(pointers), None, 0x1000)


def _program_in_memory() -> int:
    held = os.memfd_create("program")
    with open("/bin/echo", "rb") as file:
        os.write(held, file.read())
    return held


@attempt("signal another process")
def _(scene: Scene) -> None:
    os.kill(scene.victim, signal.SIGTERM)  # which it ignores


@attempt("signal the host", who=ROOT)
def _(scene: Scene) -> None:
    os.kill(os.getppid(), 0)


@attempt("signal everybody")
def _(scene: Scene) -> None:
    os.kill(-1, 0)


@attempt("signal its group")
def _(scene: Scene) -> None:
    os.kill(0, 0)


@attempt("tgkill")
def _(scene: Scene) -> None:
    raw("tgkill", scene.victim, scene.victim, signal.SIGTERM)


@attempt("queue a signal")
def _(scene: Scene) -> None:
    described = struct.pack("=iii4xiI", signal.SIGTERM, 0, -1, os.getpid(), os.getuid()).ljust(128, b"\0")
    raw("rt_sigqueueinfo", scene.victim, signal.SIGTERM, described)


@attempt("signal by pidfd it held", prepare=lambda scene: os.pidfd_open(scene.victim))
def _(scene: Scene) -> None:
    raw("pidfd_send_signal", scene.prepared, signal.SIGTERM, None, 0)


@attempt("pidfd_open")
def _(scene: Scene) -> None:
    os.pidfd_open(scene.victim)


@attempt("pidfd_getfd", expected=KILLED, lacking=_YAMA, prepare=lambda scene: os.pidfd_open(scene.victim))
def _(scene: Scene) -> None:
    raw("pidfd_getfd", scene.prepared, 0, 0)


@attempt("ptrace", expected=KILLED, lacking=_YAMA)
def _(scene: Scene) -> None:
    raw("ptrace", 0x4206, scene.victim, 0, 0)


@attempt("process_vm_readv", expected=KILLED, lacking=_YAMA)
def _(scene: Scene) -> None:
    into = room(len(SECRET))
    here = struct.pack("=QQ", ctypes.addressof(into), len(SECRET))
    raw("process_vm_readv", scene.victim, here, 1, struct.pack("=QQ", scene.secret_at, len(SECRET)), 1, 0)
    assert into.raw == SECRET


@attempt("process_vm_writev", expected=KILLED, lacking=_YAMA)
def _(scene: Scene) -> None:
    kept = ctypes.create_string_buffer(SECRET)
    here = struct.pack("=QQ", ctypes.addressof(kept), len(SECRET))
    raw("process_vm_writev", scene.victim, here, 1, struct.pack("=QQ", scene.secret_at, len(SECRET)), 1, 0)


@attempt("kcmp", expected=KILLED, lacking=(*NOT_BUILT, *_YAMA))
def _(scene: Scene) -> None:
    raw("kcmp", os.getpid(), scene.victim, 1, 0, 0)


@attempt("read another's memory by /proc", lacking=(errno.EACCES, errno.EPERM))
def _(scene: Scene) -> None:
    assert os.pread(os.open(f"/proc/{scene.victim}/mem", os.O_RDONLY), len(SECRET), scene.secret_at) == SECRET


@attempt("write its own memory by /proc")
def _(scene: Scene) -> None:
    kept = ctypes.create_string_buffer(b"before")
    os.pwrite(os.open("/proc/self/mem", os.O_RDWR), b"after!", ctypes.addressof(kept))
    assert kept.value == b"after!"


def _proc(name: str) -> str:
    with open(f"/proc/{name}", "rb") as file:
        return file.read().decode("utf-8", "replace")


@attempt("read its own environment from /proc")
def _(scene: Scene) -> None:
    _proc("self/environ")


@attempt("read another's environment")
def _(scene: Scene) -> None:
    _proc(f"{scene.victim}/environ")


@attempt("read the host's command line")
def _(scene: Scene) -> None:
    assert "python" in _proc(f"{os.getppid()}/cmdline")


@attempt("read another's memory map")
def _(scene: Scene) -> None:
    assert "r-x" in _proc(f"{scene.victim}/maps")


@attempt("list another's descriptors")
def _(scene: Scene) -> None:
    os.listdir(f"/proc/{scene.victim}/fd")


@attempt("list the processes")
def _(scene: Scene) -> None:
    assert str(scene.victim) in os.listdir("/proc")


@attempt("ask for another's session")
def _(scene: Scene) -> None:
    os.getsid(scene.victim)  # 0 where its leader is outside this container: an answer all the same


@attempt("ask for another's group")
def _(scene: Scene) -> None:
    os.getpgid(scene.victim)  # as above


@attempt("ask where another may run")
def _(scene: Scene) -> None:
    assert os.sched_getaffinity(scene.victim)


@attempt("say where another may run")
def _(scene: Scene) -> None:
    os.sched_setaffinity(scene.victim, os.sched_getaffinity(0))


@attempt("lower another's priority")
def _(scene: Scene) -> None:
    os.setpriority(os.PRIO_PROCESS, scene.victim, 19)


@attempt("run as real time", who=ROOT, lacking=SWITCHED_OFF)
def _(scene: Scene) -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


@attempt("read another's limits")
def _(scene: Scene) -> None:
    resource.prlimit(scene.victim, resource.RLIMIT_NOFILE)


@attempt("set another's limits")
def _(scene: Scene) -> None:
    resource.prlimit(scene.victim, resource.RLIMIT_CORE, (0, 0))


@attempt("set its own limits")
def _(scene: Scene) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 16), hard))


@attempt("let a pipe's news go to another", prepare=lambda scene: os.pipe())
def _(scene: Scene) -> None:
    fcntl.fcntl(scene.prepared[0], fcntl.F_SETOWN, scene.victim)


@attempt("choose the signal of a pipe's news", prepare=lambda scene: os.pipe())
def _(scene: Scene) -> None:
    fcntl.fcntl(scene.prepared[0], _F_SETSIG, signal.SIGTERM)


@attempt("widen a pipe", prepare=lambda scene: os.pipe())
def _(scene: Scene) -> None:
    fcntl.fcntl(scene.prepared[0], _F_SETPIPE_SZ, 1 << 18)


@attempt("become another user", who=ROOT)
def _(scene: Scene) -> None:
    os.setresuid(12345, 12345, 12345)


@attempt("become another group", who=ROOT)
def _(scene: Scene) -> None:
    os.setgroups([0])


@attempt("leave its session")
def _(scene: Scene) -> None:
    os.setsid()


@attempt("outlive the host")
def _(scene: Scene) -> None:
    raw("prctl", 1, 0, 0, 0, 0)  # PR_SET_PDEATHSIG


@attempt("be dumpable again")
def _(scene: Scene) -> None:
    raw("prctl", 4, 1, 0, 0, 0)  # PR_SET_DUMPABLE


@attempt("hide behind another name")
def _(scene: Scene) -> None:
    raw("prctl", 15, b"kworker/0:1\0", 0, 0, 0)  # PR_SET_NAME


@attempt("take its host name", who=ROOT, expected=KILLED, lacking=SWITCHED_OFF)
def _(scene: Scene) -> None:
    name = os.uname().nodename.encode()
    raw("sethostname", name, len(name))


@attempt("a timer of the kernel's")
def _(scene: Scene) -> None:
    raw("timer_create", 1, None, room(8))
