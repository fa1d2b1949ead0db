"""The lines `run` prints for the owner: one per question and per refusal, each with the command that answers it.

Foreign text never reaches a terminal raw: it is escaped, and quoted for the shell where it stands in a command
(hardening.md 19). Refusals are thinned out, so that a page that asks in a loop does not bury the questions.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path

from middleware.questions import Question
from middleware.waist import Origin

REPEAT_AFTER = 60.0  # seconds before the same refusal is said again
MOST_PER_MINUTE = 60
MOST_REMEMBERED = 1024


def escaped(text: str) -> str:
    """Return `text` with everything a terminal might obey (C0, C1, bidi controls) written as an escape."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


class Notices:
    """Writes the lines. `data`: the data directory the commands must name."""

    def __init__(self, say: Callable[[str], None], data: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._data, self._clock = say, data, clock
        self._said: dict[tuple[str, str], float] = {}
        self._minute, self._in_minute = 0.0, 0

    def command(self, *words: str) -> str:
        """Return the command line `l2proxy WORDS --data DIR`, quoted for a shell."""
        return shlex.join(["l2proxy", *(escaped(word) for word in words), "--data", str(self._data)])

    def question(self, question_id: str, question: Question) -> None:
        """Say that a question waits."""
        line = f"l2proxy: QUESTION {question.kind} from {escaped(str(question.origin))}: {escaped(question.summary)}"
        if question.serving is not None and "while serving" not in question.summary:
            line += f" — while serving {escaped(str(question.serving))} (the plugin's word)"
        if question.warnings:
            line += f" — WARNING {escaped('; '.join(question.warnings))}"
            line += f" — look first: {self.command('approval', 'show', question_id)}"
        despite = ("--despite-warnings",) if question.warnings else ()
        self._say(f"{line} — answer: {self.command('approval', 'approve', question_id, *despite)}")

    def rejected(self, question: Question, why: str) -> None:
        """Say that a question got a no without the owner."""
        self._say_thinned(
            str(question.origin),
            f"{question.kind} {why}",
            f"l2proxy: REFUSED {question.kind} from {escaped(str(question.origin))}: {escaped(question.summary)}"
            f" — {escaped(why)} — see: {self.command('audit', 'show')}",
        )

    def refused(self, origin: Origin, method: str, reason: str, grant: tuple[str, ...]) -> None:
        """Say that a call was refused for want of a permission; `grant`: the words of the command that gives it."""
        line = f"l2proxy: REFUSED {escaped(method)} from {escaped(str(origin))}: {escaped(reason)}"
        if grant:
            line += f" — allow: {self.command(*grant)}"
        self._say_thinned(str(origin), f"{method} {reason}", line)

    def _say_thinned(self, origin: str, what: str, line: str) -> None:
        now = self._clock()
        key = (origin, what)
        if now - self._said.get(key, -REPEAT_AFTER) < REPEAT_AFTER:
            return
        if now - self._minute >= 60:
            self._minute, self._in_minute = now, 0
        self._in_minute += 1
        if self._in_minute > MOST_PER_MINUTE:
            if self._in_minute == MOST_PER_MINUTE + 1:
                self._say("l2proxy: more refusals follow; they are not shown for a minute")
            return
        while len(self._said) >= MOST_REMEMBERED:
            del self._said[next(iter(self._said))]
        self._said[key] = now
        self._say(line)
