"""Typed settings and every default (rpc.md, "Config" and "Limits"). Reads one TOML file; knows nothing of the rest.

Unknown keys are errors that name the nearest known key. Values are checked here, once; the rest of the proxy trusts them.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import platformdirs
from msgspec import Meta

Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1)]
Url = Annotated[str, Meta(pattern=r"^https?://[\x21-\x7e]+$", max_length=512)]
Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]  # at most a year: TOML has infinity, clocks do not
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


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
    slow_call: Annotated[float, Meta(ge=0, le=31_536_000)] = 5


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
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from error
    _refuse_unknown(path, raw, Config, "")
    try:
        config = msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_told(str(error))}") from error
    _check_methods(path, config)
    for name in config.listen.hosts:
        if not _HOST.fullmatch(name):
            raise ConfigError(f"{path}: listen.hosts takes names like box.local or box.local:8645, not {name!r}")
    return config


def _told(error: str) -> str:
    """Return msgspec's words for a value as `table.key: …`, in TOML's words and with the values there may be."""
    what, _, where = error.removesuffix("`").partition(" - at `$.")
    for ours, theirs in (("object", "table"), ("str", "string"), ("int", "whole number"), ("float", "number")):
        what = what.replace(f"`{ours}`", theirs)
    what = what.replace("`", "")
    if choices := _choices(where):
        what += f"; it may be {', '.join(choices)}"
    return f"{where}: {what[:1].lower()}{what[1:]}"


def _choices(where: str) -> list[str]:
    """Return what the setting at `where` may be, as TOML writes it; empty where that is no list."""
    table: Any = Config
    for name in where.split("."):
        fields = {field.name: field.type for field in msgspec.structs.fields(table)} if _is_table(table) else {}
        table = fields.get(name)
    return [msgspec.json.encode(value).decode() for value in _literals(table)]


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Settings)


def _literals(kind: Any) -> Iterator[object]:
    """Yield the values of a `Literal`, alone or beside bool."""
    if get_origin(kind) is Literal:
        yield from get_args(kind)
    elif bool in (among := get_args(kind)):
        yield from (True, False)
        yield from (value for other in among for value in _literals(other))


def _refuse_unknown(path: Path, table: dict[str, Any], settings: type[Settings], where: str) -> None:
    known = {field.name: field.type for field in msgspec.structs.fields(settings)}
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"{path}: unknown key {where}{key}{_hint(key, known)}")
        inner = known[key]
        if _is_table(inner) and isinstance(value, dict):
            _refuse_unknown(path, value, inner, f"{where}{key}.")
        if key == "middleware" and isinstance(value, list):
            for entry in value:
                if isinstance(entry, dict):
                    _refuse_unknown(path, entry, MiddlewareEntry, "middleware.")


def _hint(key: str, known: dict[str, Any]) -> str:
    """Return what may have been meant: a key like it here, the same key in another table, or what is known here."""
    if nearest := difflib.get_close_matches(key, known, n=1):
        return f"; did you mean {nearest[0]}?"
    for table in msgspec.structs.fields(Config):
        if _is_table(table.type) and key in {field.name for field in msgspec.structs.fields(table.type)}:
            return f"; did you mean {key} in [{table.name}]?"
    return f"; known here: {', '.join(sorted(known))}"


def _check_methods(path: Path, config: Config) -> None:
    for row in config.methods.allow:
        name = row.removesuffix("*")
        if "*" in name or not name or (row.endswith("*") and not name.endswith("_")):
            raise ConfigError(f'{path}: methods.allow takes names or "prefix_*", not {row!r}')
