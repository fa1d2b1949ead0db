"""What differs between the runtimes in the same jail: how memory is bounded, whether threads exist, which calls are allowed.

`PYTHON` is the one profile so far. Another runtime that is a program of its own (deno) is a second row here, and this is
where it joins: the launcher locks and then execs it. For that a profile needs
- `address_space=False` (V8 reserves far more than it uses: RLIMIT_DATA bounds it) and `threads` above 0;
- a policy with `clone` by argument: exactly the flags of a thread (0x3D0F00), clone3 staying ENOSYS;
- the program and its libraries after the lock: opened read-only by Landlock rules (`landlock.lock` taking descriptors opened
  before it) and bind-mounted read-only into the private root, and `openat` by argument, O_RDONLY alone;
- `execveat` once. The listener of the tripwires gives it: `tripwires.Watch` answers the first execveat, which is made before
  any foreign byte was read, with SECCOMP_USER_NOTIF_FLAG_CONTINUE, and ends the process at the second.
The entry stays ours: a loader that reads the plugin's bundle from standard input after the exec.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proxy.host.sandbox.policy import Policy, python_policy


@dataclass(frozen=True)
class Profile:
    """`policy` is called in the process it is for; `address_space`: whether RLIMIT_AS bounds memory beside RLIMIT_DATA."""

    name: str
    policy: Callable[[], Policy]
    address_space: bool = True
    threads: int = 0


PYTHON = Profile("python", python_policy)
