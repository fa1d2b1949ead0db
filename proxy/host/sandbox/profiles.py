"""What differs between the runtimes in the same jail: how memory is bounded, whether threads exist, which calls are allowed.

`PYTHON` locks itself whole. `DENO` is a program of its own: `deno_launch` sets every layer but the filter and execs it, and our
own module in it puts the filter on all threads before the first byte of the plugin is read (proxy/host/javascript/lock.js).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proxy.host.sandbox.policy import Policy, deno_policy, python_policy


@dataclass(frozen=True)
class Profile:
    """`policy` is called in the process it is for; `address_space`: whether RLIMIT_AS bounds memory beside RLIMIT_DATA."""

    name: str
    policy: Callable[[], Policy]
    address_space: bool = True
    threads: int = 0


PYTHON = Profile("python", python_policy)
DENO = Profile("deno", deno_policy, address_space=False, threads=4096)  # V8 reserves far more than it uses
