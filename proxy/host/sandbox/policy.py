"""Which system calls a plugin may make: the allow-list, what is allowed by its arguments, and the tripwires.

Data alone, turned into a filter by `bpf`. Whatever is in none of the three answers EPERM, as if the kernel had refused it. A
tripwire is what no honest program in a pipe ever calls: it ends the process, so that the host can say who tried what.
Nothing here opens, names or inherits a path, a socket, a process or executable memory; that is the whole idea
(plugin.md, "Sandbox"). `clone3` answers ENOSYS, for C libraries fall back to clone only then.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field

_ALLOWED = """
    read write readv writev close close_range lseek fstat dup dup2 dup3
    poll ppoll select pselect6 epoll_wait epoll_pwait epoll_pwait2 epoll_ctl
    brk munmap mremap msync set_robust_list set_tid_address rseq
    rt_sigreturn rt_sigprocmask rt_sigaction rt_sigpending rt_sigsuspend rt_sigtimedwait sigaltstack pause
    restart_syscall exit exit_group sched_yield getcpu getrandom getrusage getcwd uname
    nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times getitimer
    getpid gettid getppid getpgrp getuid geteuid getgid getegid getresuid getresgid getgroups
"""
ALLOWED = tuple(_ALLOWED.split())

_TRIPWIRES = """
    ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp execve execveat
    bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register add_key request_key keyctl
    mount umount2 pivot_root chroot unshare setns open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr
    name_to_handle_at open_by_handle_at fanotify_init init_module finit_module delete_module kexec_load kexec_file_load
    reboot swapon swapoff acct quotactl syslog vhangup sethostname setdomainname settimeofday clock_settime adjtimex
    clock_adjtime personality iopl ioperm modify_ldt memfd_secret
"""
TRIPWIRES = tuple(_TRIPWIRES.split())

PROT_EXEC = 4
_A_THREAD = 0x3D0F00  # what pthread_create asks for: everything shared with the process it is of
_PROCESSORS = "sched_getaffinity"
_PRIORITY = {
    "sched_getparam": 0,
    "sched_getscheduler": 0,
}  # not made, and answered as for an ordinary process: V8's locks ask
_NAME_A_THREAD, _NAME_MEMORY, _NEVER_DUMPED = 15, 0x53564D41, 16
_FCNTL = (
    0,
    1,
    2,
    3,
    4,
    1030,
)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC; never owner, signal, lease or pipe size
_IOCTL = (0x5401, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS (isatty), FIONREAD, FIONBIO, FIONCLEX, FIOCLEX


_MADVISE = (
    0,
    1,
    2,
    3,
    4,
    8,
    14,
    15,
)  # how it will be used, or that it is not; never merging, which tells of others' pages
_FUTEX, _FUTEX_OPERATION = (0, 1, 3, 4, 5, 9, 10), 0x7F  # waiting, waking, moving; never priority inheritance


@dataclass(frozen=True)
class Argument:
    """A condition on one argument: `value & mask` is one of `values`. `wide`: all 64 bits count, for pointers."""

    index: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    wide: bool = False


@dataclass(frozen=True)
class Policy:
    """What a filter is made of. `errors`: calls that answer another error than EPERM; 0: success."""

    allowed: tuple[str, ...]
    conditional: dict[str, Argument]
    tripwires: tuple[str, ...]
    errors: dict[str, int] = field(default_factory=lambda: {"clone3": errno.ENOSYS})


def python_policy() -> Policy:
    """Return what a Python plugin may call; made in the process it is for, whose own number is part of it."""
    own = Argument(0, (os.getpid(),))
    no_address = Argument(4, (0,), wide=True)  # with one, a datagram could go to any socket with a path
    return Policy(
        allowed=ALLOWED,
        conditional={
            "mmap": Argument(2, (0,), PROT_EXEC),
            "mprotect": Argument(2, (0,), PROT_EXEC),
            "madvise": Argument(2, _MADVISE),
            "futex": Argument(1, _FUTEX, _FUTEX_OPERATION),
            "fcntl": Argument(1, _FCNTL),
            "ioctl": Argument(1, _IOCTL),
            "sendto": no_address,
            "recvfrom": no_address,
            "kill": own,
            "tgkill": own,
            "sched_getaffinity": Argument(0, (0, os.getpid())),
        },
        tripwires=TRIPWIRES,
    )


def deno_policy() -> Policy:
    """Return what an npm plugin may call once deno has started: as a Python plugin, and threads, which V8 lives on.

    A thread is `clone` with exactly the flags of one; a process has others. The C library asks each thread for its processors
    when it looks for its stack, and goes on without them only after ENOSYS. Made in the process it is for.
    """
    python = python_policy()
    threads = {
        "clone": Argument(0, (_A_THREAD,)),
        "prctl": Argument(0, (_NAME_A_THREAD, _NAME_MEMORY)),
        "madvise": Argument(2, (*_MADVISE, _NEVER_DUMPED)),
    }
    conditional = {name: argument for name, argument in (python.conditional | threads).items() if name != _PROCESSORS}
    return Policy(
        python.allowed, conditional, python.tripwires, {**python.errors, **_PRIORITY, _PROCESSORS: errno.ENOSYS}
    )
