"""`l2proxy rule`: answers the owner gives in advance. Only the attested copy of a file is ever in force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from proxy.cli.session import Failure, Session, session_options, table


@click.group()
def rule() -> None:
    """Answers given in advance."""


@rule.command()
@click.argument("file", metavar="FILE")
@session_options
def attest(session: Session, file: str) -> None:
    """Put the rules of FILE in force (- for standard input), in place of those before.

    A copy is kept; a change of the file changes nothing until you attest it again.
    """
    answer = session.call("admin_ruleAttest", {"text": _text(file)})
    session.show(answer, lambda done: f"{len(done['rules'])} rules are in force ({done['digest']})")


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
    if question == "-" or "/" in question or Path(question).is_file():
        params: dict[str, Any] = {"question": _example(question)}
        answer = session.call("admin_ruleTest", params)
    else:
        answer = session.call("admin_ruleTest", {"id": question}, live=True)
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


def _verdict(verdict: dict[str, Any]) -> str:
    by = "" if verdict["rule"] is None else f" by rule {verdict['rule']['id']}"
    return f"{verdict['decision']}{by}: {verdict['why']}"


def _text(source: str) -> str:
    try:
        with click.open_file(source, encoding="utf-8") as file:
            return str(file.read())
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"the rules cannot be read from {source}: {error}") from error


def _example(source: str) -> Any:
    try:
        return json.loads(_text(source))
    except ValueError as error:
        raise Failure(f"{source} holds no JSON: {error}") from error
