"""`l2proxy rule`: answers the owner gives in advance. Only the attested copy of a file is ever in force."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from proxy.cli.session import A_FILE, Failure, Session, because, session_options, table

_QUESTION = re.compile(r"[0-9a-f]{8}")


@click.group()
def rule() -> None:
    """Answers given in advance."""


@rule.command()
@click.argument("file", metavar="FILE", type=A_FILE)
@session_options
def attest(session: Session, file: str) -> None:
    """Put the rules of FILE in force (- for standard input), in place of those before.

    A copy is kept; a change of the file changes nothing until you attest it again.
    """
    answer = session.call("admin_ruleAttest", {"text": _text(file)})
    session.show(answer, _attested)


@rule.command("list")
@session_options
def list_(session: Session) -> None:
    """Show the rules in force, in the order they are tried (reject rules come first)."""
    session.show(session.call("admin_ruleList"), _rows)


@rule.command()
@click.argument("question", metavar="ID|FILE")
@session_options
def test(session: Session, question: str) -> None:
    """Say what the rules make of an open question, or of an example question in JSON (FILE, or - for standard input).

    An example: {"origin": "plugin:paychan", "kind": "deposit", "method": "deposit", "asset": "ETH", "value": "1000"}
    """
    if _QUESTION.fullmatch(question) and not Path(question).exists():
        answer = session.call("admin_ruleTest", {"id": question}, live=True)
    else:
        answer = session.call("admin_ruleTest", {"question": _example(question)})
    session.show(answer, _verdict)


def _rows(state: dict[str, Any]) -> Any:
    rows = [
        [
            entry["id"],
            entry["decision"],
            ", ".join(f"{k} = {v}" for k, v in entry.items() if k not in ("id", "decision")),
        ]
        for entry in state["rules"]
    ]
    return table(["ID", "Decision", "When"], rows, "no rules are in force; every question is yours")


def _attested(done: dict[str, Any]) -> str:
    count = len(done["rules"])
    return f"{count} rule{' is' if count == 1 else 's are'} in force ({done['digest']})"


def _verdict(verdict: dict[str, Any]) -> str:
    by = "" if verdict["rule"] is None else f" by rule {verdict['rule']['id']}"
    return f"{verdict['decision']}{by}: {verdict['why']}"


def _text(source: str, what: str = "rules") -> str:
    try:
        with click.open_file(source, encoding="utf-8") as file:
            return str(file.read())
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"the {what} cannot be read from {source}: {because(error)}") from error


def _example(source: str) -> Any:
    text = _text(source, "example question")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Failure(f"the example question in {source} is no JSON: {error}") from error
