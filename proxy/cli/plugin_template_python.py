"""The Python project of `l2proxy plugin new`; `$` words are filled in."""

from __future__ import annotations

TAKEN = frozenset({"Plugin", "Total", "Action", "Tests"})  # class names the template cannot give away

_CODE = '''"""$name: a plugin of l2proxy that keeps a counter."""

from typing import TypedDict

from l2proxy_sdk import ActionError, Plugin, Uint64, action


class Total(TypedDict):
    total: Uint64


class $kind(Plugin):
    @action
    async def add(self, amount: Uint64) -> Total:
        """Add to the counter."""
        total = int(await self.store.get("total") or "0") + amount
        if total >= 2**64:
            raise ActionError(1, "the counter is full", spent=False)
        await self.store.put("total", str(total))
        await self.state.update({"total": hex(total)})
        return {"total": total}
'''

_TEST = '''"""Runs without a daemon: `l2proxy plugin test`."""

import unittest

from l2proxy_sdk.testing import FakeHost
from $module import $kind


class Test$kind(unittest.IsolatedAsyncioTestCase):
    async def test_add(self):
        host = FakeHost($kind)
        await host.start()
        self.assertEqual(await host.invoke("add", amount=2), {"total": "0x2"})
        self.assertEqual(await host.invoke("add", amount=3), {"total": "0x5"})
        await host.stop()
'''

ENTRY = "$module:$kind"
FILES = {"$module.py": _CODE, "tests/test_$module.py": _TEST}


def copied() -> dict[str, str]:
    """Return what goes into the project as it is: nothing, the SDK is found by `plugin test`."""
    return {}
