"""The allocator is told how much to keep, in a process of its own; where it cannot be told, nothing breaks."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from proxy.app.allocator import KEPT, OF_THEIR_OWN, keep_freed_memory

PROBE = """
from pathlib import Path
from proxy.app.allocator import keep_freed_memory
assert keep_freed_memory()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
def use(size):
    held = [bytes(size) for _ in range(4)]
    for one in held:
        memoryview(one).tobytes()
    del held
before = resident()
for _ in range(20):
    use(8 * 1024 * 1024)
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps its own ways")
def test_what_is_kept_is_bounded() -> None:
    said = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert int(said.stdout) <= KEPT + OF_THEIR_OWN


def test_a_library_without_the_setting_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not keep_freed_memory()
