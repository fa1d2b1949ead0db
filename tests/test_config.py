"""Settings are checked once and an unknown key names its nearest neighbour."""

from __future__ import annotations

import re
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
        pytest.param(f"x = {'[' * 5000}", "cannot be read as TOML", id="deep"),
        ("port = 1", "unknown key port; did you mean port in [listen]?"),
        ("[listen]\nurls = ['dev']", "unknown key listen.urls; did you mean urls in [l1]?"),
        ("nonsense = 1", "unknown key nonsense; known here: cache, l1"),
        ("[listen]\nport = 'x'", "listen.port: expected whole number, got string"),
        ("l1 = 5", "l1: expected table, got whole number"),
        ("[cache]\nenabled = 'yes'", "cache.enabled: invalid enum value 'yes'; it may be true, false, \"auto\""),
        ("unknown_sites = 'Ask'", 'it may be "ask", "read", "refuse"'),
        ("[limits]\nquestion_deadline = inf", "limits.question_deadline: expected number <= 31536000.0"),
        ("[limits]\nupstream_call = nan", "limits.upstream_call: expected number > 0.0"),
        ("[log]\nslow_call = inf", "log.slow_call: expected number <="),
        ("[listen]\nhosts = ['']", "listen.hosts takes names like"),
        ("[listen]\nhosts = ['http://a.example']", "listen.hosts takes names like"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(write(tmp_path, text))


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no config file"):
        load(tmp_path / "none.toml")


def test_a_directory_is_no_config_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_hosts_may_have_ports(tmp_path: Path) -> None:
    names = ["box.local", "box.local:80", "[::2]", "[::2]:8645", "10.0.0.1", "my_box"]
    assert load(write(tmp_path, f"[listen]\nhosts = {names}")).listen.hosts == names
