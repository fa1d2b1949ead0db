"""Whether what runs compiled (compile.py) is older than the source it was made from."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType


def outdated() -> list[str]:
    """Return the names of loaded modules that were compiled from an older source than the one that lies beside them."""
    return sorted(name for name, module in list(sys.modules.items()) if _is_outdated(module))


def _is_outdated(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if file is None or not file.endswith(".so") or not module.__name__.startswith(("proxy.", "middleware.")):
        return False
    source = Path(file).with_name(Path(file).name.partition(".")[0] + ".py")
    return source.exists() and source.stat().st_mtime > Path(file).stat().st_mtime
