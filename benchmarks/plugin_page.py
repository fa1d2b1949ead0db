"""The bars of issue 4 and RESULTS-plugins.md, from what `plugins` measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from benchmarks.bars import Bar
from benchmarks.plugin_daemon import NPM, PYTHON
from benchmarks.report import table

SNAPS_VERSION = "@metamask/snaps-simulation 3.5.0"


class Found:
    """Measured values by name, one for each round. `installed`: plugins of the crowded daemon."""

    def __init__(self, installed: int) -> None:
        self.installed = installed
        self.values: dict[str, list[float]] = {}

    def add(self, name: str, value: float | None) -> None:
        """Take a value of one round; None: it could not be measured."""
        if value is not None:
            self.values.setdefault(name, []).append(float(value))

    def last(self, name: str) -> float:
        """Return the newest value."""
        return self.values[name][-1]

    def median(self, name: str) -> float | None:
        """Return the median; None for what was not measured."""
        return statistics.median(self.values[name]) if name in self.values else None

    def ratio(self, one: str, other: str) -> float | None:
        """Return the median of one by the other's."""
        over, under = self.median(one), self.median(other)
        return None if over is None or under is None else over / under


def bars(found: Found) -> list[Bar]:
    """Return the rows in the issue's order."""
    crowd = (
        f"{found.installed} plugins installed, {found.installed // 2} running: plain calls ÷ those of a daemon without"
    )
    return [
        _most("l2_invoke of an echo over HTTP, one client, p50 ÷ a snap's", 0.3, 0.1, _echo(found, PYTHON)),
        _most(
            "the same, the snap without its library's checks for developers",
            0.3,
            0.1,
            _echo(found, PYTHON, "snap bare"),
        ),
        _most("the same, npm plugin ÷ a snap's", 0.3, 0.1, _echo(found, NPM)),
        Bar("l2_invoke a second, 16 clients, one Python plugin", 2500, 5000, found.median("rate"), whole=True),
        Bar("persist a second ÷ raw synced puts, 64 at once", 0.5, 0.8, found.median("persist 64")),
        Bar("the same, 8 at once", 0.5, 0.8, found.median("persist 8")),
        Bar("the same, one after another", 0.5, 0.8, found.median("persist 1")),
        _most("cold start to the first answer, Python", 300, 100, found.median(f"{PYTHON} cold"), " ms"),
        _most("the same, npm", 500, 250, found.median(f"{NPM} cold"), " ms"),
        _most("resident memory of an idle plugin, Python", 30, 20, found.median(f"{PYTHON} memory"), " MB"),
        _most("the same, npm", 90, 60, found.median(f"{NPM} memory"), " MB"),
        Bar(crowd, 0.95, 1.0, found.ratio("with many", "without")),
    ]


def _most(what: str, least: float, reach: float, value: float | None, unit: str = "") -> Bar:
    return Bar(what, least, reach, value, less_is_better=True, whole=bool(unit), unit=unit)


def bar_table(found: Found) -> str:
    """Return the bars as a table."""
    return table(
        ("what", "bar", "reach for", "here", "reached"),
        (
            (bar.what, bar.written(bar.least), bar.written(bar.reach), bar.written(bar.value), bar.reached)
            for bar in bars(found)
        ),
    )


def page(found: Found, facts: Mapping[str, str], command: str, said: str) -> str:
    """Return the whole page."""
    busy = float(facts["load before the run"]) > 1
    parts = [
        "# Results: plugins",
        f"Written by `{command}`; README.md here says what is measured and how. {said}.",
        "All checks on: permission, parameters, approval, an audit entry for each call, the whole sandbox around each plugin. "
        "Only ratios within one run say anything; rates depend on the machine.",
        *([f"**The machine was busy with something else (load {facts['load before the run']}).**"] if busy else []),
        *([] if "snap" in found.values else [f"**Left out:** {SNAPS_VERSION} (`cd benchmarks/snaps && npm ci`)."]),
        "## Bars",
        bar_table(found),
        "## Figures",
        table(
            ("what", "median", "lowest–highest"),
            (
                (
                    what,
                    f"{statistics.median(values):,.{digits}f}{unit}",
                    f"{min(values):,.{digits}f}–{max(values):,.{digits}f}",
                )
                for name, (what, unit, digits) in FIGURES.items()
                if (values := found.values.get(name))
            ),
        ),
        "## Machine and versions",
        table(("what", "here"), {**facts, "Snaps": SNAPS_VERSION}.items()),
    ]
    return "\n\n".join(parts) + "\n"


FIGURES = {
    "snap": ("echo of a snap, one request after another, p50", " µs", 0),
    "snap bare": ("the same with NODE_ENV=production", " µs", 0),
    f"{PYTHON} p50": ("echo of a Python plugin over HTTP, one client, p50", " µs", 0),
    f"{NPM} p50": ("echo of an npm plugin over HTTP, one client, p50", " µs", 0),
    "rate": ("echo of a Python plugin, 16 clients", "/s", 0),
    "daemon cpu": ("CPU of the daemon for each of them", " µs", 0),
    "plugin cpu": ("CPU of the plugin for each of them", " µs", 0),
    "without": ("plain calls, 32 connections, a daemon without plugins", "/s", 0),
    "with many": ("plain calls, 32 connections, the daemon with many", "/s", 0),
    "without cpu": ("CPU of a plain call, without plugins", " µs", 1),
    "with many cpu": ("CPU of a plain call, with many (its plugins' included)", " µs", 1),
}


def _echo(found: Found, plugin: str, snap: str = "snap") -> float | None:
    return found.ratio(f"{plugin} p50", snap)
