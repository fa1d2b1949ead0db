"""Typed settings and every default (rpc.md, "Config" and "Limits"). Reads one TOML file; knows nothing of the rest.

Unknown keys are errors that name the nearest known key. Values are checked here, once; the rest of the proxy trusts them.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import platformdirs
from msgspec import Meta

Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1)]
Url = Annotated[str, Meta(pattern=r"^https?://[\x21-\x7e]+$", max_length=512)]
Seconds = Annotated[float, Meta(gt=0)]


class ConfigError(Exception):
    """The config file cannot be used; the message says where and what to do."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the config; unknown keys are refused."""


class L1Settings(Settings, frozen=True, kw_only=True):
    """[l1] which node to ask. `urls`: http(s)://, ws(s)://, a socket path, or "dev" for the embedded one.

    `stale_after`: seconds after which a newest block counts as old (`/readyz`, `status`, `doctor`); never on a dev node.
    """

    urls: list[str] = []
    confirmations: Annotated[int, Meta(ge=1, le=10_000)] = 12
    stale_after: Seconds = 180


class ListenSettings(Settings, frozen=True, kw_only=True):
    """[listen] loopback ports (0: any free one) and additional Host names."""

    port: Port = 8645
    console_port: Port = 8646
    hosts: list[str] = []


class MethodSettings(Settings, frozen=True, kw_only=True):
    """[methods] names or `prefix_*` passed through beside eth_*, net_* and web3_*."""

    allow: list[str] = []


class LimitSettings(Settings, frozen=True, kw_only=True):
    """[limits] bytes, counts and seconds."""

    body: Count = 2 * 1024 * 1024
    response: Count = 256 * 1024 * 1024
    batch: Count = 100
    upstream_call: Seconds = 30
    connections: Count = 2048
    connections_per_caller: Count = 1024
    connections_per_site: Count = 64
    subscriptions: Count = 4096
    questions: Count = 50
    questions_per_origin: Count = 3
    question_deadline: Seconds = 300
    plugin_call: Seconds = 60
    invokes_in_flight: Count = 64
    invokes_waiting: Count = 1000


class CacheSettings(Settings, frozen=True, kw_only=True):
    """[cache] answers of the node, remembered and shared. "auto": off on dev nodes; `bytes`: of all of them together."""

    enabled: bool | Literal["auto"] = "auto"
    bytes: Count = 32 * 1024 * 1024


class PluginSettings(Settings, frozen=True, kw_only=True):
    """[plugins] the two package indexes `plugin add` may ask; no other, whatever pip or npm of this machine are told."""

    pypi: Url = "https://pypi.org"
    npm: Url = "https://registry.npmjs.org"


class LogSettings(Settings, frozen=True, kw_only=True):
    """[log] what stands on standard error. `slow_call`: a call that takes longer is a line of level info (0: none)."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "warning"
    slow_call: Annotated[float, Meta(ge=0)] = 5


class MiddlewareEntry(Settings, frozen=True, kw_only=True):
    """[[middleware]] a web3.py middleware class or builder, or a link of our own, by dotted path `module:name`."""

    use: str
    args: dict[str, Any] = {}


class Config(Settings, frozen=True, kw_only=True):
    """All settings of one daemon."""

    unknown_sites: Literal["ask", "read", "refuse"] = "ask"
    l1: L1Settings = L1Settings()
    listen: ListenSettings = ListenSettings()
    methods: MethodSettings = MethodSettings()
    limits: LimitSettings = LimitSettings()
    cache: CacheSettings = CacheSettings()
    log: LogSettings = LogSettings()
    plugins: PluginSettings = PluginSettings()
    middleware: list[MiddlewareEntry] = []


def default_data_directory() -> Path:
    """Return where a daemon keeps its data when neither --data nor L2PROXY_DATA says so."""
    return Path(platformdirs.user_data_dir("l2proxy"))


def load(path: Path) -> Config:
    """Read `path` (TOML). Raise `ConfigError` in one sentence when it cannot be used."""
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no config file {path}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from error
    _refuse_unknown(path, raw, Config, "")
    try:
        config = msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error
    _check_methods(path, config)
    return config


def _refuse_unknown(path: Path, table: dict[str, Any], settings: type[Settings], where: str) -> None:
    known = {field.name: field.type for field in msgspec.structs.fields(settings)}
    for key, value in table.items():
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else f"; known here: {', '.join(sorted(known))}"
            raise ConfigError(f"{path}: unknown key {where}{key}{hint}")
        inner = known[key]
        if isinstance(inner, type) and issubclass(inner, Settings) and isinstance(value, dict):
            _refuse_unknown(path, value, inner, f"{where}{key}.")
        if key == "middleware" and isinstance(value, list):
            for entry in value:
                if isinstance(entry, dict):
                    _refuse_unknown(path, entry, MiddlewareEntry, "middleware.")


def _check_methods(path: Path, config: Config) -> None:
    for row in config.methods.allow:
        name = row.removesuffix("*")
        if "*" in name or not name or (row.endswith("*") and not name.endswith("_")):
            raise ConfigError(f'{path}: methods.allow takes names or "prefix_*", not {row!r}')
