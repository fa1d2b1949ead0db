"""Why a layer of the sandbox is missing on this machine, and what brings it back.

For the doctor's lines on the sandbox and on running plugins. The system's own word for a layer says little ("No space left on device"
is a limit on namespaces), so the settings that take it away are read. Sources: user_namespaces(7), unshare(2), landlock(7).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

SETTINGS = Path("/proc/sys")
_LIMIT = "user/max_user_namespaces"
_FORBIDDEN = {  # file: the value that forbids, and what to do
    "kernel/apparmor_restrict_unprivileged_userns": (
        "1",
        "AppArmor forbids user namespaces to ordinary programs; `sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
        " or a profile with `userns,` allows them",
    ),
    "kernel/unprivileged_userns_clone": (
        "0",
        "user namespaces are switched off; `sysctl kernel.unprivileged_userns_clone=1` allows them",
    ),
}


def advice(missing: Mapping[str, str], settings: Path = SETTINGS) -> str:
    """Return what to do about missing layers; `missing` maps each to the system's word for it."""
    said = []
    if "namespaces" in missing:
        said.append(_namespaces(missing["namespaces"], settings))
    if others := sorted(set(missing) - {"namespaces"}):
        said.append(f"a newer kernel, or one built with it, has {', '.join(others)}")
    return f"{'; '.join(said)} (plugins are held all the same: nothing relies on that layer)"


def _namespaces(why: str, settings: Path) -> str:
    most = _read(settings / _LIMIT)
    if most == "0":
        return "user namespaces are switched off; `sysctl user.max_user_namespaces=10000` allows them"
    if os.strerror(errno.ENOSPC) in why:
        return (
            f"all user namespaces there may be are in use ({most or 'unknown how many'}); end programs that hold some, or"
            " raise `sysctl user.max_user_namespaces`"
        )
    for name, (value, do) in _FORBIDDEN.items():
        if _read(settings / name) == value:
            return do
    if os.strerror(errno.EINVAL) in why or os.strerror(errno.ENOSYS) in why:
        return "a kernel built with user namespaces has them"
    return "the system or its container forbids user namespaces (Docker's default does)"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # a setting this kernel does not have
        return ""
