"""A person's log-in: in a browser that brings a code back to this machine, or with a code that is typed in elsewhere.

Stands beside the engine: what it gets is stored where runs find it (tokens.py), and they renew it from then on.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import sys
import threading
import webbrowser
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from textwrap import shorten
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from tap_rest.auth.flow import Token
from tap_rest.auth.oauth import LOG_INS, OAuth2Auth
from tap_rest.engine.signals import Waiter
from tap_rest.engine.tokens import RunTokens, token_file
from tap_rest.engine.transport import Sender
from tap_rest.errors import ConfigError, CredentialsRefused, NoAnswer, TapError
from tap_rest.language.declaration import Bound
from tap_rest.language.verdicts import judge
from tap_rest.page import Page
from tap_rest.redaction import Redactor

LONGEST_LOG_IN = 600.0
"""Seconds that a person may take, where the server does not say."""
POLLED_EVERY = 5.0
"""Seconds between two questions whether a code has been typed in, where the server does not say."""


def authorize(
    bound: Bound,
    *,
    clock: Waiter,
    transport: Sender,
    redactor: Redactor,
    token_store: str | None,
    say: Callable[[str], None],
) -> None:
    """Logs a person in and stores the tokens. Raises TapError where that fails; former tokens then stay.

    Args:
        bound: The declaration with its settings.
        clock: Waits are made on it.
        transport: Sends requests.
        redactor: Masks secrets in errors.
        token_store: Folder of the tokens; None for where the user's programs keep such things.
        say: Shows a line to the person.
    """
    auth, file = bound.auth, token_file(bound.name, bound.auth, token_store)
    if not isinstance(auth, OAuth2Auth) or auth.grant not in LOG_INS or file is None:
        hint = f"`auth: {{type: oauth2, grant: …}}` with {' or '.join(LOG_INS)} needs one"
        raise ConfigError(f"{bound.name} needs no person's log-in", hint=hint)
    tokens = RunTokens(clock, (redactor.learn,), file)
    with tokens.renewing():
        pass  # what can't be stored is not asked for
    try:
        log_in = _in_browser if auth.grant == "authorization_code" else _elsewhere
        token = log_in(auth, clock, transport, redactor, say)
    except TapError as error:
        error.problem, error.where, error.hint = map(redactor.text, (error.problem, error.where, error.hint))
        raise
    with tokens.renewing():
        tokens.keep(token)
    if token.due is not None and not token.refresh:
        say(f"The server gave no refresh token: this log-in ends in {(token.due - clock.now()) / 60:.0f} minutes.")
    say(f"Logged in; runs find the tokens in {file.path}")


def _in_browser(
    auth: OAuth2Auth, clock: Waiter, transport: Sender, redactor: Redactor, say: Callable[[str], None]
) -> Token:
    """RFC 6749, 4.1, with PKCE (RFC 7636) and a loopback redirect (RFC 8252)."""
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(64)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    with _Loopback(auth.redirect_url, state) as loopback:
        params = {
            "response_type": "code",
            "client_id": auth.client_id,
            "redirect_uri": loopback.url,
            "scope": auth.scope,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **auth.authorize_params,
        }
        query = urlencode({name: text for name, text in params.items() if text}, quote_via=quote)
        page = f"{auth.authorize_url}{'&' if '?' in auth.authorize_url else '?'}{query}"
        say(f"Log in on this page, in a browser on this machine:\n\n    {page}\n")
        if os.environ.keys() & {"BROWSER", "DISPLAY", "WAYLAND_DISPLAY"} or sys.platform in ("darwin", "win32"):
            threading.Thread(target=webbrowser.open, args=[page], daemon=True).start()  # some return when they end
        answer = loopback.wait(clock)
    if "code" not in answer:
        raise _refused("the log-in was refused", answer.get("error"), answer.get("error_description"))
    code, back = answer["code"], loopback.url
    redactor.learn([code, verifier])
    asked = auth.asking(
        auth.token_url, grant_type="authorization_code", code=code, redirect_uri=back, code_verifier=verifier
    )
    return _token(auth, transport.send(asked), clock.now())


def _elsewhere(
    auth: OAuth2Auth, clock: Waiter, transport: Sender, redactor: Redactor, say: Callable[[str], None]
) -> Token:
    """RFC 8628."""
    given = transport.send(auth.asking(auth.device_url, scope=auth.scope))
    code, typed = given.text_at("device_code"), given.text_at("user_code")
    page = given.text_at("verification_uri") or given.text_at("verification_url")  # the second is a draft's name for it
    if given.status >= 300 or not (code and typed and page):
        raise _refused("the server gave no code", f"status {given.status}", given.at("error"), given.at("message"))
    redactor.learn([code])
    say(f"Open {_printable(page)} in any browser and enter the code {_printable(typed)}")
    every = max(1.0, _seconds(given, "interval", POLLED_EVERY))
    asked = auth.asking(auth.token_url, grant_type="urn:ietf:params:oauth:grant-type:device_code", device_code=code)
    end = clock.monotonic() + _seconds(given, "expires_in", LONGEST_LOG_IN)
    while clock.monotonic() < end:
        clock.wait(every)
        try:
            answer = transport.send(asked)
        except NoAnswer:
            every *= 2
            continue
        error = answer.at("error")
        if error == "slow_down" or (error is None and judge(answer, now=clock.now()).kind in ("retry", "wait")):
            every += 5
        elif error != "authorization_pending":
            return _token(auth, answer, clock.now())
    raise _refused("the code was not entered in time")


def _token(auth: OAuth2Auth, answer: Page, now: float) -> Token:
    token = auth.next_token(answer, Token(), now) if answer.status < 300 and not answer.at("error") else None
    if token is None:
        raise _refused(auth.refusal(answer))
    return token


def _refused(problem: str, *said: object) -> CredentialsRefused:
    words = ", ".join(shorten(str(word), 200, placeholder="…") for word in said if word)  # half a secret is not masked
    return CredentialsRefused(f"{problem} ({words})" if words else problem, hint="nothing was stored; try again")


def _seconds(page: Page, path: str, default: float) -> float:
    found = page.at(path)
    return float(found) if isinstance(found, int | float) and 0 <= found <= 86400 else default


def _printable(text: str) -> str:
    """A server's text as it can do no harm to a terminal."""
    return "".join(char for char in text if char.isprintable())


class _Loopback(ThreadingTCPServer):
    """Waits on this machine, and for this machine alone, for the browser that comes back.

    Args:
        url: Where it comes back to; a free port is taken where none is named.
        state: What it must bring.
    """

    daemon_threads = True
    allow_reuse_address = True
    timeout = 0.2

    def __init__(self, url: str, state: str) -> None:
        parts = urlsplit(url)
        try:
            super().__init__(("127.0.0.1", parts.port or 0), _Return)
        except OSError as error:
            raise ConfigError(f"port {parts.port} can't be used ({error.strerror})", where="redirect_url") from None
        self.url = parts._replace(netloc=f"{parts.hostname}:{self.server_address[1]}").geturl()
        self.path, self.state, self.brought = parts.path or "/", state, dict[str, str]()

    def wait(self, clock: Waiter) -> dict[str, str]:
        """What the browser has brought. Raises CredentialsRefused when it does not come."""
        end = clock.monotonic() + LONGEST_LOG_IN
        while not self.brought:
            clock.check()
            if clock.monotonic() > end:
                raise _refused(f"nobody has logged in within {LONGEST_LOG_IN / 60:.0f} minutes")
            self.handle_request()
        return self.brought

    def handle_error(self, *_: object) -> None:
        """Nothing: a browser that breaks off may come again."""


class _Return(BaseHTTPRequestHandler):
    server: _Loopback
    timeout = 10

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        brought = dict(parse_qsl(parts.query))
        if parts.path != self.server.path:
            self._say(404, "There is nothing here.")
        elif not hmac.compare_digest(brought.get("state", "").encode(), self.server.state.encode()):
            self._say(400, "This is not the answer to the log-in that is waited for: its state is another.")
        elif "code" in brought or "error" in brought:
            self._say(200, "That is all. The terminal says how it ended; this window can be closed.")
            self.server.brought = brought
        else:
            self._say(400, "There is neither a code nor an error in this answer.")

    def log_message(self, *_: object) -> None:
        """Nothing: a request line holds the code."""

    def _say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())
