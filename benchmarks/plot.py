"""results.svg: calls a second as bars, by hand; colours of their own for light and dark."""

from __future__ import annotations

from html import escape

from benchmarks.suites import Table

WIDTH, LEFT, ROW, TOP = 760, 190, 34, 64
STYLE = (
    "text{font:14px system-ui,sans-serif;fill:#24292f}.title{font-weight:600;font-size:16px}.small{fill:#57606a;font-size:12px}"
    ".peer{fill:#8c959f}.ours{fill:#0969da}.axis{stroke:#8c959f}.range{stroke:#24292f;stroke-width:1.5}"
    "@media (prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9198a1}.peer{fill:#6e7681}.ours{fill:#4493f8}"
    ".range{stroke:#e6edf3}}"
)


def plot(rates: Table, cached: Table | None, said: str) -> str:
    """Return the picture of `rates` (and of the cache's row, if it was measured)."""
    shown = [*rates.values(), *(one for name, one in (cached or {}).items() if name != "direct")]
    most = max(one.spread[1] for one in shown)
    scale = (WIDTH - LEFT - 90) / most
    height = TOP + ROW * len(shown) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'aria-label="Calls a second through l2proxy and its peers">',
        f"<style>{STYLE}</style>",
        '<text class="title" x="16" y="26">Calls a second, 32 connections, one anvil behind all</text>',
        f'<text class="small" x="16" y="46">{escape(said)}</text>',
    ]
    for number, one in enumerate(shown):
        y = TOP + ROW * number
        low, high = one.spread
        kind = "ours" if one.name.startswith("l2proxy") else "peer"
        width = one.rate * scale
        parts += [
            f'<text x="{LEFT - 10}" y="{y + 18}" text-anchor="end">{escape(one.name)}</text>',
            f'<rect class="{kind}" x="{LEFT}" y="{y + 3}" width="{width:.1f}" height="22" rx="3"/>',
            f'<line class="range" x1="{LEFT + low * scale:.1f}" x2="{LEFT + high * scale:.1f}" y1="{y + 14}" y2="{y + 14}"/>',
            f'<text x="{LEFT + high * scale + 8:.1f}" y="{y + 19}">{one.rate:,.0f}</text>',
        ]
    bottom = TOP + ROW * len(shown)
    parts += [f'<line class="axis" x1="{LEFT}" x2="{LEFT}" y1="{TOP - 4}" y2="{bottom}"/>', "</svg>"]
    return "\n".join(parts) + "\n"
