"""`l2proxy demo` where it must not or cannot run, and where it stays: one sentence, an exit code, nothing left behind."""

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
        code, said = await demo("--l1", f"{url}/v3/s3cret")
    assert code == 3
    assert "money is real" in said
    assert "s3cret" not in said


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


async def test_on_a_node_that_can_fund_an_empty_account_it_stays_and_one_can_pay(
    anvil_binary: Path, short_tmp: Path
) -> None:
    """`--serve` leaves a system where the printed lines work, until it is stopped; account 0 had nothing before."""
    phrase = short_tmp / "phrase"
    phrase.write_text("legal winner thank year wave sausage worth useful legal winner thank yellow")
    async with start_anvil(anvil_binary) as anvil:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", "demo", "--serve", "--l1", anvil.http, "--mnemonic-file", phrase),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        lines = []
        while b"the owner" not in (line := await process.stdout.readline()):
            assert line, b"".join(lines).decode()
            lines.append(line)
        text = b"".join(lines).decode()
        assert "Alice is 0x58A57ed9d8d624cBD12e2C467D34787555bB1b25" in text
        curl = text[text.index("  curl -s") : text.index("web3.py\n")]
        shell = await asyncio.create_subprocess_shell(curl, stdout=asyncio.subprocess.PIPE)
        paid = json.loads((await shell.communicate())[0])
        assert paid["result"]["nonce"] == "0x1"
        python = "\n".join(line[2:] for line in text[text.index("web3.py\n") : text.index("ethers\n")].splitlines()[1:])
        again = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", python + '\nprint(w3.l2.get_state("paychan")["state"]["nonce"])'),
            stdout=asyncio.subprocess.PIPE,
        )
        assert (await again.communicate())[0].strip() == b"0x2"
        process.terminate()
        assert TEST_PHRASE not in text + (await process.stdout.read()).decode()
        assert await process.wait() == 0


async def test_stopping_it_half_way_ends_its_processes() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "demo", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    steps = [json.loads(await process.stdout.readline()) for _ in range(3)]
    process.terminate()
    _, errors = await process.communicate()
    assert process.returncode == 143
    assert b"its processes have ended" in errors
    await _gone(int(steps[1]["happened"].rsplit(" ", 1)[1]))


async def _gone(pid: int) -> None:
    """Wait until the process `pid` (the embedded L1 of a demo) has ended."""
    async with asyncio.timeout(60):
        while Path(f"/proc/{pid}").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
