"""What every kind of auth is: a flow that signs a request, and, for kinds whose tokens are fetched, that fetches them.

A flow is a generator in the manner of httpx: it yields a request to be sent, is sent the page that came back (or is
thrown the `NoAnswer`), and may yield another. So all protocols are pure and can be driven by hand in a test; what must
outlive a flow is kept by `Tokens`, the only ones who touch a disk.
"""

from __future__ import annotations

import json
import logging
from abc import abstractmethod
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, suppress
from importlib import import_module
from textwrap import shorten
from typing import Annotated, Any, Literal, Protocol
from urllib.parse import unquote_plus, urlencode, urlsplit, urlunsplit

import msgspec

from tap_rest.component import Component
from tap_rest.errors import ConfigError, CredentialsRefused, NoAnswer, TapError
from tap_rest.language.replication import moment
from tap_rest.language.verdicts import judge
from tap_rest.page import Page
from tap_rest.request import Private, Request

EARLY = 300.0
"""Seconds before its end that a token is renewed; half its lifetime for one that lives less than twice that."""

MOST_FORCED = 20
"""Tokens that may be refused before their time in one run."""

Flow = Generator[Request, Page, None]
Secret = Annotated[str, msgspec.Meta(extra={"secret": True})]
"""An option whose value is redacted wherever it turns up."""


class Token(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a token request gave.

    Attributes:
        access: Signs requests; empty where there is none yet.
        refresh: Gets the next one; empty where the config does.
        due: Seconds since the epoch from which it is renewed; None for a token that is good until it is refused.
        asked: A renewal was begun, and nothing is known yet of how it ended.
    """

    access: str = ""
    refresh: str = ""
    due: float | None = None
    asked: bool = False

    def is_good(self, now: float) -> bool:
        """Whether it is there and not yet due."""
        return bool(self.access) and (self.due is None or now < self.due)


class Tokens(Protocol):
    """The tokens of one run, or of all runs that use them."""

    def now(self) -> float:
        """Wall clock, seconds since the epoch."""

    def current(self) -> Token:
        """The newest token known here."""

    def renewing(self) -> AbstractContextManager[Token]:
        """Keeps all others, in this process and on this machine, from renewing; gives the newest token there is."""

    def keep(self, token: Token) -> None:
        """Stores a token, on stable storage where it must outlive the run, and has it redacted everywhere."""

    def force(self) -> int:
        """Counts a token that was refused before its time; how many there were in this run."""


class TokenUnavailable(TapError):
    """The token server can't answer now; `wait_seconds` says when to ask again, if it did."""

    def __init__(self, problem: str, *, where: str = "", wait_seconds: float | None = None) -> None:
        super().__init__(problem, where=where)
        self.wait_seconds = wait_seconds


class CredentialsUnusable(CredentialsRefused, ConfigError):
    """Nothing can be signed: a log-in or a package is missing, or a key is none."""


class AuthKind(Component, frozen=True, kw_only=True):
    """What every kind of auth can do."""

    def flow(self, request: Request, tokens: Tokens) -> Flow:  # noqa: ARG002 - for those whose tokens are fetched
        yield self.signed(request)

    def signed(self, request: Request) -> Request:
        """The request with credentials."""
        return request

    def stripped(self, request: Request) -> Request:
        """The request without credentials that a server echoed into a link: how a next request is stored."""
        return request

    def secrets(self) -> tuple[str, ...]:
        """Texts to redact wherever they turn up."""
        return tuple(getattr(self, field.name) for field in msgspec.structs.fields(self) if field.type == Secret)

    def kept_as(self) -> tuple[str, ...] | None:
        """What tells these credentials from all others where their tokens must outlive the run; None where not."""
        return None


class Placed(AuthKind, frozen=True, kw_only=True):
    """Credentials that are one text in one place.

    Attributes:
        name: Header, query parameter or cookie that takes the credential.
        location: Where that is: `in: header`, `query` or `cookie`.
        prefix: Text before the credential, with its space: `"Token "`.
    """

    name: str
    location: Literal["header", "query", "cookie"] = msgspec.field(name="in", default="header")
    prefix: str = ""

    def placed(self, request: Request, text: str) -> Request:
        """The request with the text where it belongs."""
        value = f"{self.prefix}{text}"
        if self.location == "query":
            return without_param(request, self.name).with_params(**{self.name: value})
        if self.location == "header":
            return request.with_headers({self.name: value})
        cookies = [text for name, text in request.headers if name.lower() == "cookie"]
        return request.with_headers({"Cookie": "; ".join([*cookies, f"{self.name}={value}"])})

    def stripped(self, request: Request) -> Request:
        return without_param(request, self.name) if self.location == "query" else request


class Fetched(Placed, frozen=True, kw_only=True):
    """Credentials that are fetched when there are none, before their end, and once when a request is refused (401).

    Attributes:
        token_path: Path of the token in the answer.
        expires_path: Path of its end: seconds from now, or a time.
        lifetime: Seconds that a token lives where the answer does not say; without it until it is refused.
    """

    name: str = "Authorization"
    prefix: str = "Bearer "
    token_path: str
    expires_path: str | None = None
    lifetime: float | None = None

    @abstractmethod
    def token_request(self, before: Token, now: float) -> Private:
        """What to ask for a token."""

    def next_token(self, page: Page, before: Token, now: float) -> Token | None:
        """The token in the answer; None where it holds none."""
        if not (access := page.text_at(self.token_path)):
            return None
        return Token(access, before.refresh, self._due(page, now))

    def rotates(self) -> bool:
        """Whether asking uses up what is asked with, so that nobody may ask twice."""
        return False

    def log_in(self) -> str:
        """What a person does when nothing can be renewed any more."""
        return "log in again"

    def flow(self, request: Request, tokens: Tokens) -> Flow:
        token = tokens.current()
        if not token.is_good(tokens.now()):
            token = yield from self._renewed(tokens, refused="")
        page = yield self.placed(request, token.access)
        if page.status == 401:
            token = yield from self._renewed(tokens, token.access)
            yield self.placed(request, token.access)

    def _renewed(self, tokens: Tokens, refused: str) -> Generator[Request, Page, Token]:
        """A token that is not the refused one; whoever comes second takes over what the first has got."""
        with tokens.renewing() as before:
            if before.is_good(tokens.now()) and before.access != refused:
                return before
            if refused and tokens.force() > MOST_FORCED:
                problem = f"{MOST_FORCED} tokens were refused before their time"
                raise CredentialsRefused(problem, hint="declare their `lifetime`")
            asked = self.token_request(before, tokens.now())
            if self.rotates():
                tokens.keep(msgspec.structs.replace(before, asked=True))
            try:
                page = yield asked
            except NoAnswer as fault:
                if self.rotates() and fault.arrived:
                    raise self._doubt(asked, fault.problem) from None
                tokens.keep(before)
                raise
            token = self._answered(asked, page, before, tokens)
            try:
                tokens.keep(token)
            except TapError as fault:
                raise self._doubt(asked, fault.problem) from None
            return token

    def refusal(self, page: Page) -> str:
        """What a token server said instead of giving a token."""
        said = [f"status {page.status}" if page.status >= 300 else f"nothing at {self.token_path}"]
        told = [page.at(path) for path in ("error", "error_description", "message")]
        said += [shorten(str(text), 200, placeholder="…") for text in told if text]  # half a token would not be masked
        return f"the token server answered with {', '.join(said)}"

    def _answered(self, asked: Request, page: Page, before: Token, tokens: Tokens) -> Token:
        with suppress(TapError):
            if page.status < 300 and (token := self.next_token(page, before, tokens.now())):
                return token
        what, verdict = self.refusal(page), judge(page, now=tokens.now())
        if self.rotates() and (page.status < 400 or page.status in (500, 502, 504)):
            raise self._doubt(asked, what)
        tokens.keep(before)
        if verdict.kind in ("retry", "wait"):
            raise TokenUnavailable(what, where=asked.url, wait_seconds=verdict.wait_seconds)
        hint = "check the credentials in the config"
        if before.asked:
            hint = "an earlier run asked for a token and never saw the answer, which may have used up the refresh token"
        raise CredentialsRefused(what, where=asked.url, hint=f"{hint}; {self.log_in()}" if self.rotates() else hint)

    def _doubt(self, asked: Request, problem: str) -> CredentialsRefused:
        hint = "both old tokens are kept and nothing is asked again in this run; if the next is refused, "
        problem = f"the token was asked for, but {problem}"
        return CredentialsRefused(problem, where=asked.url, hint=hint + self.log_in())

    def _due(self, page: Page, now: float) -> float | None:
        found = page.at(self.expires_path) if self.expires_path else None
        if isinstance(found, str) and found.strip().isdecimal():  # some of them could be dates
            found = int(found)
        lives = self.lifetime
        if (end := moment(found)) is not None:
            lives = end.timestamp() - (now if end.timestamp() >= 1e9 else 0.0)
        return None if lives is None else now + lives - min(EARLY, lives / 2)


def without_param(request: Request, name: str) -> Request:
    """The request without a query parameter, in its parameters and in the query of its URL."""
    parts = urlsplit(request.url)
    kept = [pair for pair in parts.query.split("&") if unquote_plus(pair.partition("=")[0]) != name]
    url = request.url if len(kept) == parts.query.count("&") + 1 else urlunsplit(parts._replace(query="&".join(kept)))
    return msgspec.structs.replace(request, url=url).with_params(**{name: None})


def posted(url: str, members: Mapping[str, str], *, as_json: bool) -> Private:
    """A POST of these members, as a form or as a JSON object."""
    kind, body = "application/x-www-form-urlencoded", urlencode(members)
    if as_json:
        kind, body = "application/json", json.dumps(members)
    return Private(url, method="POST", headers=(("Content-Type", kind),), body=body)


def from_extra(module: str, extra: str) -> Any:
    """A module that only some kinds of auth need. Raises CredentialsUnusable where it is not installed."""
    try:
        found = import_module(module)
    except ImportError:
        hint = f"pip install 'daykeep[{extra}]'"
        raise CredentialsUnusable("the declared auth needs a package that is not installed", hint=hint) from None
    logging.getLogger(module.partition(".")[0]).setLevel(logging.WARNING)  # they log what they sign, tokens included
    return found


def checked_token_url(text: str) -> None:
    """Raises ValueError for what can't be a token URL, before or after settings are put in."""
    if "{" not in text and (not text.startswith(("https://", "http://")) or "@" in urlsplit(text).netloc):
        raise ValueError("a token URL is an http(s) address without a user name")
