"""Who the process is: nobody, of no group, without a capability, and with no way back.

A daemon that runs as root starts its plugins as root; this turns them into `NOBODY` before anything else is taken away. Root of
a user namespace that knows one user alone (rootless containers) is that user by another name: there is nobody to become, and
its plugins stay what those of an ordinary user's daemon are. Source: credentials(7), capabilities(7), user_namespaces(7).
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct

from proxy.host.sandbox import kernel

NOBODY = 65534
CAPABILITIES = 64  # more than there are; dropping one that is none ends with EINVAL
ADVICE = "run the daemon as an ordinary user, or with the capabilities SETUID and SETGID"
_VERSION_3 = 0x20080522
_NO_ROOT = 0b101111  # SECBIT_NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE (and locked): uid 0 means nothing


def leave_root() -> None:
    """Give up root's groups and ids, where the process has them. Raises OSError: then a plugin must not start."""
    if (os.geteuid() != 0 and os.getuid() != 0) or is_alone():
        return
    drop_bounding_set()
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError as error:
        raise OSError(error.errno, f"root may not become {NOBODY} here ({error.strerror}); {ADVICE}") from None
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # the change of ids took it, and the namespaces need /proc/self


def is_alone() -> bool:
    """Return whether this user namespace maps one user and no other, so that no process in it can become another."""
    with open("/proc/self/uid_map") as rows:
        sizes = [int(row.split()[2]) for row in rows]
    return sum(sizes) == 1


def drop_bounding_set() -> None:
    """Drop what an exec could bring back; without CAP_SETPCAP there is nothing to drop."""
    for capability in range(CAPABILITIES):
        try:
            kernel.prctl(kernel.PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EPERM):
                return
            raise


def drop_capabilities() -> None:
    """Empty every capability set; those a user namespace gave included. Raises OSError."""
    drop_bounding_set()
    with contextlib.suppress(PermissionError):  # needs a capability; who has none gains none either
        kernel.prctl(kernel.PR_SET_SECUREBITS, _NO_ROOT)
    kernel.prctl(kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_CLEAR_ALL)
    kernel.call("capset", struct.pack("=Ii", _VERSION_3, 0), struct.pack("=6I", *[0] * 6))
