"""Answers kept as they came, and runs repeated from what was kept, without a network.

Both stand in the transport's place and are called as it is. What goes to disk holds no credential: requests are kept as
they were before signing, token requests not at all, and a secret that an answer repeats is masked in it.

    <folder>/run-<started>-<run8>.jsonl                                     the answers of a run, in their order
    <folder>/<stream>/<day>/<run8>/<reqfp16>-<bodysha16>.json.gz            a body
    <folder>/<stream>/<day>/<run8>/<reqfp16>-<bodysha16>.<sha8>.meta.json   what was asked, and its answer
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import secrets
import threading
import zlib
from collections import defaultdict, deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import msgspec
from isal import igzip

from tap_rest.auth.auth import Auth, PoolAuth
from tap_rest.auth.flow import AuthKind, Fetched, Flow, Tokens
from tap_rest.engine.attempts import about
from tap_rest.engine.messages import timestamp
from tap_rest.engine.signals import Waiter
from tap_rest.engine.transport import Sender, TransportError
from tap_rest.errors import ConfigError, TapError
from tap_rest.language.declaration import Bound
from tap_rest.language.vocabulary import Timeouts
from tap_rest.page import Page
from tap_rest.redaction import Redactor
from tap_rest.request import Private, Request

_TIMEOUTS = Timeouts()


class CaptureClock(Waiter):
    """A clock whose wall time stands still from one answer to the next, so that a replay can tell the same times."""

    def __init__(self, reader: int | None = None) -> None:
        super().__init__(reader)
        self._time = super().now()

    def now(self) -> float:
        return self._time

    def wait(self, seconds: float) -> None:
        super().wait(seconds)
        self.tick()

    def tick(self) -> None:
        self._time = super().now()


class ReplayClock(Waiter):
    """The captured run's times; a wait passes at once."""

    def __init__(self, reader: int | None, started: float) -> None:
        super().__init__(reader)
        self._waited = 0.0
        self.time = started

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self._waited

    def wait(self, seconds: float) -> None:
        self.check()
        self.time += seconds
        self._waited += seconds


class Capture:
    """Keeps what comes through it; each answer is on stable storage before it is given on.

    Args:
        inner: Sends the requests.
        folder: Takes the files.
        clock: Is told when an answer has come.
        redactor: Knows the secrets.
        cursors: Headers, in lower case, that lead to a next page.

    Attributes:
        run: The file of the run; None as long as nothing was asked.
    """

    def __init__(
        self, inner: Sender, folder: Path, clock: CaptureClock, redactor: Redactor, cursors: Collection[str] = ()
    ) -> None:
        self._inner, self._folder, self._clock, self._redactor = inner, folder, clock, redactor
        self._cursors = {"link", *cursors}
        self._id, self._started = secrets.token_hex(4), clock.now()
        self._list: TextIO | None = None
        self._lock = threading.Lock()
        self.run: Path | None = None

    def close(self) -> None:
        self._inner.close()
        if self._list is not None:
            self._list.close()

    def send(self, request: Request, signed: Request | None = None, timeouts: Timeouts = _TIMEOUTS) -> Page:
        """As the transport does. Raises TransportError, and OSError when the answer can't be kept."""
        if isinstance(request, Private):
            page = self._inner.send(request, signed, timeouts)
            self._clock.tick()
            return page
        began = self._clock.monotonic()
        try:
            page = self._inner.send(request, signed, timeouts)
        except TransportError as fault:
            self._clock.tick()
            told = {"kind": fault.kind, "problem": self._redactor.text(fault.problem), "hint": fault.hint}
            self._note(request, began, {"fault": told | {"asked": self._asked(request)}})
            raise
        self._clock.tick()
        self._note(request, began, self._kept(request, page))
        return page

    def _asked(self, request: Request) -> dict[str, Any]:
        hide = self._redactor
        return {
            "method": request.method,
            "url": hide.text(request.full_url),
            "headers": hide.headers(dict(request.headers)),
            "body": hide.text(request.body),
        }

    def _kept(self, request: Request, page: Page) -> dict[str, str]:
        hide, came = self._redactor, page.whole()
        body = hide.values(came.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        meta = {
            "request": self._asked(request),
            "status": page.status,
            "url": hide.text(page.url),
            # A cursor may well be called `token`: by its name alone it is not taken for a secret there.
            "headers": hide.headers(page.headers)
            | {name: hide.values(text) for name, text in page.headers.items() if name in self._cursors},
            "masked": body != came,
            "framed": page.framed,
        }
        text = json.dumps(meta, ensure_ascii=False, indent=1, sort_keys=True).encode(errors="surrogateescape")
        day = timestamp(self._clock.now())[:10]
        name = f"{_stream()}/{day}/{self._id}/{_print_of(request, hide)}-{_sha256(body)[:16]}"
        found = {"body": f"{name}.json.gz", "meta": f"{name}.{_sha256(text)[:8]}.meta.json"}
        _write_once(self._folder / found["body"], igzip.compress(body, mtime=0))
        _write_once(self._folder / found["meta"], text)
        return found

    def _note(self, request: Request, began: float, found: Mapping[str, Any]) -> None:
        line = {
            "time": self._clock.now(),
            "ms": round((self._clock.monotonic() - began) * 1000, 1),
            "stream": _stream(),
            "partition": about.get().get("partition"),
            "page": about.get().get("page"),
            "id": about.get().get("request"),
            "request": _print_of(request, self._redactor),
            **found,
        }
        with self._lock:  # several answers may come at a time
            if self._list is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self.run = self._folder / f"run-{timestamp(self._started)[:19].replace(':', '')}Z-{self._id}.jsonl"
                self._list = self.run.open("x", encoding="utf-8")
                _sync_folder(self._folder)
                self._list.write(json.dumps({"started": self._started}) + "\n")
            self._list.write(json.dumps(line) + "\n")
            self._list.flush()
            os.fsync(self._list.fileno())


class Replay:
    """Answers from a captured run, each request in the order in which it was asked.

    Args:
        place: The file of the run, or a folder of captures, whose latest run is meant.
        redactor: Knows the secrets.
        clock: Is set to the times of the captured run.

    Attributes:
        run: The file of the captured run.
    """

    def __init__(self, place: Path, redactor: Redactor, clock: ReplayClock) -> None:
        self.run = _run_file(place)
        self._folder, self._redactor, self._clock = self.run.parent, redactor, clock
        self._answers: defaultdict[Any, deque[dict[str, Any]]] = defaultdict(deque)
        for line in lines_of(place)[1:]:
            self._answers[line["stream"], line.get("partition"), line["request"]].append(line)

    def close(self) -> None:
        """There is nothing to close."""

    def send(self, request: Request, signed: Request | None = None, timeouts: Timeouts = _TIMEOUTS) -> Page:  # noqa: ARG002 - as the transport's
        """The captured answer. Raises TapError: where none was captured, and the TransportError that was."""
        answers = self._answers[_stream(), about.get().get("partition"), _print_of(request, self._redactor)]
        shown = f"{request.method} {self._redactor.text(request.full_url)}"
        if not answers:
            raise TapError(f"is not in the capture: {shown}", where=_stream(), hint="capture a new run")
        found = answers.popleft()
        self._clock.time = found["time"]
        if "fault" in found:
            raise TransportError(found["fault"]["kind"], found["fault"]["problem"], hint=found["fault"]["hint"])
        meta, body = answer_of(self._folder, found, shown)
        framed = meta.get("framed", True)
        return Page(request, meta["status"], meta["headers"], body, meta["url"], framed=framed)


def answer_of(folder: Path, line: Mapping[str, Any], shown: str) -> tuple[dict[str, Any], bytes]:
    """What a line of a run leads to: the answer's metadata and its body. Raises TapError, which calls it `shown`."""
    try:
        body = gzip.decompress((folder / line["body"]).read_bytes())
        return json.loads((folder / line["meta"]).read_bytes()), body
    except (OSError, EOFError, ValueError, zlib.error):
        raise TapError(f"is damaged or gone in the capture: {shown}", where=line["body"]) from None


class Unsigned(AuthKind, frozen=True, kw_only=True):
    """The auth of a replay, which needs no token: it follows the captured run in asking twice after a 401."""

    auth: Auth

    def flow(self, request: Request, tokens: Tokens) -> Flow:  # noqa: ARG002 - none are needed
        page = yield request
        if page.status == 401 and isinstance(self.auth, Fetched):
            yield request

    def stripped(self, request: Request) -> Request:
        return self.auth.stripped(request)


def replayed(bound: Bound) -> Bound:
    """A declaration as a replay reads it: what it asks for needs no credentials and counts against no limit."""
    auth: Any = Unsigned(auth=bound.auth)
    if isinstance(bound.auth, PoolAuth):  # as many as there were, since one that was refused was left out
        auth = PoolAuth(of=[Unsigned(auth=one) for one in bound.auth.members()])  # type: ignore[misc]
    return msgspec.structs.replace(bound, auth=auth, limits=())


def clock_for(capture: str | None, replay: str | None, reader: int | None = None) -> Waiter:
    """The clock of a run with these settings. Raises ConfigError."""
    if capture and replay:
        raise ConfigError("`capture` and `replay` exclude each other")
    if replay:
        return ReplayClock(reader, lines_of(Path(replay))[0]["started"])
    return CaptureClock(reader) if capture else Waiter(reader)


def _stream() -> str:
    return str(about.get().get("stream_name", "check"))


def _print_of(request: Request, redactor: Redactor) -> str:
    """The request's fingerprint, the same whatever a secret in it may be."""
    params = tuple((name, redactor.values(value)) for name, value in request.params)
    url, body = redactor.values(request.url), redactor.values(request.body)
    return Request(url=url, method=request.method, params=params, body=body).fingerprint()


def _run_file(place: Path) -> Path:
    runs = sorted(place.glob("run-*.jsonl")) if place.is_dir() else [place] if place.is_file() else []
    if not runs:
        raise ConfigError(f"there is no captured run at {place}", where="setting replay")
    return runs[-1]


def lines_of(place: Path) -> list[dict[str, Any]]:
    """The lines of a run; one that a killed run left unfinished is left out. Raises ConfigError."""
    file, found = _run_file(place), []
    for line in file.read_text(encoding="utf-8").split("\n"):
        with suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    if not found or not isinstance(found[0], dict) or "started" not in found[0]:
        raise ConfigError(f"{file} is not the file of a captured run", where="setting replay")
    return found


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_once(path: Path, content: bytes) -> None:
    if path.exists():
        return
    missing = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        _sync_folder(folder.parent)
    temporary = path.with_suffix(f".{threading.get_ident()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
