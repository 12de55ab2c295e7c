"""What the model servers have in common: HTTP on loopback, a log of what was asked, a clock that a test moves.

A model is one API as its vendor documents it, over a small world of records that a test may change between two runs.
It answers one request at a time, so that the same requests give the same answers.
"""

from __future__ import annotations

import hashlib
import json
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlencode

import requests

NOW = 1_800_000_000.0
"""2027-01-15T08:00:00Z, the time at which a model stands still unless it is given a clock."""


@dataclass(frozen=True)
class Asked:
    """One request. Of a parameter given twice, `params` holds the last value and `all` every one."""

    path: str
    all: Mapping[str, list[str]]
    headers: Mapping[str, str]

    @property
    def params(self) -> dict[str, str]:
        return {name: values[-1] for name, values in self.all.items()}

    def number(self, param: str, default: int) -> int:
        text = self.params.get(param, "")
        return int(text) if text.isdecimal() else default

    def url(self, base: str, **changed: Any) -> str:
        """Where this was asked, with parameters changed, or taken out by None."""
        params = {**self.params, **{name: str(value) for name, value in changed.items() if value is not None}}
        kept = {name: value for name, value in params.items() if changed.get(name, value) is not None}
        return f"{base}{self.path}?{urlencode(kept)}"

    def __str__(self) -> str:
        query = urlencode(self.all, doseq=True, safe="[]:/,*")
        return f"{self.path}?{query}" if query else self.path


@dataclass(frozen=True)
class Answer:
    """What is said: a body that is sent as JSON, unless it is a text."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.body if isinstance(self.body, str) else json.dumps(self.body, separators=(",", ":"))


class Refused(Exception):
    """The request ends here, with this answer."""

    def __init__(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.answer = Answer(body, status, headers or {})


class Window:
    """So many requests in each fixed window of so many seconds."""

    def __init__(self, limit: int, seconds: float, clock: Callable[[], float]) -> None:
        self.limit, self.used, self.reset = limit, 0, 0.0
        self._seconds, self._clock = seconds, clock

    @property
    def left(self) -> int:
        self._turn()
        return max(self.limit - self.used, 0)

    def take(self) -> bool:
        """Counts one request; False when there was none left."""
        self._turn()
        self.used += 1
        return self.used <= self.limit

    def _turn(self) -> None:
        if self._clock() >= self.reset:
            self.used, self.reset = 0, float(int(self._clock()) + self._seconds)


class Model(ThreadingHTTPServer, ABC):
    """A model server, serving inside a `with` block.

    Attributes:
        url: Where it is.
        asked: Every request that came, in order.
        faults: Answers that are given instead of the next ones, first to last.
    """

    daemon_threads = True

    def __init__(self, clock: Callable[[], float] = lambda: NOW) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.clock = clock
        self.asked: list[Asked] = []
        self.faults: list[Answer] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @abstractmethod
    def answer(self, asked: Asked) -> Answer:
        """What the API says. Raises Refused."""

    def answered(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked.append(asked)
            if self.faults:
                return self.faults.pop(0)
            try:
                return self.answer(asked)
            except Refused as refused:
                return refused.answer

    def paths(self) -> Counter[str]:
        """How often each path was asked for."""
        return Counter(asked.path for asked in self.asked)

    def forget(self) -> None:
        """Begins the log anew."""
        self.asked.clear()


class Client:
    """Plain requests to a model, without our own framework, to see that the model is what it should be.

    Args:
        url: Of the model.
        headers: Sent with every request.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._session, self._url = requests.Session(), url
        self._session.trust_env = False
        self._session.headers.update(headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        """The answer to a path with its query, or to a whole URL."""
        url = path if path.startswith("http") else self._url + path
        return self._session.get(url, headers=dict(headers or {}), timeout=10)


class _Handler(BaseHTTPRequestHandler):
    server: Model
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.answered(Asked(path, parse_qs(query, keep_blank_values=True), headers))
        body = b"" if answer.status in (204, 304) else answer.text.encode()
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json; charset=utf-8", **answer.headers}.items():
            self.send_header(name, value)
        if answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The `Date` header tells the model's time, as an API's own clock does."""
        return super().date_time_string(self.server.clock() if timestamp is None else timestamp)

    def log_message(self, *_: Any) -> None:
        """Silence: `Model.asked` is the log."""


def iso(seconds: float) -> str:
    """A time as these APIs write it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(text: str) -> float:
    """The time of an ISO text. Raises ValueError."""
    return datetime.fromisoformat(text).timestamp()


def mark(*facts: Any) -> str:
    """16 hex digits, the same for the same facts."""
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
