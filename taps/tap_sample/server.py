"""The sample API over real HTTP: sockets, keep-alive, gzip, bearer token, rate limit, ETags and a log of the requests.

`SampleServer` is what tests and `tap-sample` start in process and what `python -m tap_sample` serves. What it says
comes from `endpoints`; what goes wrong on the way, from `faults`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import socket
import socketserver
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import ceil
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl

from isal import igzip

from tap_sample.endpoints import PAGE_SIZE_CAP, Refused, Reply, Wire, answer, error_body
from tap_sample.faults import Faults, Kind

TOKEN = "daykeep-sample"  # noqa: S105 - the published token of a data set that anybody may read

_LOG_LENGTH = 100_000
_DRIPS = 20


class Served(NamedTuple):
    """One request as it was answered; `fault` names what was done to the answer, if anything."""

    path: str
    params: Mapping[str, str]
    status: int
    fault: Kind | None


@dataclass(frozen=True)
class Quota:
    """So many requests in each window of so many seconds."""

    requests: int = 2000
    seconds: float = 10.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `REQUESTS/SECONDS`. Raises ValueError."""
        parts = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9}(?:\.[0-9]{1,6})?)", text)
        if not parts:
            raise ValueError(f"a rate is REQUESTS/SECONDS such as 2000/10, not {text!r}")
        return cls(int(parts[1]), float(parts[2]))


class SampleServer(ThreadingHTTPServer):
    """The sample API on `base_url`, serving from a daemon thread inside a `with` block, or by `serve_forever()`.

    Attributes:
        log: The last 100,000 requests in the order in which they were answered.
        requests: How many requests each path had.
        most_in_flight: How many requests were being answered at the same time, at most.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str = TOKEN,
        quota: Quota | None = None,
        page_size_cap: int = PAGE_SIZE_CAP,
        faults: Faults | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Bind and listen; port 0 is any free one. Raises OSError if the address is not to be had."""
        self.token, self.page_size_cap = token, page_size_cap
        self.quota, self.clock = quota or Quota(), clock
        self.faults = faults or Faults(0.0)
        self.log: deque[Served] = deque(maxlen=_LOG_LENGTH)
        self.requests: Counter[str] = Counter()
        self.most_in_flight = 0
        self._in_flight = self._used = 0
        self._window_end = 0.0
        self._lock = threading.Lock()
        self._connections: set[Any] = set()
        super().__init__((host, port), _Handler)
        self.base_url = f"http://{host}:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def server_bind(self) -> None:
        """Bind without the look-up of the host's name that HTTPServer makes: it may wait for a network."""
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Stop listening, and hang up on clients that keep their connection: a stopped server answers nobody."""
        super().server_close()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; anything else is a defect and shows its traceback."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @contextmanager
    def in_flight(self, path: str) -> Iterator[None]:
        with self._lock:
            self.requests[path] += 1
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1

    def take(self) -> dict[str, str]:
        """Count one request against the quota and return the headers that tell about it. Raises Refused (429)."""
        now = self.clock()
        with self._lock:
            if now >= self._window_end:
                self._used, self._window_end = 0, now + self.quota.seconds
            self._used += 1
            left, end = self.quota.requests - self._used, self._window_end
        headers = {
            "x-ratelimit-limit": str(self.quota.requests),
            "x-ratelimit-remaining": str(max(left, 0)),
            "x-ratelimit-reset": str(ceil(end)),
        }
        if left < 0:
            message = f"more than {self.quota.requests} requests in {self.quota.seconds:g} seconds"
            raise Refused(429, "rate_limited", message, {**headers, "Retry-After": str(ceil(end - now))})
        return headers


class _Handler(BaseHTTPRequestHandler):
    server: SampleServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: together with delayed ACKs Nagle costs 40 ms each
    timeout = 60

    def do_GET(self) -> None:
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # a body that nobody reads would be taken for the next request
        path, _, query = self.path.partition("?")
        params: dict[str, str] = {}
        limits: dict[str, str] = {}
        fault: Kind | None = None
        gzip = _accepts_gzip(self.headers.get("Accept-Encoding", ""))
        with self.server.in_flight(path):
            try:
                self._authenticate()
                limits = self.server.take()
                params = _params(query)
                reply, fault = self._answer(path, params, gzip=gzip)
            except Refused as refused:
                reply = refused.reply
            self.server.log.append(Served(path, params, reply.status, fault))
            self._send(replace(reply, headers={**limits, **reply.headers}), gzip=gzip)

    def _authenticate(self) -> None:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self.server.token.encode()):
            hint = "send the header `Authorization: Bearer TOKEN` with the right token"
            raise Refused(401, "unauthorized", hint, {"WWW-Authenticate": "Bearer"})

    def _answer(self, path: str, params: Mapping[str, str], *, gzip: bool) -> tuple[Reply, Kind | None]:
        host = self.headers.get("Host", "")
        origin = f"http://{host}" if re.fullmatch(r"[\w.:\[\]-]+", host) else self.server.base_url
        page = answer(path, params, origin=origin, cap=self.server.page_size_cap)
        reply = page.reply()
        etag = f'W/"{hashlib.sha256(reply.body).hexdigest()[:16]}"'
        if etag in re.split(r"\s*,\s*", self.headers.get("If-None-Match", "")):
            return Reply(304, b"", {"ETag": etag}), None
        spoilt = self.server.faults.spoil(self.path, page, gzip=gzip)
        return spoilt or (replace(reply, headers={**reply.headers, "ETag": etag}), None)

    def _send(self, reply: Reply, *, gzip: bool) -> None:
        headers = {"Content-Type": reply.content_type, "Vary": "Accept-Encoding", **reply.headers}
        body = reply.body
        if gzip and body:
            body = igzip.compress(body, 1, mtime=0)
            headers["Content-Encoding"] = "gzip"
        cut = 1 + int((len(body) - 1) * reply.cut_at)
        if reply.wire == "short_gzip":
            body = body[:cut]
        if reply.wire == "chunked_cut":
            headers["Transfer-Encoding"] = "chunked"
        elif reply.status != 304:
            headers["Content-Length"] = str(len(body))
        if self.close_connection:
            headers["Connection"] = "close"
        self.send_response(reply.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self._send_body(reply.wire, body, cut)

    def _send_body(self, wire: Wire, body: bytes, cut: int) -> None:
        match wire:
            case "cut":
                self.wfile.write(body[:cut])
                self.close_connection = True
            case "chunked_cut":
                self.wfile.write(b"%x\r\n%b\r\n" % (cut, body[:cut]))
                self.close_connection = True
            case "slow":
                step = ceil(len(body) / _DRIPS)
                for at in range(0, len(body), step):
                    time.sleep(self.server.faults.slow_seconds / _DRIPS)
                    self.wfile.write(body[at : at + step])
            case "whole" | "short_gzip":
                self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What is not even a GET request is refused in JSON as well."""
        self.close_connection = True
        status = HTTPStatus(code)
        self._send(Reply(code, error_body(status.name.lower(), message or explain or status.phrase)), gzip=False)

    def log_message(self, *_: Any) -> None:
        """Silence: `SampleServer.log` is the log."""

    def version_string(self) -> str:
        return "tap-sample"


def _accepts_gzip(accept_encoding: str) -> bool:
    for part in accept_encoding.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in ("gzip", "*"):
            return not re.fullmatch(r"\s*q=0(\.0*)?\s*", weight)
    return False


def _params(query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    params = dict(pairs)
    if len(params) < len(pairs):
        raise Refused(400, "bad_parameter", "each parameter may be given once")
    return params
