"""Bad records: what the policies do with them, and dead letters that are archived after all."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.target_archive.histories import Held
from tests.target_archive.simulated import PowerLoss, SimulatedStorage
from tests.target_archive.test_target import SCHEMA, last_words, record, run, state

from target_archive import layout
from target_archive.archive import Archive
from target_archive.archiver import Archiver
from target_archive.dead_letters import Letter, Replayed, open_letters, replay
from target_archive.errors import BadInput
from target_archive.settings import Settings, parse
from target_archive.writer import open_writer

DAY = "2024-05-01"
CHANGED = "a record of stream `events` that has changed or gone since it came"
BAD = {
    b"7": "cannot be read as an object",
    b'{"id":3,"at":"soon"}': "whose day cannot be told from `at`",
    b'{"id":4}': "whose day cannot be told from `at`",
    b'{"at":"2024-05-01T00:00:00Z"}': "without its key `id`",
}


def message(body: bytes, stream: str = "events") -> bytes:
    return b'{"type":"RECORD","stream":%b,"record":%b}' % (json.dumps(stream).encode(), body)


def schema(stream: str = "events", mode: str = "changelog", **more: Any) -> bytes:
    said = {**SCHEMA, "stream": stream, **more}
    return json.dumps({**said, "schema": {**said["schema"], "x-daykeep-mode": mode}}).encode()


def complete(stream: str, records: int) -> bytes:
    """A STATE whose claim says that everything was read."""
    claim = {"from": None, "to": "2024-06-09T00:00:00Z", "status": "complete", "evidence": {"records": records}}
    return json.dumps({"type": "STATE", "value": {"bookmarks": {}, "claims": {stream: [claim]}}}).encode()


def event(number: int, text: str = "", *, day: int = 1) -> bytes:
    return b'{"id":%d,"at":"2024-05-%02dT00:00:00Z","t":"%s"}' % (number, day, text.encode())


class Disk:
    """An archive on a simulated disk."""

    def __init__(self, storage: SimulatedStorage | None = None) -> None:
        self.storage = storage or SimulatedStorage(random.Random(1))
        self.now = datetime(2024, 6, 1, 12, tzinfo=UTC)

    def take(self, *lines: bytes, **settings: Any) -> None:
        with open_writer(self.storage, "model", run="r1", now=lambda: self.now) as writer:
            archiver = Archiver(writer, Settings(**settings), lambda _: None, now=lambda: self.now)
            self.archiver = archiver
            try:
                archiver.take(list(lines))
            finally:
                archiver.finish()

    def replay(self, stream: str | None = None, **settings: Any) -> Replayed:
        with open_writer(self.storage, "model", run="r2", now=lambda: self.now) as writer:
            return replay(writer, Settings(**settings), stream)

    def held(self) -> Held:
        return Held(self.storage)

    def lines(self, stream: str = "events") -> list[bytes]:
        held = self.held()
        return list(held.lines(stream)) if stream in held.log.streams else []

    def open(self) -> list[Letter]:
        held = self.held()
        days = held.log.days(layout.DEAD_LETTERS)
        found = [one for day in days for one in open_letters(day, held.versions(layout.DEAD_LETTERS, day))]
        assert len(found) == held.log.open_letters
        return found


# Policies -----------------------------------------------------------------------------------------------------------


def test_bad_records_are_kept_where_nothing_else_is_set(tmp_path: Path) -> None:
    result = run([schema(), *map(message, BAD), state(1)], tmp_path)
    archive = Archive(tmp_path, "default")
    assert (result.returncode, Counter(archive.lines("events"))) == (0, Counter(list(BAD)))
    assert archive.count("events") - archive.log.lines_of("events", DAY) == archive.log.lines_of("events", "undated")
    assert archive.log.lines_of("events", "undated") == 3
    assert not list(archive.dead_letters())


@pytest.mark.case("B9")
@pytest.mark.parametrize("policy", ["dead_letter", {"other": "fail", "ev*": "dead_letter"}, '{"events":"dead_letter"}'])
def test_bad_records_are_set_aside_with_their_reason_where_that_is_set(policy: Any, tmp_path: Path) -> None:
    lines = [schema(), record(1), *map(message, BAD), record(2), state(1)]
    result = run(lines, tmp_path, on_bad_record=policy, env={"DAYKEEP_RUN_ID": "a-run"})
    assert result.returncode == 1
    assert result.stdout == b'{"bookmarks": {"events": {"page": 1}}}\n', "what is set aside is safe too"
    archive = Archive(tmp_path, "default")
    assert [json.loads(line)["id"] for line in archive.lines("events")] == [1, 2]
    letters = [json.loads(letter) for letter in archive.dead_letters()]
    assert [letter["line"].encode() for letter in letters] == [message(one) for one in BAD]
    assert {(letter["run"], letter["stream"]) for letter in letters} == {("a-run", "events")}
    assert all(why in letter["reason"] for letter, why in zip(letters, BAD.values(), strict=True))
    assert archive.log.shapes["events"].types == ("object",), "the shape is that of the records that are archived"


@pytest.mark.case("B9")
@pytest.mark.parametrize("bad", [*map(message, BAD), message(b'{"id":1}', "unknown")])
def test_a_bad_record_ends_the_run_before_it_where_that_is_set(bad: bytes, tmp_path: Path) -> None:
    lines = [schema(), record(1), state(1), record(2), bad, record(3), state(2)]
    result = run(lines, tmp_path, on_bad_record="fail")
    assert result.returncode == 1
    assert result.stdout == b'{"bookmarks": {"events": {"page": 1}}}\n'
    archive = Archive(tmp_path, "default")
    assert [json.loads(line)["id"] for line in archive.lines("events")] == [1, 2]
    assert archive.log.state is not None
    assert json.loads(bytes(archive.log.state))["bookmarks"] == {"events": {"page": 1}}
    assert "a record " in last_words(result)
    assert not list(archive.dead_letters())


def test_a_run_that_failed_for_a_bad_record_goes_on_once_it_may() -> None:
    disk = Disk()
    with pytest.raises(BadInput):
        disk.take(schema(), message(event(1)), message(b"7"), message(event(2)), state(1), on_bad_record="fail")
    assert (disk.lines(), disk.archiver.received) == ([event(1)], 1)
    disk.take(schema(), message(event(1)), message(b"7"), message(event(2)), state(1))
    assert Counter(disk.lines()) == Counter([event(1), b"7", event(2)])


def test_what_is_set_aside_keeps_its_bytes_whatever_they_are() -> None:
    disk = Disk()
    odd = b'{"id":[1], "t":"\xff %s %b"}'
    disk.take(schema("100%s"), message(odd, "100%s"), on_bad_record="dead_letter")
    (letter,) = disk.open()
    assert letter.line == message(odd, "100%s")
    assert (letter.stream, letter.run) == ("100%s", "r1")


def test_the_stream_of_a_letter_is_told_where_it_can_be() -> None:
    disk = Disk()
    disk.take(
        b'{"type":"RECORD","stream":"events","record":{"a":NaN}}',
        b'{"type":"BATCH","stream":"events","encoding":{},"manifest":[]}',
        b"Traceback",
        b'["stream"]',
        b'{"type":"RECORD","stream":"\\ud800","record":{}}',
        b'{"stream":%b' % (b"[" * 100_000),
    )
    assert [letter.stream for letter in disk.open()] == ["events", "events", "", "", "?", ""]


def test_a_complete_read_of_which_a_record_was_set_aside_says_nothing_is_gone() -> None:
    disk = Disk()
    end = complete("events", 2)
    one = schema(mode="entity")
    disk.take(one, message(event(1)), message(event(2)), end)
    disk.take(one, message(event(1)), message(b'{"id":2,"at":"?"}'), end, on_bad_record="dead_letter")
    assert not disk.held().log.day("events", DAY).gone
    disk.take(one, message(event(1)), message(event(3)), end)
    assert disk.held().log.day("events", DAY).gone, "the same read whole does"


@pytest.mark.parametrize("given", ["drop", {"s": "drop"}, 7])
def test_an_unknown_policy_is_a_wrong_setting(given: Any) -> None:
    with pytest.raises(Exception, match="on_bad_record"):
        parse({"on_bad_record": given})


# Replay -------------------------------------------------------------------------------------------------------------


def test_letters_are_archived_once_their_schema_is_known_and_only_once() -> None:
    disk = Disk()
    disk.take(message(event(1)), message(event(2, day=2)), b"Traceback")
    assert disk.replay() == Replayed(Counter(), Counter(), Counter(letter.reason for letter in disk.open()))
    disk.take(schema(), message(event(3)))
    assert disk.replay().archived == {"events": 2}
    assert disk.lines() == [event(3), event(1), event(2, day=2)]
    assert [letter.line for letter in disk.open()] == [b"Traceback"]
    seq, lines = disk.held().log.seq, list(disk.held().dead_letters())
    assert disk.replay().archived == {}
    assert (disk.held().log.seq, len(lines)) == (seq, 3), "no commit, and the letters' bytes stay"


def test_a_day_field_that_is_set_now_files_letters_and_a_policy_that_keeps_them_too() -> None:
    disk = Disk()
    disk.take(schema(), message(b'{"id":1,"made":"2023-01-01"}'), message(b'{"id":2}'), on_bad_record="dead_letter")
    left = disk.replay(on_bad_record="dead_letter").left
    assert left == {"a record of stream `events` whose day cannot be told from `at`": 2}
    assert disk.replay(on_bad_record="dead_letter", day_field="made").archived == {"events": 1}
    assert list(disk.held().lines("events", "2023-01-01")) == [b'{"id":1,"made":"2023-01-01"}']
    assert disk.replay().archived == {"events": 1}
    assert list(disk.held().lines("events", "undated")) == [b'{"id":2}']
    assert disk.held().log.streams["events"].day_field == "made", "what a stream was filed by last goes on"


def test_only_the_letters_of_the_stream_that_is_named_are_replayed() -> None:
    disk = Disk()
    disk.take(message(event(1)), message(event(1), "other"))
    disk.take(schema(), schema("other"))
    assert disk.replay("other").archived == {"other": 1}
    assert [letter.stream for letter in disk.open()] == ["events"]


def test_a_letter_of_a_stream_without_days_goes_to_the_day_on_which_it_came() -> None:
    disk = Disk()
    disk.take(message(b'{"id":1}', "s"))
    disk.now = datetime(2024, 6, 9, tzinfo=UTC)
    disk.take(schema("s", bookmark_properties=[], schema={"properties": {}}), message(b'{"id":2}', "s"))
    assert disk.replay().archived == {"s": 1}
    assert list(disk.held().lines("s", "2024-06-01")) == [b'{"id":1}']


@pytest.mark.parametrize("keys", [["id"], []], ids=["keyed", "keyless"])
def test_what_a_later_run_has_archived_is_not_doubled(keys: list[str]) -> None:
    disk = Disk()
    disk.take(*[message(event(1))] * (1 if keys else 3))
    disk.take(schema(key_properties=keys), *[message(event(1))] * (1 if keys else 2))
    done = disk.replay()
    assert (done.archived, done.held) == (({}, {"events": 1}) if keys else ({"events": 1}, {"events": 2}))
    assert disk.lines() == [event(1)] * (1 if keys else 3)
    assert not disk.open()


def test_a_letter_is_not_taken_for_an_equal_record_that_came_before_it() -> None:
    disk = Disk()
    disk.take(schema(key_properties=[]), message(event(1)))
    disk.take(message(event(1)))
    assert disk.replay().archived == {"events": 1}
    assert disk.lines() == [event(1), event(1)]


def test_a_letter_never_takes_the_place_of_a_later_version() -> None:
    disk = Disk()
    disk.take(message(event(1, "old")), message(event(2, "a")), message(event(2, "b")))
    disk.take(schema(), message(event(1, "new")))
    done = disk.replay()
    assert done.archived == {"events": 2}
    assert done.left == {CHANGED: 1}
    assert disk.held().view("events", DAY) == [event(1, "new"), event(2, "b")]
    assert [letter.line for letter in disk.open()] == [message(event(1, "old"))]


def test_a_letter_does_not_bring_back_what_is_gone_since() -> None:
    disk = Disk()
    end = complete("events", 1)
    one = schema(mode="entity")
    disk.take(one, message(event(1)), message(event(2)))
    disk.take(message(event(2)))
    disk.take(one, message(event(1)), end)
    assert disk.held().view("events", DAY) == [event(1)]
    assert disk.replay().left == {CHANGED: 1}
    assert disk.held().view("events", DAY) == [event(1)]


def test_a_letter_does_not_hide_a_snapshot_that_equals_an_earlier_one() -> None:
    disk = Disk()
    end = complete("s", 1)
    snapshot = schema("s", "snapshot", bookmark_properties=[], schema={"properties": {}})
    disk.take(snapshot, message(b'{"id":1}', "s"), end)
    disk.now = datetime(2024, 6, 2, 12, tzinfo=UTC)
    disk.take(message(b'{"id":9}', "s"), snapshot, message(b'{"id":1}', "s"), end)
    assert disk.held().log.same["s"].keys() == {"2024-06-02"}
    assert "equals an earlier one" in str(disk.replay().left)
    assert disk.held().view("s", "2024-06-02") == [b'{"id":1}']


def test_a_run_that_reads_a_replayed_record_again_does_not_double_it() -> None:
    for keys in (["id"], []):
        disk = Disk()
        disk.take(message(event(1)), message(event(2)))
        disk.take(schema(key_properties=keys))
        disk.replay()
        disk.take(b'{"type":"STATE","value":{"bookmarks":{}}}', schema(key_properties=keys), *map(message, ids(1, 2)))
        assert disk.lines() == ids(1, 2)


def test_a_record_that_equals_a_replayed_one_is_kept_where_the_run_goes_on_behind_it() -> None:
    disk, keyless = Disk(), schema(key_properties=[])
    disk.take(keyless, message(event(5)), state(1))
    disk.take(state(1), message(event(1)), keyless, state(2))
    assert disk.replay().archived == {"events": 1}
    disk.take(state(2), keyless, message(event(1)), state(3))
    assert disk.lines() == [event(5), event(1), event(1)]


def ids(*numbers: int) -> list[bytes]:
    return [event(number) for number in numbers]


def test_no_tap_writes_among_the_dead_letters() -> None:
    disk, one = Disk(), message(event(1), layout.DEAD_LETTERS)
    with pytest.raises(BadInput, match="rename"):
        disk.take(one, schema(layout.DEAD_LETTERS))
    assert disk.replay().left.total() == 1
    assert [letter.line for letter in disk.open()] == [one]


def test_a_damaged_day_keeps_its_letters_open_and_no_others() -> None:
    disk = Disk()
    disk.take(schema(), message(event(1)), message(event(1, day=2)))
    disk.take(message(event(2)), message(event(2, day=2)))
    disk.storage.write(f"model/events/{DAY}.jsonl.gz", b"damaged")
    done = disk.replay()
    assert (done.archived, done.left.total()) == ({"events": 1}, 1)
    assert [letter.line for letter in disk.open()] == [message(event(2))]


@pytest.mark.case("A1")
@pytest.mark.parametrize("keys", [["id"], []], ids=["keyed", "keyless"])
def test_no_power_loss_during_a_replay_loses_or_doubles_a_record(keys: Sequence[str]) -> None:
    letters, crashes = [event(n % 8, str(n), day=1 + n % 3) for n in range(12)], 0
    for seed in range(400):
        disk = Disk(SimulatedStorage(random.Random(seed)))
        disk.take(*map(message, letters))
        disk.take(schema(key_properties=keys), message(event(99)))
        disk.storage.operations, disk.storage.fail_at = 0, 1 + seed % 40
        try:
            disk.replay()
        except PowerLoss:
            crashes += 1
        disk.storage = disk.storage.after_power_loss()
        assert balance(disk, letters) == Counter(), "an open letter or a record, never both, never neither"
        disk.replay()
        assert not disk.open()
        assert Counter(disk.lines()) == Counter([*letters, event(99)])
    assert crashes > 100


def balance(disk: Disk, letters: Iterable[bytes]) -> Counter[bytes]:
    there = Counter(disk.lines()) + Counter(letter.line.partition(b'"record":')[2][:-1] for letter in disk.open())
    there.subtract([*letters, event(99)])
    return Counter({line: count for line, count in there.items() if count})
