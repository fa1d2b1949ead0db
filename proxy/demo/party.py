"""One user of the demo: a data directory, the daemon on it, and the owner who answers its questions.

Everything is done as a person would do it: the `l2proxy` command for keys, daemon, plugin and tokens, the admin socket for
answers. `kill` and `start` again is a power cut; the ports stay, so that clients find the daemon where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import msgspec

from proxy.demo.processes import Process
from proxy.server.admin_client import call_admin_socket

COMMAND = (sys.executable, "-m", "proxy")


class CommandFailed(Exception):
    """A command of the demo ended with an error; the message is the command's own."""


async def command(*arguments: str | Path) -> Any:
    """Run `l2proxy ARGUMENTS --json` and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        "--json",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    if process.returncode != 0:
        raise CommandFailed(f"l2proxy {' '.join(map(str, arguments))}: {errors.decode(errors='replace').strip()}")
    return msgspec.json.decode(out) if out.strip() else None


class Party:
    """A user with a daemon."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.data = folder / "data"
        self.password = folder / "password"
        self.address = ""
        self.dapp_port = 0
        self.daemon: Process | None = None
        self.token_url = ""
        self._l1 = ""
        self._dev = False

    async def init(self, phrase: Path | None) -> None:
        """Make the keystore, from `phrase` or with a new one that stays in the folder."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.password.touch(mode=0o600)
        self.password.write_text("the demo's password, kept beside its keystore\n")
        source: list[str | Path] = ["--mnemonic-file", phrase] if phrase else ["--mnemonic-out", self.folder / "phrase"]
        made = await command("init", "--data", self.data, "--password-file", self.password, *source)
        self.address = made["address"]

    def on(self, l1: str, dev: bool) -> None:
        """Say which L1 node the daemon will ask."""
        self._l1, self._dev = l1, dev

    async def start(self) -> None:
        """Start the daemon, on the port it had before if it had one, and wait until every door answers."""
        options: list[str | Path] = ["--data", self.data, "--l1", self._l1, "--password-file", self.password, "--json"]
        options += ["--port", str(self.dapp_port), "--console-port", "0"]
        if self._dev:
            options.append("--dev")
        self.daemon = await Process.start(
            f"{self.name}'s daemon", [*COMMAND, "run", *options], self.folder / "daemon.log"
        )
        self.dapp_port = int(self.daemon.ready["dapp"].rsplit(":", 1)[1])

    async def kill(self) -> None:
        """Kill the daemon at once, as a power cut would."""
        if self.daemon is not None:
            await self.daemon.kill()

    async def stop(self) -> int:
        """Ask the daemon to end; return its exit code."""
        return await self.daemon.stop() if self.daemon is not None else 0

    @property
    def dapp(self) -> str:
        return f"http://127.0.0.1:{self.dapp_port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.dapp_port}"

    async def admin(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """Call the daemon as its owner."""
        if self.daemon is None:
            raise RuntimeError(f"{self.name}'s daemon does not run")
        return await call_admin_socket(Path(self.daemon.ready["admin"]), method, params or {})

    @contextlib.asynccontextmanager
    async def approving(self, *kinds: str) -> AsyncIterator[list[dict[str, Any]]]:
        """Answer yes to every question of these kinds while the block runs; the list fills with what was approved.

        A question of another kind, or with a warning, is a defect of the journey: the block ends with an error.
        """
        approved: list[dict[str, Any]] = []
        answering = asyncio.create_task(self._answer(kinds, approved))
        try:
            yield approved
            if answering.done():
                answering.result()
        finally:
            answering.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await answering

    async def _answer(self, kinds: Collection[str], approved: list[dict[str, Any]]) -> None:
        version: int | None = None
        while True:
            waited = await self.admin("admin_approvalWait", {} if version is None else {"since": version})
            version = waited["version"]
            for question in waited["questions"]:
                if question["kind"] not in kinds or question["warnings"]:
                    await self.admin("admin_approvalReject", {"id": question["id"]})
                    raise RuntimeError(f"an unexpected question came up: {question['kind']}: {question['summary']}")
                await self.admin("admin_approvalApprove", {"id": question["id"]})
                approved.append(question)
