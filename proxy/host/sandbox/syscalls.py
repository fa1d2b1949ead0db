"""System call numbers of the two architectures the sandbox knows: x86_64 and aarch64.

A table and nothing else, read by the filter (names to numbers) and by the host (numbers to names). `-` stands for a call the
architecture does not have. Source: Linux `arch/x86/entry/syscalls/syscall_64.tbl` and `include/uapi/asm-generic/unistd.h`;
tests/host/sandbox compares it with the headers of the machine where there are any.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

_TABLE = """
acct 163 89                    add_key 248 217                adjtimex 159 171               bpf 321 280
brk 12 214                     capset 126 91                  chroot 161 51                  clock_adjtime 305 266
clock_getres 229 114           clock_gettime 228 113          clock_nanosleep 230 115        clock_settime 227 112
clone 56 220                   clone3 435 435                 close 3 57                     close_range 436 436
delete_module 176 106          dup 32 23                      dup2 33 -                      dup3 292 24
epoll_ctl 233 21               epoll_pwait 281 22             epoll_pwait2 441 441           epoll_wait 232 -
execve 59 221                  execveat 322 281               exit 60 93                     exit_group 231 94
fanotify_init 300 262          fcntl 72 25                    finit_module 313 273           fsconfig 431 431
fsmount 432 432                fsopen 430 430                 fspick 433 433                 fstat 5 80
futex 202 98                   getcpu 309 168                 getcwd 79 17                   getegid 108 177
geteuid 107 175                getgid 104 176                 getgroups 115 158              getitimer 36 102
getpgrp 111 -                  getpid 39 172                  getppid 110 173                getrandom 318 278
getresgid 120 150              getresuid 118 148              getrusage 98 165               gettid 186 178
gettimeofday 96 169            getuid 102 174                 init_module 175 105            io_uring_enter 426 426
io_uring_register 427 427      io_uring_setup 425 425         ioctl 16 29                    ioperm 173 -
iopl 172 -                     kcmp 312 272                   kexec_file_load 320 294        kexec_load 246 104
keyctl 250 219                 kill 62 129                    landlock_create_ruleset 444 444   landlock_restrict_self 446 446
lseek 8 62                     madvise 28 233                 membarrier 324 283             memfd_secret 447 447
mmap 9 222                     modify_ldt 154 -               mount 165 40                   mount_setattr 442 442
move_mount 429 429             mprotect 10 226                mremap 25 216                  msync 26 227
munmap 11 215                  name_to_handle_at 303 264      nanosleep 35 101               open_by_handle_at 304 265
open_tree 428 428              pause 34 -                     perf_event_open 298 241        personality 135 92
pidfd_getfd 438 438            pivot_root 155 41              poll 7 -                       ppoll 271 73
process_madvise 440 440        process_vm_readv 310 270       process_vm_writev 311 271      pselect6 270 72
ptrace 101 117                 quotactl 179 60                read 0 63                      readv 19 65
reboot 169 142                 recvfrom 45 207                request_key 249 218            restart_syscall 219 128
sched_getparam 143 121         sched_getscheduler 145 120
rseq 334 293                   rt_sigaction 13 134            rt_sigpending 127 136          rt_sigprocmask 14 135
rt_sigreturn 15 139            rt_sigsuspend 130 133          rt_sigtimedwait 128 137        sched_getaffinity 204 123
sched_yield 24 124             seccomp 317 277                select 23 -                    sendto 44 206
set_robust_list 273 99         set_tid_address 218 96         setdomainname 171 162          sethostname 170 161
setns 308 268                  settimeofday 164 170           sigaltstack 131 132            swapoff 168 225
swapon 167 224                 syslog 103 116                 tgkill 234 131                 time 201 -
times 100 153                  umount2 166 39                 uname 63 160                   unshare 272 97
userfaultfd 323 282            vhangup 153 58                 write 1 64                     writev 20 66
landlock_add_rule 445 445      openat 257 56                  prctl 157 167                  socket 41 198
arch_prctl 158 -               epoll_create1 291 20           eventfd2 290 19                pipe2 293 59
"""


@dataclass(frozen=True)
class Architecture:
    """`audit`: what seccomp calls it; `numbers`: name to number of every call the sandbox has an opinion of."""

    name: str
    audit: int
    numbers: dict[str, int]

    def name_of(self, number: int) -> str:
        """Return the name of a call, or its number as text."""
        return next((name for name, known in self.numbers.items() if known == number), f"system call {number}")


def _column(position: int) -> dict[str, int]:
    words = _TABLE.split()
    rows = (words[start : start + 3] for start in range(0, len(words), 3))
    return {row[0]: int(row[position]) for row in rows if row[position] != "-"}


ARCHITECTURES = {
    "x86_64": Architecture("x86_64", 0xC000003E, _column(1)),
    "aarch64": Architecture("aarch64", 0xC00000B7, _column(2)),
}


def architecture() -> Architecture | None:
    """Return this machine's, None where the sandbox does not know it."""
    if not sys.platform.startswith("linux") or sys.maxsize < 1 << 32:
        return None
    return ARCHITECTURES.get(os.uname().machine)
