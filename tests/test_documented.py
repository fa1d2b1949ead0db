"""Whatever is public is documented: methods, error codes, commands, config keys, host services."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import click
import msgspec
import pytest

from middleware import errors
from middleware.methods import OWN
from proxy.cli import cli
from proxy.config import Config, Settings

ROOT = Path(__file__).parent.parent
DAPPS = (ROOT / "docs" / "dapps.md").read_text()
OWNERS = (ROOT / "docs" / "owners.md").read_text()
AUTHORS = (ROOT / "docs" / "plugin-authors.md").read_text()


def config_keys(settings: type[Settings] = Config, prefix: str = "") -> list[str]:
    keys = []
    for field in msgspec.structs.fields(settings):
        if isinstance(field.type, type) and issubclass(field.type, Settings):
            keys += config_keys(field.type, f"{field.name}.")
        else:
            keys.append(prefix + field.name)
    return keys


def commands(group: click.Group, prefix: str = "") -> list[tuple[str, click.Command]]:
    found = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found += commands(command, f"{prefix}{name} ")
        else:
            found.append((prefix + name, command))
    return found


@pytest.mark.parametrize("method", sorted(OWN))
def test_every_method_of_ours(method: str) -> None:
    assert f"`{method}`" in DAPPS


def error_codes() -> list[int]:
    source = inspect.getsource(errors)
    return sorted({int(code) for code in re.findall(r"^ [├└]─ \w+\s+(-?\d+)", source, re.MULTILINE)})


def test_the_error_tree_lists_every_class() -> None:
    tree = set(re.findall(r"^ [├└]─ (\w+)", errors.__doc__ or "", re.MULTILINE))
    classes = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__base__ is errors.RpcError
    }
    assert tree == classes


@pytest.mark.parametrize("code", error_codes())
def test_every_error_code(code: int) -> None:
    assert f"| {code} |" in DAPPS


@pytest.mark.parametrize("key", [key for key in config_keys() if key != "middleware"])
def test_every_config_key(key: str) -> None:
    assert f"`{key}`" in OWNERS


@pytest.mark.parametrize("name", sorted(name for name, _ in commands(cli)))
def test_every_command(name: str) -> None:
    group, _, action = name.partition(" ")
    row = next((line for line in OWNERS.splitlines() if line.startswith("|") and f"`l2proxy {group}" in line), "")
    assert row, f"docs/owners.md has no row for l2proxy {group}"
    assert not action or re.search(rf"[ |\\`]{action}\b", row), f"docs/owners.md does not name l2proxy {name}"


@pytest.mark.parametrize(("name", "command"), commands(cli), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_explains_itself(name: str, command: click.Command) -> None:
    assert command.help, name
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"l2proxy {name} {parameter.opts[0]}"
    options = {option for parameter in command.params for option in parameter.opts}
    if name not in ("demo", "completion"):
        assert {"--data", "--json"} <= options, name


HOST_SERVICES = [
    *("getAccount", "derive", "sign", "recover", "hash", "deposit", "withdraw", "persist", "load"),
    *("updateLayer2State", "ready", "layer1.request", "layer1.watch", "hub.send", "log"),
]


@pytest.mark.parametrize("service", HOST_SERVICES)
def test_every_host_service(service: str) -> None:
    assert f"`{service}`" in AUTHORS
