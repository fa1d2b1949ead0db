"""The audit log: what was written cannot be changed unnoticed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from proxy.authority.audit import AuditBroken, AuditLog, Head
from proxy.storage import Database, Space


@pytest.fixture
def space(owner: Database) -> Space:
    return owner.space("audit")


@pytest.fixture
def log(space: Space, clock: Any) -> AuditLog:
    opened = AuditLog(space, clock)
    for number in range(5):
        opened.append({"event": "decision", "id": f"q{number}"})
    return opened


def entries_of(space: Space) -> list[tuple[bytes, bytes]]:
    return [(key, value) for key, value in space.scan(b"e")]


def rewritten(space: Space, edit: dict[int, dict[str, Any]]) -> None:
    """Change entries and chain everything behind them anew, as a careful forger would."""
    previous = "0" * 64
    for number, (key, value) in enumerate(entries_of(space), 1):
        entry = {**json.loads(value), **edit.get(number, {}), "previous": previous}
        forged = json.dumps(entry, separators=(",", ":")).encode()
        space.write({key: forged})
        previous = hashlib.sha256(forged).hexdigest()


def test_the_chain_holds_over_a_restart(log: AuditLog, space: Space, clock: Any) -> None:
    again = AuditLog(space, clock)
    again.append({"event": "decision", "id": "q5"})
    assert again.verify().n == 6
    assert [entry["id"] for entry in again.entries(2)] == ["q4", "q5"]
    assert [entry["id"] for entry in again.entries(2, before=5)] == ["q2", "q3"]
    assert again.entries(1)[0]["hash"] == again.head.hash


def test_an_empty_log_is_whole(space: Space) -> None:
    assert AuditLog(space).verify() == Head(0, "0" * 64)


@pytest.mark.parametrize("number", [0, 2, 4])
def test_an_edit_is_found(space: Space, log: AuditLog, number: int) -> None:
    key, value = entries_of(space)[number]
    space.write({key: value.replace(f'"q{number}"'.encode(), b'"zz"')})
    with pytest.raises(AuditBroken):
        log.verify()


@pytest.mark.parametrize("number", [0, 2, 4])
def test_a_removal_is_found(space: Space, log: AuditLog, number: int) -> None:
    space.write(delete=[entries_of(space)[number][0]])
    with pytest.raises(AuditBroken):
        log.verify()


@pytest.mark.parametrize("junk", [b"", b"{}", b"not json", b'"text"', b"[]"])
def test_junk_is_found(space: Space, log: AuditLog, junk: bytes) -> None:
    space.write({entries_of(space)[1][0]: junk})
    with pytest.raises(AuditBroken):
        log.verify()


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_chain_rewritten_as_a_whole_no_longer_leads_to_the_head_shown(
    space: Space, log: AuditLog, clock: Any, number: int
) -> None:
    head = log.show_head()
    log.append({"event": "decision", "id": "later"})
    rewritten(space, {number: {"id": "forged"}})
    forged = AuditLog(space, clock)
    with pytest.raises(AuditBroken, match="rewritten"):
        forged.verify()
    with pytest.raises(AuditBroken):
        forged.verify(head)


def test_an_end_cut_off_is_found_by_the_head_the_owner_kept(space: Space, log: AuditLog, clock: Any) -> None:
    head = log.head
    space.write(delete=[entries_of(space)[-1][0]])
    shorter = AuditLog(space, clock)
    shorter.verify()
    with pytest.raises(AuditBroken, match="cut off"):
        shorter.verify(head)


def test_a_head_is_read_back_and_nonsense_is_not() -> None:
    assert Head.parse(str(Head(5, "ab" * 32))) == Head(5, "ab" * 32)
    for text in ("", "5", "x:" + "a" * 64, "5:abc", "-1:" + "a" * 64):
        with pytest.raises(ValueError, match="no head"):
            Head.parse(text)
