"""The pinned bundler as it is elsewhere: on the disk, with everything it can do. Shows that an attack works without our jail."""

from __future__ import annotations

import subprocess
from pathlib import Path

from proxy.host.bundling.program import VERSION

OPEN_LAUNCH = """
import json, os, sys
config = json.loads(sys.argv[1])
os.write(1, b'{"layers": [], "missing": {}}\\n')
os.execve(config["program"], config["arguments"], {})
"""


SECCOMP_ALONE = """
import runpy, sys
sys.path.insert(0, {code!r})
from proxy.host.sandbox import landlock, namespaces
def taken_away(*_):
    raise OSError(1, "taken away by the test")
landlock.lock = namespaces.lock = taken_away
runpy.run_path({launch!r}, run_name="__main__")
"""


def program(cache: Path) -> Path:
    """Return the kept program."""
    (found,) = cache.glob(f"esbuild-{VERSION}-*")
    return found


def bundled_freely(cache: Path, folder: Path, files: dict[str, bytes], *flags: str) -> str:
    """Lay `files` out and bundle `main.js` there with nothing in its way; return the bundle."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    run = subprocess.run(
        [program(cache), "main.js", "--bundle", "--format=esm", "--platform=browser", *flags],
        cwd=folder,
        env={},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr.decode()
    return run.stdout.decode()
