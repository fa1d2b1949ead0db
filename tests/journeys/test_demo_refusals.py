"""`l2proxy demo` where it must not, or cannot, run: one sentence, and an exit code."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.conftest import TEST_PHRASE, start_anvil
from tests.upstream.fake_node import FakeNode

pytestmark = pytest.mark.timeout(180)


async def demo(*options: str | Path) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "demo", *options),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    text = errors.decode()
    assert "Traceback" not in text
    return process.returncode, text.strip().splitlines()[-1]


async def test_refused_where_money_is_real() -> None:
    async with FakeNode(version="Geth/v1.16", chain_id=1).http() as url:
        code, said = await demo("--l1", url)
    assert code == 3
    assert "money is real" in said


async def test_refused_on_a_fork_of_a_chain_where_money_is_real(anvil_binary: Path) -> None:
    async with start_anvil(anvil_binary, 137) as anvil:
        code, said = await demo("--l1", anvil.ws)
    assert code == 3
    assert "money is real" in said


async def test_a_node_that_is_not_there_is_one_sentence() -> None:
    code, said = await demo("--l1", "http://127.0.0.1:1")
    assert code == 1
    assert "L1" in said


async def test_an_empty_account_is_named_with_the_sum(anvil_binary: Path, short_tmp: Path) -> None:
    """A public test network cannot be told to fund anybody: the sentence names address and sum."""
    phrase = short_tmp / "phrase"
    phrase.write_text("legal winner thank year wave sausage worth useful legal winner thank yellow")
    async with start_anvil(anvil_binary, 11155111) as anvil:
        code, said = await demo("--l1", anvil.http, "--mnemonic-file", phrase)
    assert code == 3
    assert "0x58A57ed9d8d624cBD12e2C467D34787555bB1b25" in said
    assert "2 ETH" in said


async def test_an_empty_account_is_funded_where_the_node_can(anvil_binary: Path, short_tmp: Path) -> None:
    phrase = short_tmp / "phrase"
    phrase.write_text("legal winner thank year wave sausage worth useful legal winner thank yellow")
    async with start_anvil(anvil_binary) as anvil:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", "demo", "--json", "--l1", anvil.http, "--mnemonic-file", phrase),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert TEST_PHRASE not in out.decode()
    balances = {row["name"]: row for row in json.loads(out.splitlines()[-1])["balances"]}
    assert balances["Alice"]["address"] == "0x58A57ed9d8d624cBD12e2C467D34787555bB1b25"
