"""What the host knows of one process's sandbox, as `status`, `plugin info` and `doctor` show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

FULL, REDUCED, NONE = "full", "reduced", "none"
NO_SANDBOX = "only Linux on x86_64 and aarch64 can sandbox a plugin"


class Unsandboxed(Exception):
    """A process would run without the sandbox; the message says what is missing."""


@dataclass(frozen=True)
class Sandbox:
    """`layers` hold; `missing` says why the others do not; `why`: set when there is no sandbox at all."""

    layers: tuple[str, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    why: str = ""

    @property
    def level(self) -> str:
        """Return "full", "reduced" (seccomp holds, a layer behind it is missing) or "none"."""
        if self.why:
            return NONE
        return REDUCED if self.missing else FULL

    def shown(self) -> dict[str, Any]:
        """Return the rows of status."""
        rows: dict[str, Any] = {"sandbox": self.level, "layers": list(self.layers)}
        if self.missing:
            rows["missingLayers"] = dict(self.missing)
        return rows


def from_report(report: Any) -> Sandbox:
    """Read the line a bootstrap wrote before it parsed anything foreign."""
    return Sandbox(tuple(report["layers"]), dict(report["missing"]), str(report.get("why", "")))
