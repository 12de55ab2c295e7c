"""Dead letters: what came in and could not be archived as a record, read again, and replayed where it can be by now.

They are lines of the stream `_dead_letters`, which `Archiver` writes. A letter that is replayed is marked as gone there
by the commit that archives its record, so that a crash leaves both done or neither. Its bytes stay.
"""

from __future__ import annotations

import base64
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator

import msgspec

from target_archive import layout
from target_archive.archiver import stream_of, watch_of
from target_archive.commit import StreamFacts
from target_archive.day import day_of
from target_archive.dedupe import content_of, identity, key_of
from target_archive.errors import CorruptArchive
from target_archive.fields import field_reader
from target_archive.messages import Message, decode_odd
from target_archive.settings import Settings, zone
from target_archive.sink import Sink
from target_archive.views import Version, versions
from target_archive.writer import Found, Writer


class Letter(msgspec.Struct, frozen=True):
    """What could not be archived as a record.

    Attributes:
        day, number: Its place: the line, from 1, of that day (UTC) of the dead letters.
        commit: The commit that holds it.
        at: When it came.
        run: Which run it came in; "" where that is not known.
        stream: Of which stream it is; "" where that is not known.
        reason: Why it could not be archived.
        line: The bytes that came; of a record in a stream whose bad records are set aside, a RECORD with its bytes.
    """

    day: str
    number: int
    commit: int
    at: str
    run: str
    stream: str
    reason: str
    line: bytes


class Replayed(msgspec.Struct, frozen=True):
    """What a replay has done.

    Attributes:
        archived: How many letters are records now, per stream.
        held: How many equal a record that was archived since they came, per stream; they too are open no longer.
        left: How many stay, per reason.
    """

    archived: Counter[str]
    held: Counter[str]
    left: Counter[str]


def open_letters(day: str, lines: Iterable[Version]) -> Iterator[Letter]:
    """The letters of a day that were not replayed yet; `lines` are all of it."""
    for one in lines:
        if one.gone is None:
            told = msgspec.json.decode(one.record, type=_Told)
            line = base64.b64decode(told.line_base64) if told.line_base64 else told.line.encode()
            stream = told.stream or stream_of(line)
            yield Letter(day, one.line, one.commit, told.at, told.run, stream, told.reason, line)


def replay(writer: Writer, settings: Settings, stream: str | None = None) -> Replayed:
    """Archive the open letters, or those of one stream, that are records by now of a stream whose SCHEMA is known.

    Settings that file a stream go before what it was last filed by. All is one commit: done or not done.
    """
    streams = _Streams(writer, settings)
    marks, left, done = defaultdict[str, list[int]](list), Counter[str](), Counter[str]()
    for day in writer.log.days(layout.DEAD_LETTERS):
        held = writer.log.day(layout.DEAD_LETTERS, day)
        lines = writer.days.lines(layout.DEAD_LETTERS, day)
        for letter in open_letters(day, versions(lines, held, writer.log.times, writer.log.seq)):
            if stream not in {None, letter.stream}:
                continue
            try:
                done[streams.take(letter)] += 1
            except (_Stays, CorruptArchive) as error:
                left[str(error)] += 1
            else:
                marks[day].append(letter.number)
    archived = Counter({name: len(lines.lines) for name, lines in writer.lines.items() if lines.lines})
    if marks:
        gone = {layout.DEAD_LETTERS: {day: tuple(numbers) for day, numbers in marks.items()}}
        writer.commit(None, found=Found(gone=gone))
        writer.publish()
    return Replayed(archived, done - archived, left)


class _Streams:
    """The streams that letters go to, each through a sink as in a run."""

    def __init__(self, writer: Writer, settings: Settings) -> None:
        self._writer, self._settings = writer, settings
        self._sinks: dict[str, tuple[Sink, _Late]] = {}

    def take(self, letter: Letter) -> str:
        """Put the record of a letter among its stream's new lines, unless it is held; return the stream.

        Raises _Stays or CorruptArchive where it cannot be.
        """
        message = _message(letter.line)
        if message is None or message.type != "RECORD" or message.stream == layout.DEAD_LETTERS:
            raise _Stays(letter.reason)
        known = self._writer.log.streams.get(message.stream)
        if known is None:
            raise _Stays(letter.reason)
        sink, rule = self._sinks.get(message.stream) or self._open(message.stream, known)
        rule.letter = letter
        if not sink.facts.day_field:
            sink.read_on = day_of(letter.at, zone(sink.facts.timezone)) or letter.day
        sink.write([message.record])
        return message.stream

    def _open(self, stream: str, known: StreamFacts) -> tuple[Sink, _Late]:
        settings, writer = self._settings, self._writer
        facts = msgspec.structs.replace(
            known,
            day_field=settings.day_field_of(stream) or known.day_field,
            timezone=settings.timezone or known.timezone,
            mode=settings.mode_of(stream) or known.mode,
        )
        facts, rule = writer.declare(stream, facts), _Late(writer, stream, facts)
        sink = Sink(
            facts,
            writer.lines[stream],
            rule,
            watch_of(writer, stream),
            lambda _: layout.UNDATED,  # each letter has its own day of reading, see `take`
            previous=None,
            refuse=None if settings.bad_record_policy_of(stream) == "keep" else rule.refuse,
        )
        self._sinks[stream] = sink, rule
        return sink, rule


class _Late:
    """The rule for letters, which are older than what has been archived since they came.

    With a key, the latest version must have been there before the letter: it would take the place of a newer one.
    Without, each line that came after a letter stands for one equal letter, as its tap has read it again.

    Attributes:
        letter: The one whose record comes next.
    """

    letter: Letter
    changed = 0

    def __init__(self, writer: Writer, stream: str, facts: StreamFacts) -> None:
        self._writer, self._stream = writer, stream
        self._content, self._keyed = content_of(facts.volatile), bool(facts.key_properties)
        self._read_key = field_reader(facts.key_properties)
        self._latest: dict[str, dict[Hashable, tuple[int, int | None]]] = {}  # commit and content, per key
        self._copies: dict[str, dict[int, list[int]]] = {}  # commits, ascending, per content

    def is_repeat(self, day: str, key: Hashable, line: bytes) -> bool:
        if day in self._writer.log.same.get(self._stream, ()):
            raise _Stays(f"the snapshot of `{self._stream}` of its day equals an earlier one, which stands for it")
        if day not in self._latest:
            self._load(day)
        key, content, came = identity(key, line), self._content(line), self.letter.commit
        if not self._keyed:
            commits = self._copies[day].get(content, [])
            place = bisect_right(commits, came)
            return bool(commits[place:] and commits.pop(place))
        commit, latest = self._latest[day].get(key, (0, None))
        if latest == content:
            return True
        if commit >= came:
            raise _Stays(f"a record of stream `{self._stream}` that has changed or gone since it came")
        self._latest[day][key] = came - 1, content  # so that a later letter of the same commit may follow
        return False

    def trim(self, busy: Collection[str]) -> None:
        """Nothing is forgotten: letters are few."""

    def missed(self, _day: str) -> list[int]:
        """Letters are no read that could be complete."""
        return []

    def refuse(self, _record: bytes, why: str) -> None:
        raise _Stays(f"a record of stream `{self._stream}` {why}")

    def _load(self, day: str) -> None:
        log = self._writer.log
        held, lines = log.day(self._stream, day), self._writer.days.lines(self._stream, day)
        gone = {number: commit for commit, numbers in held.gone for number in numbers}
        latest, copies = self._latest.setdefault(day, {}), self._copies.setdefault(day, {})
        for one in versions(lines, held, log.times, log.seq):
            content, left = self._content(bytes(one.record)), gone.get(one.line)
            if self._keyed:
                version = (one.commit, content) if left is None else (left, None)
                latest[key_of(self._read_key, bytes(one.record))] = version
            else:
                copies.setdefault(content, []).append(one.commit)


class _Stays(Exception):
    """A letter that cannot be archived; the text says why."""


class _Told(msgspec.Struct):
    at: str
    reason: str
    run: str = ""
    stream: str = ""
    line: str = ""
    line_base64: str = ""


def _message(line: bytes) -> Message | None:
    try:
        return decode_odd(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
