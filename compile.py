"""Compiles the hot path for the running Python with mypyc: what a plain call passes on its way to the node and back.

`make` runs it. The modules ([tool.l2proxy] in pyproject.toml) are ordinary typed Python and run as such where they are not
compiled; compiled they take about two thirds of the time. Each extension module lies beside its source and is preferred by
Python's import, so it must be made anew whenever a source changes: `make` does, and the daemon and the tests say so where
it was not (proxy/app/compiled.py). L2PROXY_PURE=1 leaves all as Python and takes away what was compiled.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path

from mypyc.build import mypycify
from setuptools import Distribution
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent


def main() -> None:
    """Compile; raises what the type checker or the C compiler says."""
    os.chdir(ROOT)
    for file in compiled():
        file.unlink()
    if os.environ.get("L2PROXY_PURE") == "1":
        sys.stderr.write("l2proxy: nothing is compiled (L2PROXY_PURE=1)\n")
        return
    if (missing := what_is_missing()) is not None:
        sys.stderr.write(f"l2proxy: {missing} is missing, so the hot path is not compiled and runs as Python, slower\n")
        return
    modules = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["l2proxy"]["compiled"]
    sys.stderr.write(f"l2proxy: compiling {len(modules)} modules of the hot path, this takes a minute or two\n")
    with tempfile.TemporaryDirectory() as folder:
        extensions = mypycify(modules, opt_level="1", debug_level="0", target_dir=folder)
        command = build_ext(Distribution({"name": "l2proxy", "ext_modules": extensions}))
        command.inplace, command.build_temp, command.build_lib = True, folder, folder
        command.ensure_finalized()
        command.run()


def what_is_missing() -> str | None:
    """Return what a C extension needs and this machine has not; None where it can be tried."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"the C compiler ({compiler})"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return None if header.exists() else f"{header} (Debian: python3-dev)"


def compiled() -> list[Path]:
    """Return the extension modules there are for the running Python: one for each module, one with the code of all."""
    names = f"*.{sys.implementation.cache_tag}-*.so"
    return [file for folder in (ROOT / "proxy", ROOT / "middleware") for file in folder.rglob(names)] + list(
        ROOT.glob(names)
    )


if __name__ == "__main__":
    main()
