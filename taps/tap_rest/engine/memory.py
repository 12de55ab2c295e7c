"""What STATE holds of one stream: where each partition stands, and the pass over them that is under way.

Of up to MOST_PARTITIONS partitions each bookmark is held as it is; of more the days alone, twelve bytes a partition, so
that what is read again of each is less than a day, and STATE stays within a mebibyte or so.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from tap_rest.engine.evidence import Evidence
from tap_rest.language.declaration import BoundStream
from tap_rest.language.partitions import Scalar
from tap_rest.language.replication import moment

MOST_PARTITIONS = 10_000
MOST_PAGES = 200
"""Partitions whose page in flight is held; others that failed in the middle begin anew."""


class Place(msgspec.Struct, omit_defaults=True):
    """Where one partition stands.

    Attributes:
        value: The replication key value up to which it has been read.
        page: Its page in flight, a Checkpoint.
        token: What an API with sync tokens gave to go on from.
        validators: What to ask with whether anything has changed: `[ETag, Last-Modified, print of the request]`.
    """

    value: str | int | None = None
    page: Any = None
    token: str | None = None
    validators: tuple[str, str, str] | None = None


class Pass(msgspec.Struct, omit_defaults=True):
    """A reading of all partitions of a stream, one after another in the order of their ids; a killed run goes on in it.

    Attributes:
        began: When, seconds since the epoch.
        through: The id up to which every partition has had its turn.
        start: The latest start among them; None where one was read from the beginning, or none has been read yet.
        evidence: Of all of them together.
        complete: How many are complete.
        skipped: How many a rule of the declaration left out.
        failed: The ids of those that failed, at most MOST_NAMED; `failures` counts them all.
        failures: How many failed.
        until: The earliest end among those that are complete.
        unkept: Whether more failed than are kept to be read again.
        declaration: Fingerprint of the stream's declaration.
    """

    began: float
    through: str = ""
    start: str | None = None
    evidence: Evidence = msgspec.field(default_factory=Evidence)
    complete: int = 0
    skipped: int = 0
    failed: list[str] = []
    failures: int = 0
    until: str | None = None
    unkept: bool = False
    declaration: str = ""


class Memory:
    """What STATE holds of one stream."""

    def __init__(self, stream: BoundStream) -> None:
        self.stream = stream
        self.places: dict[str, Place] = {}
        self.days: dict[bytes, int] | None = None
        self.round: Pass | None = None
        self.pending: dict[str, Mapping[str, Scalar]] = {}

    def place(self, id_: str) -> Place:
        if id_ not in self.places:
            self.places[id_] = Place()
        return self.places[id_]

    def value(self, id_: str) -> Any:
        """The bookmark of a partition, to the day where there are too many to hold them all."""
        known = self.places.get(id_)
        if known is None or known.value is None:
            day = None if self.days is None else self.days.get(_print_of(id_))
            return None if day is None else _from_day(day)
        return known.value

    def move(self, id_: str, value: str | int) -> None:
        self.place(id_).value = value
        moved = {id_}
        if self.days is None and len(self.places) > MOST_PARTITIONS:
            self.days, moved = {}, set(self.places)
        if self.days is not None:
            replication = self.stream.declared.replication
            timed = replication is None or replication.format != "text"
            for one in moved:
                if timed and (time := moment(self.places[one].value)) is not None:
                    self.days[_print_of(one)] = int(time.timestamp() // 86400)
                self.places[one].value = None

    def keep_days(self, present: Iterable[str]) -> None:
        """Forgets the days of all other partitions."""
        if self.days is not None:
            self.days = {key: self.days[key] for key in map(_print_of, present) if key in self.days}

    def encoded(self) -> dict[str, Any]:
        replication = self.stream.declared.replication
        found: dict[str, Any] = {} if replication is None else {"replication_key": replication.key}
        if self.stream.declared.for_each is None:
            place = self.places.get("", Place())
            whole = {"replication_key_value": place.value, "page": place.page}
            whole |= {"sync_token": place.token, "validators": place.validators}
            return found | {name: value for name, value in whole.items() if value is not None}
        kept: dict[str, Any] = {}
        pages = 0
        for id_, place in self.places.items():
            pages += place.page is not None
            if place.page is not None and pages > MOST_PAGES:
                place.page = None
            if (place.page, place.token, place.validators) != (None, None, None):
                kept[id_] = msgspec.to_builtins(place)
            elif place.value is not None:
                kept[id_] = place.value
        whole = {
            "partitions": kept,
            "days": self.days and _packed(self.days),
            "pass": self.round and msgspec.to_builtins(self.round),
            "pending": self.pending,
        }
        return found | {name: value for name, value in whole.items() if value}


def _print_of(id_: str) -> bytes:
    return hashlib.blake2b(id_.encode(), digest_size=8).digest()


def _packed(days: Mapping[bytes, int]) -> str:
    """12 bytes a partition: a hash of its id and its bookmark's day, counted from 1970."""
    return base64.b64encode(b"".join(key + struct.pack(">i", day) for key, day in sorted(days.items()))).decode()


def unpacked(text: Any) -> dict[bytes, int]:
    return dict(struct.iter_unpack(">8si", base64.b64decode(str(text), validate=True)))


def later(one: str | None, other: str | None) -> str | None:
    """The later of two starts; None is the beginning."""
    if one is None or other is None:
        return one or other
    times = moment(one), moment(other)
    return max(one, other) if None in times else max((times[0], one), (times[1], other))[1]


def _from_day(day: int) -> str:
    return utc(day * 86400)


def utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
