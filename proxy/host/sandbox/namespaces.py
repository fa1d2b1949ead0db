"""A root of its own with nothing in it, by namespaces of its own: user, mount, network, IPC, host name, cgroup.

Taken where the system lets an ordinary process have them; in a default Docker container it does not, and the layers after
this one hold alone. Must run before the process becomes undumpable: /proc/self/uid_map would be root's. Source:
user_namespaces(7), pivot_root(2).
"""

from __future__ import annotations

import os

from proxy.host.sandbox import kernel

_USER, _MOUNT, _IPC, _NETWORK, _HOST_NAME, _CGROUP = (1 << bit for bit in (28, 17, 27, 30, 26, 25))
_PRIVATE, _RECURSIVE, _DETACH = 1 << 18, 1 << 14, 2
_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_EXEC, _REMOUNT = 1, 2, 4, 8, 32
_ROOT = b"/proc"  # a folder that is there wherever uid_map is; the empty file system covers it


def lock() -> None:
    """Move into namespaces of its own and leave every path behind. Raises OSError; the process is then still as safe as before."""
    _enter()
    kernel.libc("mount", b"none", b"/", None, _PRIVATE | _RECURSIVE, None)
    flags = _NO_SUID | _NO_DEVICES | _NO_EXEC
    kernel.libc("mount", b"none", _ROOT, b"tmpfs", flags, b"size=4k,nr_inodes=2,mode=555")
    kernel.libc("mount", b"none", _ROOT, None, flags | _READ_ONLY | _REMOUNT, None)
    os.chdir(_ROOT)
    kernel.call("pivot_root", b".", b".")
    kernel.libc("umount2", b".", _DETACH)
    os.chdir("/")


def lock_but_paths() -> None:
    """Move into namespaces of its own that keep the system's files, for a program that has to be loaded yet. Raises OSError."""
    _enter()


def _enter() -> None:
    user, group = os.getuid(), os.getgid()
    kernel.call("unshare", _USER | _MOUNT | _IPC | _NETWORK | _HOST_NAME | _CGROUP)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/gid_map", f"{group} {group} 1")
    _write("/proc/self/uid_map", f"{user} {user} 1")
    kernel.call("sethostname", b"plugin", 6)


def _write(path: str, text: str) -> None:
    opened = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(opened, text.encode())
    finally:
        os.close(opened)
