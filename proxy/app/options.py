"""What `l2proxy run` was told, once it is settled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from proxy.config import Config


class StartRefused(Exception):
    """The daemon must not start like this (exit code 3); the message says why and what to do."""


@dataclass(frozen=True)
class RunOptions:
    """`urls`: the L1 nodes, "dev" among them for the embedded one; ports may be 0 for any free one.

    `allow_unsandboxed`: plugins as `ID` or `ID@sha256:…` that may run where they cannot be sandboxed.
    """

    data: Path
    config: Config
    urls: tuple[str, ...]
    dev: bool
    port: int
    console_port: int
    password: str | None
    json: bool
    allow_unsandboxed: tuple[str, ...] = ()
