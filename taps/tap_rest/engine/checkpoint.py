"""What STATE means: bookmarks of every stream, the page in flight of a unit, and the claims of this run.

Stands between the STATE that a run is given and the engine. Whatever cannot be understood in a STATE (of another
program, of another version, damaged) is left aside with a warning, always towards reading more rather than less.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import msgspec

from tap_rest.engine.evidence import Evidence, Walk
from tap_rest.errors import ConfigError
from tap_rest.language.declaration import BoundStream
from tap_rest.language.replication import Replication
from tap_rest.request import Pairs, Request

VERSION = 1
TOKENS_LIVE = timedelta(hours=24)
LARGEST = 32 * 1024
"""Bytes of a checkpoint; with a larger one a unit starts again from its bookmark rather than make STATE heavy."""


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a request differs from its unit's first one: no base URL, and nothing that the declaration puts in itself.

    Attributes:
        url: Path and query below the origin, or None when unchanged.
        params: Query parameters that differ or are new.
        without: Places of the query parameters that are gone.
        headers: Headers that differ or are new.
        body: The body, or None when unchanged.
    """

    url: str | None = None
    params: Pairs = ()
    without: tuple[int, ...] = ()
    headers: Pairs = ()
    body: str | None = None

    @classmethod
    def between(cls, base: Request, request: Request) -> Step:
        """Both requests go to the same origin."""
        return cls(
            url=None if request.url == base.url else request.url.removeprefix(_root(request.url)),
            params=tuple(pair for pair in request.params if pair not in base.params),
            without=tuple(place for place, pair in enumerate(base.params) if pair not in request.params),
            headers=tuple(pair for pair in request.headers if pair not in base.headers),
            body=None if request.body == base.body else request.body,
        )

    def after(self, base: Request) -> Request:
        """The request again; the base may have moved to another origin."""
        return msgspec.structs.replace(
            base,
            url=base.url if self.url is None else _root(base.url) + self.url,
            params=(*(pair for place, pair in enumerate(base.params) if place not in self.without), *self.params),
            body=base.body if self.body is None else self.body,
        ).with_headers(dict(self.headers))


class Checkpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """The page in flight: what a killed run goes on with, repeating at most one page.

    Attributes:
        version: Of this shape.
        declaration: Fingerprint of the stream's declaration.
        saved: When, ISO time.
        began: When the unit began, seconds since the epoch.
        start: The bookmark or date that the unit reads from.
        until: Its end.
        step: The next request.
        evidence: Of what is written so far.
        seen: The highest replication key value so far.
        before: Signature of the page written last, so that its repetition is noticed.
    """

    version: int
    declaration: str
    saved: str
    began: float
    step: Step
    evidence: Evidence
    start: str | None = None
    until: str | None = None
    seen: str | int | None = None
    before: str = ""


class Unit(msgspec.Struct, frozen=True):
    """What is read as one: a stream, from a start to an end, and when that began (its signpost)."""

    stream: BoundStream
    began: float
    start: str | None = None
    until: str | None = None

    @property
    def request(self) -> Request:
        return self.stream.request(start=self.start, until=self.until)


class State:
    """The STATE of a run.

    Args:
        given: The STATE value that the run was started with.
        now: The wall clock at the start, seconds since the epoch.
        secrets: Texts that must not get into STATE.

    Attributes:
        given: As it was given, to be printed once before anything else; empty for none.
        warnings: What could not be understood in it.
    """

    def __init__(self, given: Any, *, now: float, secrets: Sequence[str] = ()) -> None:
        if not isinstance(given, Mapping | None):
            raise ConfigError(
                f"STATE is a {type(given).__name__}, not an object", hint="pass the file of an earlier run"
            )
        self.given: Mapping[str, Any] = given or {}
        self.warnings: list[str] = []
        self._now = now
        self._secrets: list[str] = []
        self.learn(secrets)
        rest = copy.deepcopy({name: value for name, value in self.given.items() if name != "claims"})
        bookmarks = rest.get("bookmarks", {})
        if not isinstance(bookmarks, dict):
            self.warnings.append(f"STATE has a {type(bookmarks).__name__} for bookmarks: everything is read again")
            bookmarks = {}
        self._value: dict[str, Any] = {**rest, "bookmarks": bookmarks}
        self._claims: dict[str, list[dict[str, Any]]] = {}

    def told(self) -> list[str]:
        """The warnings that have not been told yet."""
        found, self.warnings = self.warnings, []
        return found

    def value(self) -> dict[str, Any]:
        """The STATE value as it is now."""
        return {**self._value, "claims": self._claims} if self._claims else self._value

    def bookmark(self, stream: str, replication: Replication) -> str | int | None:
        """Where an earlier run ended; None when there is none that can be used."""
        entry = self._entry(stream)
        found = entry.get("replication_key_value")
        if found is None:
            return None
        rank = replication.rank(found)
        if entry.get("replication_key", replication.key) != replication.key or rank is None:
            self.warnings.append(f"{stream}: the bookmark is not one of {replication.key}: everything is read again")
            return None
        if isinstance(rank, datetime) and rank.timestamp() > self._now + 60:
            self.warnings.append(
                f"{stream}: the bookmark {found} is in the future, older records will not be asked for"
            )
        return found if isinstance(found, str | int) else str(found)

    def resume(self, unit: Unit) -> Checkpoint | None:
        """The page in flight of a unit, unless it is too old, or what is asked for has changed since."""
        found = self._entry(unit.stream.name).get("page")
        if found is None:
            return None
        try:
            checkpoint = msgspec.convert(found, Checkpoint)
            age = timedelta(seconds=self._now) - timedelta(seconds=datetime.fromisoformat(checkpoint.saved).timestamp())
        except (msgspec.ValidationError, ValueError, OverflowError):
            self.warnings.append(f"{unit.stream.name}: the page in flight is not one of ours: it starts again")
            return None
        same = checkpoint.version == VERSION and checkpoint.declaration == unit.stream.fingerprint
        if not same or (checkpoint.start, checkpoint.until) != (unit.start, unit.until):
            self.warnings.append(
                f"{unit.stream.name}: what is asked for has changed: it starts again from its bookmark"
            )
            return None
        if not -timedelta(hours=1) < age <= TOKENS_LIVE:
            self.warnings.append(f"{unit.stream.name}: the page in flight is out of date: it starts again")
            return None
        return checkpoint

    def proceed(self, unit: Unit, request: Request, walk: Walk, *, now: float) -> None:
        """Puts the next request of a unit into STATE. Its bookmark stays: only a whole unit moves it."""
        checkpoint = Checkpoint(
            version=VERSION,
            declaration=unit.stream.fingerprint,
            saved=datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
            began=unit.began,
            start=unit.start,
            until=unit.until,
            step=Step.between(unit.request, request),
            evidence=walk.evidence,
            seen=walk.seen if isinstance(walk.seen, str | int | None) else str(walk.seen),
            before=walk.before,
        )
        entry = self._own(unit.stream)
        text = msgspec.json.encode(checkpoint)
        entry.pop("page", None)
        if len(text) <= LARGEST and not self._secret(text.decode()):
            entry["page"] = msgspec.json.decode(text)

    def complete(self, unit: Unit, evidence: Evidence, bookmark: str | int | None) -> None:
        """Ends a unit: its bookmark moves, never back, and what it has read is claimed."""
        entry = self._own(unit.stream)
        replication = unit.stream.declared.replication
        if replication is not None and bookmark is not None:
            before = replication.rank(entry.get("replication_key_value"))
            after = replication.rank(bookmark)
            if before is None or type(before) is not type(after) or after > before:
                entry["replication_key_value"] = bookmark
        self._end(unit, "complete", evidence)

    def give_up(self, unit: Unit, evidence: Evidence, *, restart: bool) -> None:
        """Ends a unit that is not whole: nothing is confirmed. With `restart` the next run begins it anew."""
        if restart:
            self._own(unit.stream).pop("page", None)
        self._end(unit, "partial", evidence)

    def _end(self, unit: Unit, status: str, evidence: Evidence) -> None:
        entry = self._own(unit.stream)
        if status == "complete":
            entry.pop("page", None)
        if not entry:
            self._value["bookmarks"].pop(unit.stream.name)
        until = unit.until or datetime.fromtimestamp(unit.began, UTC).isoformat().replace("+00:00", "Z")
        claim = {"partition": None, "from": unit.start, "to": until, "status": status, "evidence": evidence.claimed()}
        self._claims.setdefault(unit.stream.name, []).append(claim)

    def _own(self, stream: BoundStream) -> dict[str, Any]:
        """The stream's entry in our own shape; what another program kept there is left out."""
        entry = self._entry(stream.name)
        replication = stream.declared.replication
        own = {"page": entry["page"]} if "page" in entry else {}
        value = entry.get("replication_key_value")
        if replication is not None:
            own = {"replication_key": replication.key, **own}
            if value is not None and replication.rank(value) is not None:
                own["replication_key_value"] = value
        self._value["bookmarks"][stream.name] = own
        return own

    def _entry(self, stream: str) -> dict[str, Any]:
        found = self._value["bookmarks"].get(stream, {})
        if not isinstance(found, dict):
            self.warnings.append(f"{stream}: STATE has no object for it: everything is read again")
            self._value["bookmarks"][stream] = found = {}
        return found

    def learn(self, secrets: Iterable[str]) -> None:
        """Keeps these texts out of STATE too from now on."""
        self._secrets += [
            form for text in secrets if len(text) >= 4 for form in {text, quote(text), quote(text, safe="")}
        ]

    def _secret(self, text: str) -> bool:
        return any(form in text for form in self._secrets)


def _root(url: str) -> str:
    """Scheme, host and port of a URL, as written."""
    scheme, _, rest = url.partition("://")
    end = min((at for at in (rest.find(char) for char in "/?#") if at >= 0), default=len(rest))
    return f"{scheme}://{rest[:end]}"
