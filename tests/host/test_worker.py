"""Computations in a process of their own: what ends one, and that a busy machine does not."""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from proxy.host.services.worker import TooSlow, Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker(os.getpid)
    yield worker
    worker.close()


async def test_one_that_computes_too_long_is_ended_and_the_next_finds_another(worker: Worker) -> None:
    first = await worker.run(os.getpid)
    with pytest.raises(TooSlow):
        await worker.run(pow, 7, 1 << 30)
    assert await worker.run(os.getpid) != first


async def test_one_that_has_to_wait_for_the_machine_is_not(worker: Worker) -> None:
    """Only what it computes counts: a second of the wall was over where a machine had other things to do."""
    first = await worker.run(os.getpid)
    assert await worker.run(time.sleep, 1.5) is None
    assert await worker.run(os.getpid) == first


def test_one_that_waits_ends_also_where_the_daemon_has_gone() -> None:
    """Waiting computes nothing, and who would end it for that had been killed: it stayed for good."""
    code = "from proxy.host.services import worker; worker.WALL = 0.2; worker.serve()"
    jobs = [pickle.dumps((os.getpid, ())), pickle.dumps((time.sleep, (3600,)))]
    asked = b"".join(struct.pack(">I", len(job)) + job for job in jobs)
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        assert process.stdin is not None
        process.stdin.write(asked)
        process.stdin.close()
        assert process.wait(60) == -signal.SIGALRM
    finally:
        process.kill()
        process.wait()
