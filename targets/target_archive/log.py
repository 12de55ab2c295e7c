"""The commit log folded: what the archive of one source holds, where, since when, and what is known about it.

A `Log` is a value without I/O: `apply` takes in one commit after the other, and its JSON text is a checkpoint, from
which a reader goes on without the commits before. `reading.py` opens one and reads the lines that it names.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import msgspec

from target_archive import layout
from target_archive.commit import Change, Commit, DayFile, Segment, StreamFacts, digest
from target_archive.errors import CorruptArchive
from target_archive.shape import Shape, merge

StreamDay = tuple[str, str]
_REASON = 300


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tap's statement that it has read a stretch of a stream; commit `seq` holds it whole, with its evidence.

    `http` is the status of the answer to the last request that was given up, 0 for none.
    """

    seq: int
    status: str
    partition: Any = None
    start: str | None = None
    end: str | None = None
    records: int = 0
    reason: str = ""
    http: int = 0


class Noted(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change, and the commit that tells it; `acknowledged` by a person."""

    stream: str
    change: Change
    seq: int
    at: str
    run: str
    acknowledged: bool = False


class Held(msgspec.Struct, omit_defaults=True):
    """What is held of one stream's day. Its lines are numbered from 1 in the order in which they came.

    Attributes:
        files: The published files, by part.
        pending: Segments that no published file holds yet, each with its commit's number.
        grown: How many lines there were after each commit that added some: (commit, lines), ascending.
        gone: The lines that a complete re-read found to be gone: (commit, line numbers), ascending.
        pin: The commit whose view of the day is to be shown; 0 for the latest.
        lost: Commit of the last repair that found lines to be lost; 0 for none.
    """

    files: list[DayFile] = []
    pending: list[tuple[int, Segment]] = []
    grown: list[tuple[int, int]] = []
    gone: list[tuple[int, tuple[int, ...]]] = []
    pin: int = 0
    lost: int = 0

    def lines(self, seq: int | None = None) -> int:
        """How many lines there are, or were after commit `seq`."""
        place = len(self.grown) if seq is None else bisect_right(self.grown, seq, key=lambda one: one[0])
        return self.grown[place - 1][1] if place else 0

    def gone_lines(self, seq: int | None = None) -> set[int]:
        """The numbers of the lines that are gone, or were after commit `seq`."""
        return {line for at, lines in self.gone if seq is None or at <= seq for line in lines}


class Log(msgspec.Struct, omit_defaults=True):
    """Every commit of one source, folded.

    Attributes:
        source: Folder name of the source.
        seq, prev: Number and digest of the last commit, 0 and "" for none.
        times: When each commit was made, in order.
        state_text: The last STATE that was committed, `null` for none; `state` has it as `Raw | None`, which msgspec
            could not read back from a checkpoint.
        reached: The commit that first held each STATE, by the STATE's print.
        streams: The facts of each stream.
        held: What is held, by stream and day.
        same: Per stream, days whose snapshot equalled that of an earlier day: the commit that says so, and that day.
        claims: What the taps said about completeness, per stream, oldest first.
        shapes: What the records of each stream have shown so far.
        changes: Every change in shape or SCHEMA, oldest first.
        last_run: Run id of the last commit.
        last_publish: The last commit that names day files, which may not be in their places yet.
    """

    source: str
    seq: int = 0
    prev: str = ""
    times: list[str] = []
    state_text: msgspec.Raw = msgspec.field(default=msgspec.Raw(b"null"), name="state")
    reached: dict[str, int] = {}
    streams: dict[str, StreamFacts] = {}
    held: dict[str, dict[str, Held]] = {}
    same: dict[str, dict[str, tuple[int, str]]] = {}
    claims: dict[str, list[Claim]] = {}
    shapes: dict[str, Shape] = {}
    changes: list[Noted] = []
    last_run: str = ""
    last_publish: Commit | None = None
    run_claims: dict[str, int] = {}

    @property
    def state(self) -> msgspec.Raw | None:
        return None if bytes(self.state_text) == b"null" else self.state_text

    @property
    def last_at(self) -> str:
        return self.times[-1] if self.times else ""

    def apply(self, commit: Commit, checksum: str) -> None:
        """Take in the next commit."""
        if commit.seq != self.seq + 1 or commit.prev != self.prev:
            raise CorruptArchive(
                "the chain of commit records is broken",
                where=layout.commit(self.source, commit.seq),
                hint="restore the records from a copy",
            )
        self.seq, self.prev = commit.seq, checksum
        self.times.append(commit.at)
        self.streams |= commit.streams
        self._apply_same(commit)
        for segment in commit.segments:
            held = self.held.setdefault(segment.stream, {}).setdefault(segment.day, Held())
            held.pending.append((commit.seq, segment))
            held.grown.append((commit.seq, held.lines() + segment.lines))
        for stream, pins in commit.pins.items():
            for day, seq in pins.items():
                self.held[stream][day].pin = seq
        self._apply_drift(commit)
        self._apply_state(commit)
        self.last_run = commit.run
        if commit.files:
            self.last_publish = commit
        for file in commit.files:
            held = self.held[file.stream][file.day]
            others = (other for other in held.files if other.part != file.part)
            held.files = sorted([*others, file], key=lambda one: one.part)
            held.pending = [one for one in held.pending if one[0] > file.through]
        self._apply_lost(commit)
        for stream, found in commit.gone.items():
            for day, lines in found.items():
                self.held[stream][day].gone.append((commit.seq, lines))

    def _apply_same(self, commit: Commit) -> None:
        """A snapshot that equals an earlier one is not kept a second time: what was pending of it is let go."""
        for stream, days in commit.same.items():
            for day, earlier in days.items():
                self.held.get(stream, {}).pop(day, None)
                known = self.same.setdefault(stream, {})
                if known.get(day, (0, ""))[1] != earlier:
                    known[day] = commit.seq, earlier

    def _apply_lost(self, commit: Commit) -> None:
        """Lines behind a damaged place have other numbers now, so what was known by number is forgotten."""
        for stream, days in commit.lost.items():
            for day in days:
                held = self.held[stream][day]
                left = sum(file.lines for file in held.files) + sum(segment.lines for _, segment in held.pending)
                held.grown, held.gone, held.pin, held.lost = [(commit.seq, left)], [], 0, commit.seq

    def _apply_drift(self, commit: Commit) -> None:
        for stream, drift in commit.drift.items():
            if drift.shape is not None:
                known = self.shapes.get(stream)
                self.shapes[stream] = drift.shape if known is None else merge(known, drift.shape)
            self.changes += [Noted(stream, change, commit.seq, commit.at, commit.run) for change in drift.changes]
        if commit.acknowledged:
            self.changes = [
                msgspec.structs.replace(one, acknowledged=True) if one.stream in commit.acknowledged else one
                for one in self.changes
            ]

    def _apply_state(self, commit: Commit) -> None:
        """A run's STATE repeats its own claims, and adds to them: the last one of a run stands for all of its."""
        if commit.run != self.last_run:
            self.run_claims = {}
        if bytes(commit.state) == b"null":
            return
        self.state_text = commit.state
        self.reached.setdefault(print_of(commit.state), commit.seq)
        try:
            told = msgspec.json.decode(commit.state, type=_State).claims
        except msgspec.DecodeError:
            return  # what another tap calls claims
        for stream, claims in told.items():
            own = self.claims.setdefault(stream, [])
            del own[self.run_claims.setdefault(stream, len(own)) :]
            own += [
                Claim(
                    commit.seq,
                    one.status,
                    one.partition,
                    one.start,
                    one.end,
                    one.evidence.records,
                    one.evidence.reason[:_REASON],
                    one.evidence.http,
                )
                for one in claims
            ]
            own += [
                Claim(commit.seq, "skipped", one.partition, one.lost, one.start, reason="retention")
                for one in claims
                if one.lost is not None
            ]

    # Asking ---------------------------------------------------------------------------------------------------------

    def seq_at(self, time: str) -> int:
        """Number of the last commit at or before a time, RFC 3339 in UTC as in the commits; 0 for none.

        A clock that went back does not unmake a commit: it counts as made with the one before.
        """
        latest, seq = "", 0
        for number, at in enumerate(self.times, 1):
            latest = max(latest, at)
            if latest > time:
                break
            seq = number
        return seq

    @property
    def pending(self) -> dict[StreamDay, list[tuple[int, Segment]]]:
        every = ((stream, day, held) for stream, days in self.held.items() for day, held in days.items())
        return {(stream, day): held.pending for stream, day, held in every if held.pending}

    @property
    def files(self) -> Iterator[DayFile]:
        return (file for days in self.held.values() for held in days.values() for file in held.files)

    def day(self, stream: str, day: str) -> Held:
        """What is held of a day; nothing where there is none."""
        return self.held.get(stream, {}).get(day) or Held()

    def days(self, stream: str) -> list[str]:
        """The days that hold at least one line, sorted; `undated` is not one of them."""
        return sorted(day for day, held in self.held.get(stream, {}).items() if day != layout.UNDATED and held.lines())

    def lines_of(self, stream: str, day: str) -> int:
        """How many lines a day has, published and pending."""
        return self.day(stream, day).lines()

    @property
    def open_letters(self) -> int:
        """How many dead letters were not replayed yet."""
        days = self.held.get(layout.DEAD_LETTERS, {}).values()
        return sum(held.lines() - len(held.gone_lines()) for held in days)

    def gone_fields(self, stream: str) -> set[str]:
        """Paths of the fields that were told to be gone and have not returned."""
        gone: set[str] = set()
        for change in (one.change for one in self.changes if one.stream == stream):
            if change.kind == "gone":
                gone.add(change.path)
            elif change.kind == "returned":
                gone.discard(change.path)
        return gone

    def path(self, file: DayFile) -> str:
        return f"{self.folder(file.stream)}/{file.name}"

    def staged_path(self, file: DayFile, seq: int) -> str:
        """Where the publish commit `seq` has laid a file's new content before it takes its place."""
        return f"{self.folder(file.stream)}/{layout.temporary(file.name, seq)}"

    def folder(self, stream: str) -> str:
        facts = self.streams.get(stream)
        return layout.stream_folder(self.source, facts.folder if facts else stream)


def print_of(state: msgspec.Raw | dict[str, Any]) -> str:
    """The same for the same STATE, however its JSON is written."""
    value = msgspec.json.decode(state) if isinstance(state, msgspec.Raw) else state
    return digest(msgspec.json.encode(value, order="deterministic"))[:16]


class _GivenUp(msgspec.Struct):
    status: int | None = None


class _Evidence(msgspec.Struct):
    records: int = 0
    reason: str = ""
    given_up: list[_GivenUp] = []

    @property
    def http(self) -> int:
        return (self.given_up[-1].status or 0) if self.given_up else 0


class _Claim(msgspec.Struct):
    status: str
    partition: Any = None
    start: str | None = msgspec.field(name="from", default=None)
    end: str | None = msgspec.field(name="to", default=None)
    lost: str | None = None
    evidence: _Evidence = msgspec.field(default_factory=_Evidence)


class _State(msgspec.Struct):
    claims: dict[str, list[_Claim]] = {}
