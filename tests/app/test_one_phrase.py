"""One daemon a phrase: a second data directory with it is refused, and served once the first one ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.app.daemon import open_daemon
from proxy.app.options import RunOptions, StartRefused
from proxy.config import Config
from proxy.storage.phrase_lock import PhraseInUse, PhraseLock
from proxy.wallet.keystore import Keystore
from proxy.wallet.phrases import new_phrase
from tests.upstream.fake_node import FakeNode

PASSWORD = "correct horse"


async def test_a_second_data_directory_with_the_phrase_is_refused(short_tmp: Path) -> None:
    phrase, notices = new_phrase(), list[str]()
    async with FakeNode().http() as url:

        def options(name: str, *, made: bool = True) -> RunOptions:
            data = short_tmp / name
            data.mkdir(mode=0o700, exist_ok=True)
            if made:
                Keystore(data / "keystore.json", scrypt_n=16).create(phrase, PASSWORD)
            return RunOptions(data, Config(), (url,), False, 0, 0, PASSWORD if made else None, True)

        first, second, third = options("a"), options("b"), options("c", made=False)
        async with open_daemon(first, notices.append):
            with pytest.raises(StartRefused, match=r"/a.*one phrase, one daemon"):
                async with open_daemon(second, notices.append):
                    pass
            async with open_daemon(third, notices.append) as (services, _):  # its keystore is made while it runs
                Keystore(third.data / "keystore.json", scrypt_n=16).create(phrase, PASSWORD)
                services.keyring.unlock(PASSWORD)
                assert services.keyring.locked
                assert any("locked again" in notice for notice in notices)
        async with open_daemon(second, notices.append) as (services, _):
            assert not services.keyring.locked


def test_the_lock_tells_no_address_and_lies_in_a_folder_of_this_user(tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    lock, other = PhraseLock(tmp_path / "data", folder), PhraseLock(tmp_path / "other", folder)
    lock.take("0xAbCd")
    lock.take("0xAbCd")
    assert "abcd" not in str(list(folder.iterdir())).lower()
    with pytest.raises(PhraseInUse, match="data"):
        other.take("0xabcd")
    lock.release()
    other.take("0xabcd")
    other.release()
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(PermissionError):
        PhraseLock(tmp_path, tmp_path / "link").take("0x1")
