"""A seccomp filter as bytes: the architecture first, then one comparison after the other, a refusal at the end.

Every block ends in a return, so no jump is longer than its block. The kernel remembers which numbers are always allowed
(5.11), so the order costs nothing. Source: Linux `include/uapi/linux/{bpf_common,filter,seccomp}.h`, seccomp(2).
"""

from __future__ import annotations

import errno
import struct

from proxy.host.sandbox.policy import Argument, Policy
from proxy.host.sandbox.syscalls import Architecture

LOAD, EQUAL, AND, RETURN, GREATER_OR_EQUAL = 0x20, 0x15, 0x54, 0x06, 0x35
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16  # struct seccomp_data
KILL_PROCESS, ERRNO, NOTIFY, ALLOW = 0x80000000, 0x00050000, 0x7FC00000, 0x7FFF0000
X32 = 0x40000000

Instruction = bytes


def jail_filter(policy: Policy, architecture: Architecture, *, tripwires: int = KILL_PROCESS) -> bytes:
    """Return the program of a policy. `tripwires`: what they answer; ALLOW only under a filter that notifies the host of them."""
    numbers = architecture.numbers
    program = _right_architecture(architecture)
    for name in policy.allowed:
        if name in numbers:
            program += _when(numbers[name], [_return(ALLOW)])
    for name, argument in policy.conditional.items():
        program += _when(numbers[name], _if_argument(argument))
    for name in policy.tripwires:
        if name in numbers:
            program += _when(numbers[name], [_return(tripwires)])
    for name, error in policy.errors.items():
        program += _when(numbers[name], [_return(ERRNO | error)])
    return b"".join([*program, _return(ERRNO | errno.EPERM)])


def tripwire_filter(policy: Policy, architecture: Architecture) -> bytes:
    """Return a program that tells the listener of every tripwire and leaves all else to the filters beside it."""
    program = _right_architecture(architecture)
    for name in policy.tripwires:
        if name in architecture.numbers:
            program += _when(architecture.numbers[name], [_return(NOTIFY)])
    return b"".join([*program, _return(ALLOW)])


def _right_architecture(architecture: Architecture) -> list[Instruction]:
    """Kill calls by another architecture's numbers; x32 is x86_64 with a bit set in the number."""
    return [
        _instruction(LOAD, ARCHITECTURE_AT),
        _instruction(EQUAL, architecture.audit, 1, 0),
        _return(KILL_PROCESS),
        _instruction(LOAD, NUMBER_AT),
        _instruction(GREATER_OR_EQUAL, X32, 0, 1),
        _return(KILL_PROCESS),
    ]


def _when(number: int, block: list[Instruction]) -> list[Instruction]:
    return [_instruction(EQUAL, number, 0, len(block)), *block]


def _if_argument(argument: Argument) -> list[Instruction]:
    """Allow when the argument is one of the values, else EPERM; little-endian, which both architectures are."""
    low = ARGUMENTS_AT + 8 * argument.index
    refusal = _return(ERRNO | errno.EPERM)
    block: list[Instruction] = []
    if argument.wide:
        block += [_instruction(LOAD, low + 4), _instruction(EQUAL, 0, 1, 0), refusal]
    block += [_instruction(LOAD, low), _instruction(AND, argument.mask)]
    for value in argument.values:
        block += [_instruction(EQUAL, value, 0, 1), _return(ALLOW)]
    return [*block, refusal]


def _return(action: int) -> Instruction:
    return _instruction(RETURN, action)


def _instruction(code: int, operand: int, when_true: int = 0, when_false: int = 0) -> Instruction:
    return struct.pack("=HBBI", code, when_true, when_false, operand)
