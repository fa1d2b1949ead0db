"""Runs one synchronous call in a thread of its own, from where it can wait for coroutines of the event loop.

For links whose code blocks (web3.py's synchronous middlewares, middleware/web3_adapter.py). Each call has its own thread,
not one of a pool: a call that waits for the chain, whose other links need threads too, could never starve itself.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Bridge:
    """One call on its way through a thread. Must be made on the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waits: set[concurrent.futures.Future[Any]] = set()
        self._left = False
        self._lock = threading.Lock()  # between the loop, where the caller leaves, and the thread, which waits anew

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what `coroutine` returns, from within the thread. Raise `CancelledError` once the caller has left."""
        with self._lock:
            if self._left:
                coroutine.close()
                raise concurrent.futures.CancelledError
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            self._waits.add(future)
        try:
            return future.result()
        finally:
            self._waits.discard(future)

    async def run(self, function: Callable[[], T]) -> T:
        """Return what `function` returns or raises; cancelled, everything it waits for is cancelled."""
        done: asyncio.Future[T] = self._loop.create_future()
        context = contextvars.copy_context()

        def work() -> None:
            try:
                outcome = context.run(function)
            except BaseException as failure:  # noqa: BLE001  raised again on the event loop
                self._tell(done, done.set_exception, failure)
            else:
                self._tell(done, done.set_result, outcome)

        threading.Thread(target=work, name="l2proxy-link", daemon=True).start()
        try:
            return await done
        finally:
            with self._lock:
                self._left = True
                waits = tuple(self._waits)
            for future in waits:
                future.cancel()

    def _tell(self, done: asyncio.Future[Any], settle: Callable[[Any], None], outcome: Any) -> None:
        def on_loop() -> None:
            if not done.done():  # the caller has left
                settle(outcome)

        if not self._loop.is_closed():  # the daemon has ended
            self._loop.call_soon_threadsafe(on_loop)
