"""One HTTP exchange: a signed request goes out, a Page whose body is provably whole comes back, or TransportError.

Stands between the engine and the wire. The body is read raw and its framing, its compression and its size are checked
here, because HTTP libraries let a cut gzip body, a drip and a bomb pass as success; what only the format can prove (the
end of a JSON text behind a connection that simply closes) is left to the records selector.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
import zlib
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any, Literal, Protocol
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies

from tap_rest.engine.wire import POOLS, Exchange, InsideAddress, current
from tap_rest.errors import NoAnswer
from tap_rest.formats.inflate import SIP, Caps, Inflate, NotCompressed
from tap_rest.formats.spool import Body, Spool, gathered, start, whole
from tap_rest.language.vocabulary import Timeouts
from tap_rest.page import Page
from tap_rest.request import Request, origin

Kind = Literal["connect", "tls", "timeout", "cut", "corrupt", "too_large", "redirect", "request"]

REDIRECTS = 5
CHUNK = 256 * 1024
BEGINNING = 64 * 1024
USER_AGENT = f"daykeep/{version('daykeep')}"
_RETRIABLE = frozenset({"connect", "timeout", "cut", "corrupt"})
_TIMEOUTS = Timeouts()
_CAPS = Caps()
_BODILESS = frozenset({204, 205, 304})


class TransportError(NoAnswer):
    """No whole answer came. `retriable` says whether asking again can help; a TLS fault never is."""

    def __init__(self, kind: Kind, problem: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(problem, where=where, hint=hint)
        self.kind = kind
        self.retriable = kind in _RETRIABLE
        self.arrived = kind not in ("connect", "tls")


class Sender(Protocol):
    """Who answers requests: the transport, or what stands in its place or around it."""

    def send(self, request: Request, signed: Request | None = None, timeouts: Timeouts = _TIMEOUTS) -> Page: ...
    def close(self) -> None: ...


class Transport:
    """Sends requests over pooled connections; safe to share between threads.

    Args:
        trust_env: Whether the environment's proxy and CA bundle are used (never netrc).
        caps: The largest answer that is taken.
    """

    def __init__(self, *, trust_env: bool = False, caps: Caps = _CAPS) -> None:
        self._caps, self._trust_env = caps, trust_env
        bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
        self._verify: bool | str = bundle if trust_env and bundle else True
        self._adapter = HTTPAdapter(pool_connections=16, pool_maxsize=32, max_retries=0)
        self._adapter.poolmanager.pool_classes_by_scheme = POOLS

    def close(self) -> None:
        self._adapter.close()

    def send(self, request: Request, signed: Request | None = None, timeouts: Timeouts = _TIMEOUTS) -> Page:
        """The answer to `request`, asked as `signed` (the same with credentials), which no error and no Page shows.

        The total time is that of the whole exchange, redirects included, however steadily its bytes drip.

        Redirects are followed by our own rules: http(s) only, never from https to http, and once the origin changes
        neither a body nor any header goes along, so that no credential leaves its origin.

        Raises:
            TransportError: No whole answer came.
            SpoolFailed: There is no room for a large one.
        """
        asked = signed or request
        method, url, body = asked.method, asked.full_url, asked.body
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json", **dict(asked.headers)}
        home = checked_origin(url)
        exchange = Exchange(time.monotonic() + timeouts.total)
        token = current.set(exchange)
        try:
            for _ in range(REDIRECTS + 1):
                with self._exchange(method, url, headers, body, timeouts) as response:
                    target = response.headers.get("Location")
                    if target is None or response.status_code not in (301, 302, 303, 307, 308):
                        return self._page(request, url, method, response, exchange)
                target = urljoin(url, target)
                there = checked_origin(target)
                if there[0] == "http" and home[0] == "https":
                    raise TransportError("redirect", "was redirected from https to http", where=_shown(url))
                if response.status_code == 303 or (response.status_code in (301, 302) and method == "POST"):
                    method, body = "GET", ""
                if there != home:
                    if body:
                        raise TransportError("redirect", "was sent elsewhere with its body", where=_shown(url))
                    headers = {name: headers[name] for name in ("User-Agent", "Accept")}
                    exchange.public_only = exchange.public_only or exchange.peer_is_public
                url, home = target, there
            raise TransportError("redirect", f"was redirected more than {REDIRECTS} times", where=_shown(url))
        finally:
            current.reset(token)

    def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: str, timeouts: Timeouts
    ) -> requests.Response:
        prepared = requests.Request(method, url, dict(headers), data=body.encode() or None).prepare()
        if url.isascii():
            prepared.url = url  # requests and urllib3 would rewrite escapes that a server put into a link
            parts = urlsplit(url)
            current.get().target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        prepared.headers["Accept-Encoding"] = "gzip"
        proxies = get_environ_proxies(url) if self._trust_env else {}
        try:
            return self._adapter.send(
                prepared, stream=True, timeout=(timeouts.connect, timeouts.read), verify=self._verify, proxies=proxies
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as fault:
            raise _translated(fault, url) from None

    def _page(self, request: Request, url: str, method: str, response: requests.Response, exchange: Exchange) -> Page:
        headers = {name.lower(): value for name, value in response.raw.headers.itermerged()}
        length, encoding = headers.get("content-length"), headers.get("content-encoding", "")
        framed, inflate = response.raw.chunked or length is not None, None
        if method == "HEAD" or response.status_code in _BODILESS:
            body: Body = b""
        else:
            if length is not None and not length.replace(", ", "").isdecimal():
                raise TransportError("corrupt", "announced a length that is no number", where=_shown(url))
            inflate = _inflater(encoding, url)
            try:
                body = gathered(self._pieces(response.raw, inflate, url))
            except (urllib3.exceptions.HTTPError, OSError, ValueError, NotCompressed) as fault:
                raise _translated(fault, url, reading=True) from None
            if exchange.surplus and framed:
                raise TransportError("corrupt", "sent more bytes than it announced", where=_shown(url))
        if isinstance(body, Spool) and response.status_code >= 300:
            body = whole(body)  # an error is judged by what it says
        held, spool = (body, None) if isinstance(body, bytes) else (start(body, BEGINNING), body)
        ends = framed or inflate is not None
        return Page(request, response.status_code, headers, held, url, spool=spool, framed=ends)

    def _pieces(self, raw: Any, inflate: Inflate | None, url: str) -> Iterator[bytes]:
        wire = size = 0
        while chunk := raw.read(CHUNK if inflate is None else SIP, decode_content=False):
            wire += len(chunk)
            if inflate is not None:
                chunk = inflate.feed(chunk)
            size += len(chunk)
            if wire > self._caps.wire or size > self._caps.room(wire):
                raise TransportError(
                    "too_large",
                    f"answered with more than is taken ({wire:,} bytes that inflate to over {size:,})",
                    where=_shown(url),
                    hint="ask for smaller pages",
                )
            yield chunk
        if inflate is not None and wire and not inflate.complete:
            raise TransportError("cut", "sent a compressed body that stops in the middle", where=_shown(url))


def checked_origin(url: str) -> tuple[str, str, int]:
    """The origin of an http(s) URL that every reader takes apart alike.

    Raises TransportError for other schemes, user names, backslashes, blanks and control characters: with those, two
    URL parsers can disagree about the host, and with it about who is sent a credential.
    """
    try:
        found = origin(url)
        clean = not any(char <= " " or char in "\\\x7f" for char in url) and "@" not in urlsplit(url).netloc
    except ValueError:
        clean = False
    if not clean:
        raise TransportError("request", f"is not a plain http(s) URL: {_shown(url)!r}")
    return found


def _inflater(encoding: str, url: str) -> Inflate | None:
    names = [name for name in encoding.lower().replace(" ", "").split(",") if name not in ("", "identity")]
    if not names:
        return None
    wbits = {"gzip": 31, "x-gzip": 31, "deflate": zlib.MAX_WBITS}.get(names[0]) if len(names) == 1 else None
    if wbits is None:
        raise TransportError("request", f"answered in the encoding {encoding!r}, gzip was asked for", where=_shown(url))
    return Inflate(wbits)


_FAULTS: tuple[tuple[tuple[type[BaseException], ...], Kind, str, str], ...] = (
    ((InsideAddress,), "redirect", "was redirected to an address inside this network", ""),
    ((ConnectionRefusedError,), "connect", "refused the connection", "is the server running?"),
    ((socket.gaierror,), "connect", "has a host name that cannot be resolved", "check base_url"),
    ((requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError), "timeout", "could not be reached in time", ""),
    ((TimeoutError, requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError), "timeout", "stopped sending", ""),
    ((requests.exceptions.ProxyError, urllib3.exceptions.ProxyError), "request", "is not reached by the proxy", ""),
    (
        (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader, urllib3.exceptions.LocationParseError),
        "request",
        "cannot be asked: the URL or a header is malformed",
        "",
    ),
    ((UnicodeEncodeError,), "request", "cannot be asked: a header holds characters that HTTP has no way to send", ""),
    ((NotCompressed,), "corrupt", "sent a compressed body that is damaged", ""),
)


def _translated(fault: BaseException, url: str, *, reading: bool = False) -> TransportError:
    """The fault in our words. Its own text is not used: libraries put the whole URL, credentials included, into it."""
    causes, where = _causes(fault), _shown(url)
    if not reading and any(isinstance(cause, (ssl.SSLError, requests.exceptions.SSLError)) for cause in causes):
        found = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
        problem = f"TLS failed: {found.verify_message if found else 'no common protocol'}"
        return TransportError("tls", problem, where=where, hint="check the host name and the server's certificate")
    if any(isinstance(cause, TimeoutError) and cause.args == ("total",) for cause in causes):
        return TransportError("timeout", "took longer than the total time for an answer", where=where)
    for kinds, kind, problem, hint in _FAULTS:
        if any(isinstance(cause, kinds) for cause in causes):
            return TransportError(kind, problem, where=where, hint=hint)
    return TransportError("cut", "closed the connection before the answer was whole", where=where)


def _causes(fault: BaseException) -> list[BaseException]:
    """The fault and everything it was raised from or wraps; requests and urllib3 hide causes in all three places."""
    found: list[BaseException] = []
    queue: list[Any] = [fault]
    while queue:
        cause = queue.pop()
        if isinstance(cause, BaseException) and not any(cause is seen for seen in found):
            found.append(cause)
            queue += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
    return found


def _shown(url: str) -> str:
    """A URL as it may be shown: without query, user name and fragment."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return "(unreadable URL)"
