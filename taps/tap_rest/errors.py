"""The errors of the tap side: one small tree whose axis is what happens next.

TapError
├ DeclarationError   a mistake in a declaration, found before any request
├ ConfigError        a setting that is missing or has a value it may not have
├ RequestRefused     the API said no (401, 403, other 4xx): asking again would not help
│ └ CredentialsRefused   and would say no to every other stream
├ NoAnswer           no whole answer came
├ UnexpectedPage     a body that is not what was declared: asked again first, then fatal for the stream
├ PaginationLoop     the same request twice in one unit
├ UnitIncomplete     the end was reached without the evidence that everything came
└ Postponed          the API asks to come back later than `max_wait`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self


def _printable(text: str) -> str:
    """Without what would steer a terminal: a server's own words may stand in it."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class TapError(Exception):
    """What went wrong, where, and what a person can do about it, in characters that can be printed.

    Attributes:
        problem: One sentence, without a full stop.
        where: A place that can be looked up: `file.yaml:14`, a stream, a redacted URL; may be empty.
        hint: What to change or try; may be empty.
        about: What is known of the request that failed: `stream_name`, `partition`, `page`, `request`, `status`.
    """

    about: Mapping[str, Any] = {}

    exit_status: ClassVar[int] = 1

    def __init__(self, problem: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(problem, where, hint)
        self.problem, self.where, self.hint = map(_printable, (problem, where, hint))

    def __str__(self) -> str:
        text = f"{self.where}: {self.problem}" if self.where else self.problem
        return f"{text}: {self.hint}" if self.hint else text


class DeclarationError(TapError):
    """One mistake in a declaration, or all of them: `mistakes` holds each, `str()` has a line for each."""

    exit_status = 2

    def __init__(self, problem: str, *, where: str = "", hint: str = "", mistakes: Sequence[Self] = ()) -> None:
        super().__init__(problem, where=where, hint=hint)
        self.mistakes = tuple(mistakes) or (self,)

    def __str__(self) -> str:
        if self.mistakes == (self,):
            return super().__str__()
        return "\n".join(str(mistake) for mistake in self.mistakes)


class ConfigError(TapError):
    exit_status = 2


class RequestRefused(TapError):
    """The API said no.

    Attributes:
        status: The HTTP status it said so with; 0 where it was not the API itself.
    """

    def __init__(self, problem: str, *, where: str = "", hint: str = "", status: int = 0) -> None:
        super().__init__(problem, where=where, hint=hint)
        self.status = status


class CredentialsRefused(RequestRefused):
    """No other stream would fare better."""


class NoAnswer(TapError):
    """No whole answer came.

    Attributes:
        arrived: The request may have reached the server, which then may have done what it was asked.
    """

    arrived = True


class UnexpectedPage(TapError):
    pass


class PaginationLoop(TapError):
    pass


class UnitIncomplete(TapError):
    """A unit came to its end without the evidence that everything came."""


class Postponed(TapError):
    """Nothing is wrong, but the wait asked for is longer than the user allows; the state is kept."""

    exit_status = 75
