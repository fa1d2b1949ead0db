"""`l2proxy approval`: the questions that wait for the owner. They live in a running daemon only (exit 4 without one)."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import click

from proxy.cli.session import A_FILE, Failure, Session, because, printable, session_options, where


@click.group()
def approval() -> None:
    """Questions waiting for the owner."""


@approval.command("list")
@click.option("--watch", is_flag=True, help="Go on: print again whenever a question comes or goes.")
@session_options
def list_(session: Session, watch: bool) -> None:
    """List the open questions."""
    if not watch:
        session.show(session.call("admin_approvalList", live=True), _rows)
        return
    version = -1
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            state = session.call("admin_approvalWait", {"since": version}, live=True)
            if state["version"] != version:
                version = state["version"]
                session.show(state["questions"], _rows)


@approval.command()
@click.argument("question", metavar="ID")
@session_options
def show(session: Session, question: str) -> None:
    """Show all that is known of one question."""
    session.show(
        session.call("admin_approvalShow", {"id": question}, live=True), lambda found: _page(found, where(session.data))
    )


@approval.command()
@click.argument("question", metavar="ID")
@click.option("--despite-warnings", is_flag=True, help="Say yes although the question carries warnings.")
@click.option("--account", "accounts", multiple=True, metavar="ADDRESS", help="Accounts to grant; else the first one.")
@click.option("--only", metavar="FILE", type=A_FILE, help="Grant only what this JSON asks for (- for standard input).")
@session_options
def approve(
    session: Session, question: str, despite_warnings: bool, accounts: tuple[str, ...], only: str | None
) -> None:
    """Say yes to exactly what the question shows."""
    params: dict[str, Any] = {"id": question, "despiteWarnings": despite_warnings}
    chosen: dict[str, Any] = {}
    if accounts:
        chosen["accounts"] = list(accounts)
    if only is not None:
        chosen["permissions"] = _json(only)
    if chosen:
        params["chosen"] = chosen
    session.show(session.call("admin_approvalApprove", params, live=True), _answered)


@approval.command()
@click.argument("question", metavar="ID")
@session_options
def reject(session: Session, question: str) -> None:
    """Say no."""
    session.show(session.call("admin_approvalReject", {"id": question}, live=True), _answered)


def _rows(questions: list[dict[str, Any]]) -> str:
    """Return each question as lines that are never cut: what is approved must be readable whole."""
    lines = []
    for question in questions:
        left = max(0, question["expires"] - int(time.time()))
        lines.append(f"{question['id']}  {question['kind']} from {question['origin']}, {left} s left")
        lines.append(f"          {question['summary']}")
        lines += [f"          WARNING {warning}" for warning in question["warnings"]]
    return "\n".join(printable(line) for line in lines) or "no question waits for you"


def _page(question: dict[str, Any], where: str) -> str:
    """Return the question as lines; every word that is the asker's is marked and escaped. `where`: the commands' --data."""
    lines = [f"{question['kind']} from {question['origin']}", "", f"  {question['summary']}", ""]
    if question["serving"]:
        lines.append(f"while serving  {question['serving']} (the plugin's word)")
    lines += [f"WARNING        {warning}" for warning in question["warnings"]]
    lines += [f"{name:<14} {_value(value)}" for name, value in question["details"].items()]
    lines += [f"{name:<14} {value!r} (the asker's words)" for name, value in question["quoted"].items()]
    lines += [f"rules          {question['rules']}", f"digest         {question['digest']}"]
    despite = " --despite-warnings" if question["warnings"] else ""
    lines += [
        "",
        f"yes: l2proxy approval approve {question['id']}{despite}{where}",
        f"no:  l2proxy approval reject {question['id']}{where}",
    ]
    return "\n".join(printable(line) for line in lines)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _answered(answer: dict[str, Any]) -> str:
    return f"{answer['decision']} {answer['id']} ({answer['digest']})"


def _json(source: str) -> Any:
    try:
        with click.open_file(source, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{source} cannot be read: {because(error)}") from error
    except (ValueError, RecursionError) as error:
        raise Failure(f"{source} holds no JSON: {error}") from error
