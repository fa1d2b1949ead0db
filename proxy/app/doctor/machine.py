"""The doctor's look at the machine: Python, the libraries with native code, the system, descriptors, ports."""

from __future__ import annotations

import importlib
import platform
import resource
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from proxy.app.doctor.finding import Finding, fail, ok, warn
from proxy.app.doctor.lacking import advice
from proxy.config import Config
from proxy.host.sandbox.probe import probe
from proxy.host.sandbox.report import NONE
from proxy.server.listening import bind_loopback

NATIVE = (("uvloop", "uvloop"), ("plyvel", "plyvel"), ("cryptography", "cryptography"), ("coincurve", "coincurve"))
PURE = (("aiohttp", "aiohttp"), ("msgspec", "msgspec"), ("web3", "web3"), ("eth-account", "eth_account"))
SPARE = 512  # descriptors beside those of callers: nodes, stores, plugins, logs


def look(config: Config) -> Iterator[Finding]:
    """Yield what is found."""
    yield _python()
    yield _libraries()
    yield _system()
    yield _sandbox()
    yield _descriptors(config)


def look_at_port(port: int) -> Finding:
    """Return whether the dapp port can be opened; for when no daemon runs. 0: any free one."""
    if port == 0:
        return ok("dapp port", "any free one")
    try:
        _, sockets = bind_loopback(port)
    except OSError as error:
        do = "end the program that has it, or choose another: [listen] port in the config, or --port (0: any)"
        return fail("dapp port", str(error.strerror).partition(";")[0], do)
    for opened in sockets:
        opened.close()
    return ok("dapp port", f"{port} is free")


def _python() -> Finding:
    found = platform.python_version()
    if (3, 11) <= sys.version_info[:2] < (3, 13):
        return ok("python", found)
    return fail("python", f"{found} is not supported", "install l2proxy with Python 3.11 or 3.12")


def _libraries() -> Finding:
    missing, found = [], []
    for distribution, module in (*NATIVE, *PURE):
        try:
            importlib.import_module(module)
            found.append(f"{distribution} {version(distribution)}")
        except (ImportError, PackageNotFoundError, OSError) as error:
            missing.append(f"{distribution} ({error})")
    if missing:
        return fail("libraries", f"not usable: {'; '.join(missing)}", "install l2proxy anew in a fresh environment")
    return ok("libraries", ", ".join(found))


def _system() -> Finding:
    found = f"{platform.system()} {platform.release()} {platform.machine()}"
    if sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64"):
        return ok("system", found)
    return warn("system", found, "everything but plugins works here; plugins need Linux on x86_64 or aarch64")


def _sandbox() -> Finding:
    found = probe()
    if found.level == NONE:
        return warn("sandbox", found.why, "everything but plugins works here")
    layers = ", ".join(found.layers)
    if found.missing:
        missing = "; ".join(f"no {name}: {why}" for name, why in found.missing.items())
        return warn("sandbox", f"{layers}; {missing}", advice(found.missing))
    return ok("sandbox", layers)


def _descriptors(config: Config) -> Finding:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = config.limits.connections + SPARE
    if most == resource.RLIM_INFINITY or most >= wanted:
        return ok("descriptors", "no limit" if most == resource.RLIM_INFINITY else f"up to {most}")
    return warn(
        "descriptors",
        f"at most {most}, and {config.limits.connections} connections may come",
        f"raise the hard limit to {wanted} (LimitNOFILE= of a service, `ulimit -Hn`), or lower [limits] connections",
    )
