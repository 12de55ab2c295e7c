"""Singer messages into commits: what each message means, when a commit is due, which STATE may go out.

A STATE covers every record before it. So a commit is cut at the last STATE where there is one, and that STATE goes out
after it; what came since is committed without a STATE when it has waited too long by itself.
"""

from __future__ import annotations

import base64
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import Any

import msgspec

from target_archive import layout
from target_archive.commit import StreamFacts
from target_archive.dedupe import CopiesReadAgain, Dedupe, LatestVersion, content_of
from target_archive.drift import Watch, changes_of_schema, load_sample
from target_archive.errors import BadInput, CorruptArchive
from target_archive.log import Noted, print_of
from target_archive.messages import Message, decode, decode_odd, json_object
from target_archive.rereads import FORGETTING, ClaimMade, claims_of, find_out
from target_archive.settings import Settings
from target_archive.sink import Refuse, Sink, facts_of
from target_archive.writer import Found, Writer

PUBLISH_BYTES = 256 << 20
PUBLISH_SECONDS = 300.0
RECOUNTED_DAYS = 3
"""Where the sample of a stream is lost, it is taken again from so many of its last days."""

logger = logging.getLogger("target-archive")


class Archiver:
    """Takes a run's lines, commits them when due, and tells each STATE that has become durable.

    Args:
        writer: The source's writer.
        settings: The target's settings.
        tell: Receives the JSON text of a STATE value whose records are all durable.
        now: The wall clock, for days and times.
        clock: A monotonic clock in seconds, for how long records wait.
    """

    def __init__(
        self,
        writer: Writer,
        settings: Settings,
        tell: Callable[[bytes], None],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer, self._settings, self._tell, self._now, self._clock = writer, settings, tell, now, clock
        self.sinks: dict[str, Sink] = {}
        self.problems: Counter[str] = Counter()
        self._ignored: set[str] = set()
        self._state: bytes | None = None
        self._waiting_since: float | None = None
        self._state_since = 0.0
        self._sizes_at_state: tuple[int, int] = (0, 0)
        self._committed = (0, 0)
        self._dropped = 0
        self._published_at = clock()
        self._start = Start(writer)
        self._told_changes = len(writer.log.changes)
        self._claims: Mapping[str, Sequence[ClaimMade]] = {}
        self._doubtful: set[str] = set()  # streams whose rows this run cannot tell from those that it has not read
        self._found: Found | None = None

    # What a run has taken so far ------------------------------------------------------------------------------------

    @property
    def received(self) -> int:
        return sum(sink.received for sink in self.sinks.values())

    @property
    def repeats(self) -> int:
        return sum(sink.repeats for sink in self.sinks.values())

    def _sizes(self) -> tuple[int, int]:
        return sum(sink.size for sink in self.sinks.values()), self.received

    # Messages -------------------------------------------------------------------------------------------------------

    def take(self, lines: list[bytes]) -> None:
        """Take in Singer lines. Raises BadInput for what must not be archived any further."""
        if lines and self._waiting_since is None:
            self._waiting_since = self._clock()
        records: list[msgspec.Raw] = []
        stream, sink = "", None
        for line in lines:
            try:
                message = decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                odd = self._odd(line, str(error))
                if odd is None:
                    continue
                message = odd
            if message.type == "RECORD" and sink and message.stream == stream:
                records.append(message.record)
                continue
            if sink:
                sink.write(records)
                records = []
            if message.type == "RECORD" and (sink := self.sinks.get(message.stream)):
                stream = message.stream
                records.append(message.record)
            else:
                sink = None
                self._take_other(message, line)
        if sink:
            sink.write(records)

    def take_torn(self, line: bytes) -> None:
        """Keep what stood behind the last line feed: a sender that died in mid-line."""
        if line.strip():
            self._bury(line, "the input ended in the middle of this line")

    def _odd(self, line: bytes, reason: str) -> Message | None:
        try:
            return decode_odd(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._bury(line, f"not a Singer message: {reason}")
            return None

    def _take_other(self, message: Message, line: bytes) -> None:
        match message.type:
            case "SCHEMA":
                self._take_schema(message)
            case "STATE":
                self._take_state(bytes(message.value))
            case "RECORD":
                if self._settings.bad_record_policy_of(message.stream) == "fail":
                    _fail(message.stream, b"", "that came before its SCHEMA")
                self._bury(line, f"a record of stream `{message.stream}` came before its SCHEMA", message.stream)
            case "BATCH":
                reason = "a BATCH message: its files are not read; turn off `batch_config` in the tap"
                self._bury(line, reason, message.stream)
            case kind if kind not in self._ignored:
                # ACTIVATE_VERSION asks to delete older rows, which an archive never does; the rest is unknown to Singer
                self._ignored.add(kind)
                logger.info("messages of type %s have no effect on an archive", kind)

    def _take_schema(self, message: Message) -> None:
        schema = json_object(message.schema)
        if not message.stream or "properties" not in schema:
            raise BadInput(
                "a SCHEMA message without a stream name or `properties`", where=message.stream, hint="mend the tap"
            )
        if message.stream == layout.DEAD_LETTERS:
            raise BadInput(
                "the archive has a stream of that name itself", where=message.stream, hint="rename the tap's"
            )
        bookmarks = message.bookmark_properties or []
        before = self._writer.facts(message.stream)
        facts = self._writer.declare(
            message.stream,
            facts_of(
                schema,
                message.key_properties or [],
                [bookmarks] if isinstance(bookmarks, str) else bookmarks,
                day_field=self._settings.day_field_of(message.stream),
                timezone=self._settings.timezone,
                mode=self._settings.mode_of(message.stream),
            ),
        )
        lines, previous = self._writer.lines[message.stream], self.sinks.get(message.stream)
        if before:
            lines.note_of_schema(changes_of_schema(before, facts))
        if previous and previous.facts == facts:
            return
        dedupe = (
            previous.dedupe
            if previous and _same_rule(previous.facts, facts)
            else self._start.dedupe(message.stream, facts, in_mid_run=previous is not None)
        )
        if previous and (dedupe is not previous.dedupe or _filing(previous.facts) != _filing(facts)):
            self._doubtful.add(message.stream)
        watch = previous.watch if previous else watch_of(self._writer, message.stream)
        refuse = self._refusal(message.stream)
        self.sinks[message.stream] = Sink(facts, lines, dedupe, watch, self._today, previous=previous, refuse=refuse)

    def _refusal(self, stream: str) -> Refuse | None:
        """What becomes of the stream's bad records; None where they are kept."""
        match self._settings.bad_record_policy_of(stream):
            case "fail":
                return partial(_fail, stream)
            case "dead_letter":
                return partial(self._bury_record, stream)
        return None

    def _bury_record(self, stream: str, record: bytes, why: str) -> None:
        line = b'{"type":"RECORD","stream":%b,"record":%b}' % (msgspec.json.encode(stream), record)
        self._bury(line, f"a record of stream `{stream}` {why}", stream)

    def _take_state(self, value: bytes) -> None:
        if not json_object(msgspec.Raw(value)):
            return  # an empty STATE never takes the place of a good one
        claims = claims_of(value)
        if self._state is None and not self.received and self._start.is_at(value):
            return
        if claims and not self.sinks:
            return  # where the run starts, as the archive does not know it: the claims are of another run
        self._state, self._state_since = value, self._clock()
        self._claims = claims
        for stream, made in claims.items():
            if (sink := self.sinks.get(stream)) and sum(one.evidence.records for one in made) > sink.received:
                self._doubtful.add(stream)  # a part came in an earlier run
        self._writer.mark_state()
        self._sizes_at_state = self._sizes()

    def _bury(self, line: bytes, reason: str, stream: str = "") -> None:
        """Keep what cannot be archived as a record, with the reason, where `daykeep` finds it."""
        self.problems[reason] += 1
        letter = {"at": self._now().astimezone(UTC).isoformat(), "run": self._writer.run, "reason": reason}
        if stream := stream or stream_of(line):
            letter["stream"] = stream
        try:
            letter["line"] = line.decode()
        except UnicodeDecodeError:
            letter["line_base64"] = base64.b64encode(line).decode()
        self._writer.declare(layout.DEAD_LETTERS, StreamFacts(folder=layout.DEAD_LETTERS))
        lines = self._writer.lines[layout.DEAD_LETTERS]
        lines.days.append(self._today(UTC))
        lines.lines.append(msgspec.json.encode(letter))

    def _today(self, zone: tzinfo) -> str:
        return self._now().astimezone(zone).date().isoformat()

    # Commits --------------------------------------------------------------------------------------------------------

    def seconds_left(self) -> float:
        """Until the next commit is due, however little has come."""
        if self._waiting_since is None:
            return self._settings.commit_max_seconds
        return max(0.0, self._waiting_since + self._settings.commit_max_seconds - self._clock())

    def commit_if_due(self) -> None:
        if self._is_due():
            self._commit_to_state()
            if self._is_due():
                self._commit_all()
            for sink, lines in ((sink, self._writer.lines[stream]) for stream, sink in self.sinks.items()):
                sink.dedupe.trim(set(lines.days))
        waited = self._clock() - self._published_at
        if self._writer.unpublished > PUBLISH_BYTES or (self._writer.unpublished and waited > PUBLISH_SECONDS):
            self._publish()

    def finish(self) -> None:
        """Commit and publish everything that has come, and what the reads that are now complete have found out."""
        sure = {stream: made for stream, made in self._claims.items() if stream not in self._doubtful}
        self._found = find_out(self._writer, self.sinks, sure, self._start.until)
        self._commit_to_state()
        self._commit_all()
        self._publish()
        self._writer.write_samples({name: sink.watch.sample for name, sink in self.sinks.items() if sink.watch.counted})

    @property
    def changed_events(self) -> dict[str, int]:
        """How many records of each `event` stream have come again with other content: both versions are kept."""
        events = {name: sink.dedupe.changed for name, sink in self.sinks.items() if sink.facts.mode == "event"}
        return {name: count for name, count in events.items() if count}

    @property
    def beyond_policy(self) -> list[Noted]:
        """Changes that no one has acknowledged, and that the policy says a run must not end well with."""
        changes = self._writer.log.changes
        return [
            one for one in changes if not one.acknowledged and self._settings.policy_of(one.change.severity) == "fail"
        ]

    def news_of_drift(self) -> list[Noted]:
        """The changes committed since this was last asked, that are to be told."""
        news, self._told_changes = self._writer.log.changes[self._told_changes :], len(self._writer.log.changes)
        return [one for one in news if self._settings.policy_of(one.change.severity) != "note"]

    def _is_due(self) -> bool:
        size, count = (now - then for now, then in zip(self._sizes(), self._committed, strict=True))
        return (
            size >= self._settings.commit_max_bytes
            or count >= self._settings.commit_max_records
            or (self._waiting_since is not None and self.seconds_left() == 0)
        )

    def _commit_to_state(self) -> None:
        if self._state is None:
            return
        state, self._state = self._state, None
        self._writer.commit(state, dropped=self._news_dropped(), found=self._take_found())
        self._committed = self._sizes_at_state
        self._waiting_since = self._state_since if any(lines.lines for lines in self._writer.lines.values()) else None
        self._tell(state)

    def _commit_all(self) -> None:
        self._writer.commit(None, dropped=self._news_dropped(), found=self._take_found())
        self._committed = self._sizes()
        self._waiting_since = None

    def _take_found(self) -> Found | None:
        found, self._found = self._found, None
        return found

    def _news_dropped(self) -> int:
        news, self._dropped = self.repeats - self._dropped, self.repeats
        return news

    def _publish(self) -> None:
        self._writer.publish()
        self._published_at = self._clock()


class Start:
    """Where a run starts: the STATE that its tap was given, as far as the archive can know it.

    A tap that tells it is believed: it prints the STATE that it was given, `{"bookmarks": {}}` for none, before
    anything else. Of any other tap it is assumed that it goes on from the last STATE. By a wrong assumption something
    may be kept twice, but nothing lost.
    """

    def __init__(self, writer: Writer) -> None:
        self._log, self._days, self._writer = writer.log, writer.days, writer
        self._state = json_object(writer.log.state) if writer.log.state else {}
        self.until = writer.log.seq

    def is_at(self, value: bytes) -> bool:
        """Whether the archive knows this STATE, a run's first message; if so, it is where the run starts."""
        told = json_object(msgspec.Raw(value))
        if told == {"bookmarks": {}}:
            told = {}
        if told != self._state and self._reached(told) is None:
            return False
        self._state = told
        return True

    def _reached(self, state: dict[str, Any]) -> int | None:
        """The commit that *first* held a STATE, 0 for an empty one; None if no commit did.

        It is reached again by every run that reads the same stretch once more, but its lines came with the first.
        """
        return self._log.reached.get(print_of(state)) if state else 0

    def dedupe(self, stream: str, facts: StreamFacts, *, in_mid_run: bool) -> Dedupe:
        """The rule for a stream. If it loses its key in mid-run its copies cannot be told apart, and all are kept."""

        def read_day(day: str) -> tuple[list[bytes], set[int]]:
            try:
                lines = self._writer.shared(stream, day) or self._days.lines(stream, day)
                return lines, self._log.day(stream, day).gone_lines()
            except CorruptArchive:  # publishing tells it; what comes for that day is kept meanwhile, repeated or not
                return self._days.pending(stream, day), set()

        content = content_of(facts.volatile)
        if facts.key_properties:
            remembers = facts.mode in FORGETTING
            return LatestVersion(read_day, facts.key_properties, content, remembers=remembers)
        if in_mid_run:
            return CopiesReadAgain(lambda _: ([], ()), lambda _: 0, resumes_exactly=True, position="", start=None)
        exactly, start = self._position(stream)
        reached = self._reached(self._state) or 0
        replays = {
            commit for letters in self._log.held.get(layout.DEAD_LETTERS, {}).values() for commit, _ in letters.gone
        }

        def since_state(day: str) -> int:
            held = self._log.day(stream, day)
            if reached < held.lost or any(commit in replays for commit, _ in held.grown if commit > reached):
                return 0  # which of its lines came since, in a run that can be repeated, cannot be told
            return held.lines(self.until) - held.lines(reached)

        return CopiesReadAgain(
            read_day,
            since_state,
            resumes_exactly=exactly,
            position=facts.bookmark_properties[0] if facts.bookmark_properties else "",
            start=start,
            content=content,
        )

    def _position(self, stream: str) -> tuple[bool, Any]:
        """Whether the tap goes on in the middle of its pages, and its lowest bookmark, None for the beginning."""
        bookmarks = self._state.get("bookmarks")
        bookmark = bookmarks.get(stream) if isinstance(bookmarks, dict) else None
        if not isinstance(bookmark, dict):
            return False, None
        places = list(_places(bookmark)) or [bookmark]
        values: list[Any] = [place.get("replication_key_value") for place in places]
        exactly = any("page" in place for place in places) or not {"pass", "days"}.isdisjoint(bookmark)
        try:
            return exactly, None if None in values else min(values)
        except TypeError:
            return exactly, None


def watch_of(writer: Writer, stream: str) -> Watch:
    """What knows the shape of the stream's records, and how often each field was there."""
    log = writer.log
    watch = Watch(log.shapes.get(stream), load_sample(writer.read_sample(stream)), gone=log.gone_fields(stream))
    for day in log.days(stream)[-RECOUNTED_DAYS:] if watch.shape and not watch.sample else ():
        with suppress(CorruptArchive):  # publishing tells it
            watch.recount(day, writer.days.lines(stream, day))
    return watch


def _fail(stream: str, _record: bytes, why: str) -> None:
    raise BadInput(
        f"a record {why}",
        where=stream,
        hint="everything before it is archived; mend the tap, or set `on_bad_record` to keep or dead_letter",
    )


def stream_of(line: bytes) -> str:
    """The stream of a message that is no JSON by the book: it has NaN, say, or half a surrogate pair."""
    try:
        told = json.loads(line)["stream"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return told.encode(errors="replace").decode() if isinstance(told, str) else ""


def _same_rule(one: StreamFacts, other: StreamFacts) -> bool:
    return (one.key_properties, one.mode, one.volatile) == (other.key_properties, other.mode, other.volatile)


def _filing(facts: StreamFacts) -> tuple[str, str]:
    return facts.day_field, facts.timezone


def _places(bookmark: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The bookmark of each partition: a list of them, as the SDK's taps have it, or by partition, as ours do."""
    partitions = bookmark.get("partitions")
    if isinstance(partitions, list):
        yield from (place for place in partitions if isinstance(place, dict))
    elif isinstance(partitions, dict):
        for place in partitions.values():
            own = place if isinstance(place, dict) else {"value": place}
            yield {**own, "replication_key_value": own.get("value")}
