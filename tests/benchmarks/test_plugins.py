"""The page of the plugins' benchmarks is whole; nothing is said here about how fast anything is."""

from __future__ import annotations

from benchmarks.plugin_daemon import NPM, PYTHON
from benchmarks.plugin_page import Found, bar_table, page


def test_every_bar_has_a_row_and_what_was_not_measured_says_so() -> None:
    found = Found(100)
    for name, values in {
        "snap": (900, 1100, 1000),
        f"{PYTHON} p50": (250,),
        "rate": (2400,),
        "persist 64": (0.85,),
    }.items():
        for value in values:
            found.add(name, value)
    found.add(f"{NPM} p50", None)
    rows = bar_table(found).splitlines()[2:]
    assert len(rows) == 12
    assert rows[0].endswith("| 0.30 | 0.10 | 0.25 | yes |")
    assert [row.rpartition("| ")[2] for row in rows].count("not measured |") == 9
    assert "| 2500 | 5000 | 2400 | **no** |" in rows[3]
    text = page(found, {"load before the run": "0.2"}, "the command", "one round")
    assert "echo of a snap, one request after another, p50 | 1,000 µs | 900–1,100 |" in text
    assert "busy" not in text
