"""Settings are checked once and an unknown key names its nearest neighbour."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import Config, ConfigError, load

CONFIGS = Path(__file__).parent.parent / "configs"


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.toml")))
def test_the_examples_load(name: str) -> None:
    assert load(CONFIGS / name) != Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unknown_site = 'ask'", "unknown key unknown_site; did you mean unknown_sites"),
        ("[listen]\nprot = 1", "unknown key listen.prot; did you mean port"),
        ("[[middleware]]\nuses = 'a'", "unknown key middleware.uses; did you mean use"),
        ("[listen]\nport = 70000", "port"),
        ("[limits]\nbody = 'big'", "limits.body"),
        ("[limits]\nbody = 0", "limits.body"),
        ("unknown_sites = 'allow'", "unknown_sites"),
        ("[methods]\nallow = ['*']", "methods.allow takes names"),
        ("[methods]\nallow = ['debug*']", "methods.allow takes names"),
        ("x =", "cannot be read as TOML"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace(".", r"\.").replace("*", r"\*")):
        load(write(tmp_path, text))


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no config file"):
        load(tmp_path / "none.toml")
