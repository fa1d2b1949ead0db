"""The filter, run by an interpreter of our own: every call of every table decided as the policy says, on both architectures."""

from __future__ import annotations

import errno
import os
import re
import struct
from pathlib import Path

import pytest

from proxy.host.sandbox import bpf
from proxy.host.sandbox.policy import Policy, deno_policy, python_policy
from proxy.host.sandbox.syscalls import ARCHITECTURES, Architecture
from tests.conftest import need

EPERM = bpf.ERRNO | errno.EPERM
BOTH = pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)


def decide(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """Run a filter over one call, as the kernel does."""
    data = struct.pack("=iIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    accumulator, at = 0, 0
    while True:
        code, when_true, when_false, operand = struct.unpack_from("=HBBI", program, at * 8)
        at += 1
        if code == bpf.LOAD:
            (accumulator,) = struct.unpack_from("=I", data, operand)
        elif code == bpf.AND:
            accumulator &= operand
        elif code == bpf.EQUAL:
            at += when_true if accumulator == operand else when_false
        elif code == bpf.GREATER_OR_EQUAL:
            at += when_true if accumulator >= operand else when_false
        else:
            assert code == bpf.RETURN
            return int(operand)


@BOTH
def test_each_call_is_decided_as_the_policy_says(architecture: Architecture) -> None:
    policy = python_policy()
    program = bpf.jail_filter(policy, architecture)
    assert len(program) // 8 < 4096  # what the kernel takes
    known = {architecture.numbers[name]: bpf.ALLOW for name in policy.allowed if name in architecture.numbers}
    known |= {architecture.numbers[name]: bpf.KILL_PROCESS for name in policy.tripwires if name in architecture.numbers}
    known[architecture.numbers["clone3"]] = bpf.ERRNO | errno.ENOSYS
    conditional = {architecture.numbers[name] for name in policy.conditional}
    for number in set(range(600)) - conditional:
        assert decide(program, architecture.audit, number) == known.get(number, EPERM), number


@BOTH
@pytest.mark.parametrize(
    ("name", "arguments", "allowed"),
    [
        ("mmap", (0, 4096, 3, 0x22), True),
        ("mmap", (0, 4096, 7, 0x22), False),
        ("mmap", (0, 4096, 4 | 1 << 40, 0x22), False),
        ("mprotect", (4096, 4096, 1), True),
        ("mprotect", (4096, 4096, 5), False),
        ("fcntl", (0, 3), True),
        ("fcntl", (0, 3 | 1 << 32), True),  # the kernel looks at the low half alone
        ("fcntl", (0, 8), False),
        ("fcntl", (0, 10), False),
        ("fcntl", (0, 1031), False),
        ("ioctl", (0, 0x5421), True),
        ("ioctl", (0, 0x5412), False),
        ("ioctl", (0, 0x5412 | 1 << 32), False),
        ("sendto", (0, 0, 1, 0, 0), True),
        ("sendto", (0, 0, 1, 0, 0x7000), False),
        ("sendto", (0, 0, 1, 0, 1 << 32), False),
        ("recvfrom", (0, 0, 1, 0, 1 << 32), False),
        ("kill", (os.getpid(), 9), True),
        ("kill", (os.getppid(), 9), False),
        ("kill", (0, 9), False),
        ("kill", (0xFFFFFFFF, 9), False),
        ("tgkill", (os.getpid(), 1, 9), True),
        ("tgkill", (1, 1, 9), False),
        ("sched_getaffinity", (0,), True),
        ("madvise", (0, 4096, 4), True),
        ("madvise", (0, 4096, 12), False),
        ("futex", (0, 128), True),
        ("futex", (0, 128 | 256 | 9), True),
        ("futex", (0, 128 | 6), False),
        ("futex", (0, 12), False),
        ("sched_getaffinity", (1,), False),
    ],
)
def test_what_is_allowed_by_its_arguments(
    architecture: Architecture, name: str, arguments: tuple[int, ...], allowed: bool
) -> None:
    program = bpf.jail_filter(python_policy(), architecture)
    found = decide(program, architecture.audit, architecture.numbers[name], *arguments)
    assert found == (bpf.ALLOW if allowed else EPERM)


@BOTH
def test_another_architectures_numbers_end_the_process(architecture: Architecture) -> None:
    for program in (
        bpf.jail_filter(python_policy(), architecture),
        bpf.tripwire_filter(python_policy(), architecture),
    ):
        for foreign in (0x40000003, 0x40000028, *(a.audit for a in ARCHITECTURES.values() if a is not architecture)):
            assert decide(program, foreign, architecture.numbers["read"]) == bpf.KILL_PROCESS
        for number in (bpf.X32, bpf.X32 | architecture.numbers["read"], 0xFFFFFFF):
            assert decide(program, architecture.audit, number | bpf.X32) == bpf.KILL_PROCESS


@BOTH
def test_with_a_listener_the_two_filters_together_let_no_tripwire_pass(architecture: Architecture) -> None:
    policy = python_policy()
    telling = bpf.tripwire_filter(policy, architecture)
    for name, number in architecture.numbers.items():
        expected = bpf.NOTIFY if name in policy.tripwires else bpf.ALLOW
        assert decide(telling, architecture.audit, number) == expected
    assert (
        decide(telling, architecture.audit, architecture.numbers["seccomp"]) == bpf.ALLOW
    )  # the second filter comes by it


def test_nothing_is_in_two_lists_and_everything_is_in_the_tables() -> None:
    policy = python_policy()
    names = [*policy.allowed, *policy.conditional, *policy.tripwires, *policy.errors]
    assert len(names) == len(set(names))
    for name in names:
        assert any(name in architecture.numbers for architecture in ARCHITECTURES.values()), name
    assert len(policy.allowed) <= 70
    assert isinstance(policy, Policy)


@BOTH
def test_an_npm_plugin_may_make_threads_and_no_process(architecture: Architecture) -> None:
    program = bpf.jail_filter(deno_policy(), architecture)

    def answer(name: str, *arguments: int) -> int:
        return decide(program, architecture.audit, architecture.numbers[name], *arguments)

    assert answer("clone", 0x3D0F00) == bpf.ALLOW
    for flags in (0, 17, 0x3D0F00 | 0x10000000, 0x3D0F00 & ~0x10000, 0x4000 | 17):
        assert answer("clone", flags) == EPERM, hex(flags)
    assert answer("clone3") == bpf.ERRNO | errno.ENOSYS
    assert answer("prctl", 15) == bpf.ALLOW
    for option in (1, 4, 22, 38, 24):
        assert answer("prctl", option) == EPERM
    for name in ("openat", "socket", "seccomp", "landlock_add_rule"):
        assert answer(name) == EPERM
    for name in ("execve", "execveat", "ptrace", "mount"):
        assert answer(name) == bpf.KILL_PROCESS
    assert answer("mmap", 0, 4096, 7, 0x22) == answer("mprotect", 0, 4096, 5) == EPERM


HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


@BOTH
def test_the_numbers_are_the_kernels(architecture: Architecture) -> None:
    header = HEADERS[architecture.name]
    need(header.exists(), f"the kernel's headers ({header})")
    rows = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
    found = {name: int(rows[name]) for name in architecture.numbers if name in rows}
    assert found == {name: architecture.numbers[name] for name in found}
    assert len(found) > 100
