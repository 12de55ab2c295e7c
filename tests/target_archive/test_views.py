"""What a day looked like at any time, its revisions and how good they look, and what differs between two views."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.target_archive.rereading import AFTER, DAY, Source, row, rows

from target_archive import commit, dayfile
from target_archive.archive import Archive
from target_archive.errors import BadSettings, CorruptArchive, NotHeld
from target_archive.quality import Policy
from target_archive.storage import LocalStorage
from target_archive.views import Diff, Row, head
from target_archive.writer import open_writer

V1, V2, V3, V4 = (f"2024-05-0{day}T12:00:00" for day in (2, 3, 4, 5))
LATE = "2024-06-01T12:00:00"


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


def noisy(numbers: range, **more: Any) -> list[dict[str, Any]]:
    """Records that do not compress away: a row's share of the file's bytes can be told."""
    return [row(number, noise=hash_text(number), **more) for number in numbers]


def hash_text(number: int) -> str:
    return "".join(f"{(number * 2654435761 + place * 40503) % 65536:04x}" for place in range(40))


# 02 Part A §3.1: a day that changes later ---------------------------------------------------------------------------


@pytest.mark.case("02-3.1")
def test_each_version_of_a_day_can_be_seen_as_of_its_time_and_costs_one_row(source: Source) -> None:
    first = noisy(range(100))
    second = [*first[:42], {**first[42], "noise": hash_text(1_000)}, *first[43:]]
    sizes = []
    for at, records in ((V1, first), (V2, second), (V3, first), (V4, first)):
        source.read(at, records)
        sizes.append(source.size())
    by_id = sorted(first, key=lambda one: one["id"]), sorted(second, key=lambda one: one["id"])
    views = [sorted(source.view(as_of=f"{at}Z"), key=lambda one: one["id"]) for at in (V1, V2, V3, V4)]
    assert views == [by_id[0], by_id[1], by_id[0], by_id[0]]
    raw = [source.archive.view("s", DAY, as_of=f"{at}Z") for at in (V1, V2, V3)]
    assert raw[0] != raw[1] != raw[2] != raw[0]  # the third holds the same records, in the order of their last versions
    line = len(json.dumps(first[42]))
    assert 0 < sizes[1] - sizes[0] < 2 * line
    assert 0 < sizes[2] - sizes[1] < 2 * line
    assert sizes[3] == sizes[2]
    archive = source.archive
    assert archive.log.last_run == "run-4"
    assert archive.log.last_at == f"{V4}.000Z"
    assert [one.added for one in archive.revisions("s", DAY)] == [100, 1, 1]


@pytest.mark.case("02-3.1")
def test_first_and_every_version_of_a_day_are_kept(source: Source) -> None:
    source.read(V1, [row(1, n=1), row(2, n=1)])
    source.read(V2, [row(1, n=2)])
    source.read(V3, [row(1, n=3), row(3)])
    archive = source.archive
    assert [json.loads(line) for line in archive.first("s", DAY)] == [row(1, n=1), row(2, n=1), row(3)]
    assert [json.loads(line) for line in archive.first("s", DAY, as_of=f"{V2}Z")] == [row(1, n=1), row(2, n=1)]
    found = archive.versions("s", DAY)
    assert [(one.line, one.at, one.gone) for one in found] == [
        (1, f"{V1}.000Z", None),
        (2, f"{V1}.000Z", f"{V2}.000Z"),
        (3, f"{V2}.000Z", None),
        (4, f"{V3}.000Z", None),
        (5, f"{V3}.000Z", None),
    ]
    assert [bytes(one.record) for one in found] == list(archive.lines("s", DAY))
    assert [one.commit for one in found] == sorted(one.commit for one in found)
    assert [one.gone for one in archive.versions("s", DAY, as_of=f"{V1}Z")] == [None, None]


@pytest.mark.parametrize(
    "as_of",
    [
        f"{V2}.999Z",
        f"{V2}Z",
        f"{V2}.000999Z",
        f"{V2}",
        V2.replace("T", " "),
        f"{V2.replace('T', 't')}z",
        f"{V2[:11]}14:00:00+02:00",
        f"{V2[:11]}14:00+02:00",
        V2[:10],
        datetime.fromisoformat(V2).replace(tzinfo=UTC),
        datetime.fromisoformat(V2),
        datetime.fromisoformat(V2).replace(tzinfo=UTC).astimezone(timezone(timedelta(hours=-9.5))),
        date.fromisoformat(V2[:10]),
        3,
        "3",
    ],
    ids=repr,
)
def test_a_time_may_be_written_in_many_ways(source: Source, as_of: datetime | date | str | int) -> None:
    for at, number in ((V1, 1), (V2, 2), (V3, 3)):
        source.read(at, [row(1, n=number)])
    assert source.archive.commit_at(as_of) in {3, 4}  # of each run the data, and the day file of it
    assert source.view(as_of=as_of) == [row(1, n=2)]


def test_before_the_first_commit_there_was_nothing(source: Source) -> None:
    source.read(V1, rows(1))
    for as_of in (0, "0", "1999-01-01", "2024-05-02T11:59:59.999Z", date(1, 1, 1)):
        assert source.view(as_of=as_of) == []
        assert source.archive.versions("s", DAY, as_of=as_of) == []
    assert source.view(as_of="2999-01-01") == rows(1)


@pytest.mark.parametrize("as_of", ["", "yesterday", "2024-05", "2024-13-01", -1, 99, "99", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_time_and_no_commit_is_told(source: Source, as_of: str | int) -> None:
    source.read(V1, rows(1))
    with pytest.raises(BadSettings):
        source.view(as_of=as_of)


def test_an_unknown_stream_is_told(source: Source) -> None:
    source.read(V1, rows(1))
    for ask in (source.archive.view, source.archive.first, source.archive.versions, source.archive.revisions):
        with pytest.raises(BadSettings, match="no stream `t`"):
            ask("t", DAY)


def test_records_without_a_day_have_views_too(source: Source) -> None:
    source.read(V1, [{"id": 1, "n": 1}])
    source.read(V2, [{"id": 1, "n": 2}])
    assert source.view("undated") == [{"id": 1, "n": 2}]
    assert source.view("undated", as_of=f"{V1}Z") == [{"id": 1, "n": 1}]
    assert [one.suspect for one in source.archive.revisions("s", "undated")] == [(), ()]


def test_a_stream_without_keys_has_views_of_its_copies(tmp_path: Path) -> None:
    source = Source(tmp_path, keys=())
    source.read(V1, rows(1, 1, 2))
    source.read(V2, rows(1, 2, 2))
    assert source.view(as_of=f"{V1}Z") == rows(1, 1, 2)
    assert source.view() == rows(1, 2, 2)
    assert [json.loads(line) for line in source.archive.first("s", DAY)] == rows(1, 1, 2, 2)
    found = source.archive.diff("s", DAY, f"{V1}Z")
    assert [json.loads(bytes(one.record)) for one in found.added] == rows(2)
    assert [json.loads(bytes(one.record)) for one in found.removed] == rows(1)
    assert found.changed == ()
    assert [one.rows for one in source.archive.revisions("s", DAY)] == [3, 3]


def test_a_snapshot_that_equals_an_earlier_one_is_shown_as_that_was_then(tmp_path: Path) -> None:
    source = Source(tmp_path, mode="snapshot", bookmarks=())
    days = ("2024-05-02", "2024-05-03", "2024-05-04")
    for day, records in zip(days, ([1, 2], [1, 2], [1]), strict=True):
        source.read(f"{day}T12:00:00", rows(*records), start=None, end=f"{day}T12:00:00Z")
    assert [source.view(day) for day in days] == [rows(1, 2), rows(1, 2), rows(1)]
    assert source.view(days[1], as_of=days[0]) == []
    assert source.view(days[1], as_of=days[1]) == rows(1, 2)
    (same,) = source.archive.revisions("s", days[1])
    assert (same.same_as, same.rows, same.complete, same.added) == (days[0], 2, True, 0)
    assert [one.complete for day in days for one in source.archive.revisions("s", day)] == [True, True, True]
    for policy in get_args(Policy)[1:3]:
        assert source.view(days[1], policy=policy) == rows(1, 2)
    assert [json.loads(line) for line in source.archive.first("s", days[1])] == rows(1, 2)
    source.read(f"{days[0]}T23:00:00", rows(1, 2, 9), start=None, end=f"{days[0]}T23:00:00Z")
    assert source.view(days[0]) == rows(1, 2, 9)  # a clock that went back has added to that day
    assert source.view(days[1]) == rows(1, 2)


def test_a_snapshot_read_twice_on_a_day_may_differ_from_the_earlier_day_only_then(tmp_path: Path) -> None:
    source = Source(tmp_path, mode="snapshot", bookmarks=())
    for at, numbers in (
        ("2024-05-02T12:00:00", (1, 2)),
        ("2024-05-03T10:00:00", (1, 2)),
        ("2024-05-03T20:00:00", (1,)),
    ):
        source.read(at, rows(*numbers), start=None, end=f"{at}Z")
    assert source.view("2024-05-03", as_of="2024-05-03T10:00:00Z") == rows(1, 2)
    assert source.view("2024-05-03") == rows(1)
    found = source.archive.revisions("s", "2024-05-03")
    assert [(one.number, one.same_as, one.rows) for one in found] == [(1, "2024-05-02", 2), (2, "", 1)]


def repair(source: Source, left: int) -> None:
    """What a repair does that has lost the lines behind the first `left`."""
    archive = source.archive
    (file,) = archive.log.day("s", DAY).files
    data = dayfile.compress(dayfile.join(list(archive.lines("s", DAY))[:left]))
    kept = commit.DayFile("s", DAY, 1, file.name, len(data), left, commit.digest(data), file.through)
    with open_writer(LocalStorage(source.root), "tap", run="repair") as writer:
        (source.root / "tap/s" / file.name).write_bytes(data)
        writer._append("repair", files=(kept,), lost={"s": {DAY: file.lines - left}})


def test_how_a_day_stood_before_a_repair_that_lost_lines_is_said_to_be_unknown(source: Source) -> None:
    for at, numbers in ((V1, (1, 2)), (V2, (2,)), (V3, (1, 2)), (V4, (1, 2, 3))):
        source.read(at, rows(*numbers))
    repair(source, left=3)
    assert sorted(one["id"] for one in source.view()) == [1, 2]
    for ask in (source.archive.view, source.archive.first, source.archive.versions):
        with pytest.raises(NotHeld, match=r"2024-05-01.*repaired at"):
            ask("s", DAY, as_of=f"{V2}Z")
    for policy in get_args(Policy):
        with pytest.raises(NotHeld):
            source.view(as_of=f"{V2}Z", policy=policy)
    with pytest.raises(NotHeld):
        source.archive.diff("s", DAY, f"{V1}Z")
    (left,) = source.archive.revisions("s", DAY)
    assert (left.repaired, left.rows, left.run, left.complete) == (True, 2, "repair", False)
    assert source.view(policy="latest_complete") == []
    source.read(LATE, rows(1, 2, 3))
    assert len(source.view(policy="latest_complete")) == len(source.view()) == 3


def test_a_snapshot_that_equals_one_that_was_damaged_since_has_what_the_repair_has_left(tmp_path: Path) -> None:
    source = Source(tmp_path, mode="snapshot", bookmarks=())
    for at in ("2024-05-01T12:00:00", "2024-05-02T12:00:00"):
        source.read(at, rows(1, 2, 3), start=None, end=f"{at}Z")
    repair(source, left=2)
    assert source.view("2024-05-02") == rows(1, 2)
    with pytest.raises(NotHeld):
        source.view("2024-05-02", as_of="2024-05-02")
    assert source.view("2024-05-02", as_of="2024-05-01") == []


# 02 Part A §3.3: which version is better ----------------------------------------------------------------------------


@pytest.mark.case("02-3.3")
def test_a_truncated_read_again_does_not_change_the_head(source: Source) -> None:
    whole = rows(*range(100))
    source.read(V1, whole)
    source.read(V2, whole[:30], status="partial")
    assert source.view() == whole
    assert len(source.archive.revisions("s", DAY)) == 1


@pytest.mark.case("02-3.3")
def test_a_complete_read_that_shrinks_a_settled_day_is_suspect_and_both_views_stay(source: Source) -> None:
    whole = rows(*range(100))
    source.read(V1, whole)
    source.read(LATE, whole[:70])
    before, after = source.archive.revisions("s", DAY)
    assert (before.rows, before.complete, before.suspect, before.run) == (100, True, (), "run-1")
    assert (after.rows, after.rows_delta, after.gone, after.added, after.complete) == (70, -30, 30, 0, True)
    assert after.suspect == ("70 of 100 rows are left of a day that was settled",)
    assert source.view() == whole[:70]
    assert source.view(as_of=before.commit) == whole
    assert source.view(policy="latest_complete") == whole
    assert source.view(policy="max_rows") == whole
    assert source.view(policy="pinned") == []
    assert source.view(policy="latest_complete", as_of=0) == []
    source.read("2024-06-02T12:00:00", [*whole[:70], row(200)])
    assert source.archive.revisions("s", DAY)[-1].suspect  # one row more does not make it good
    assert source.view(policy="latest_complete") == whole
    source.read("2024-06-03T12:00:00", whole)
    assert source.archive.revisions("s", DAY)[-1].suspect == ()
    assert len(source.view(policy="latest_complete")) == 100


@pytest.mark.parametrize(
    ("at", "left", "suspect"),
    [
        ("2024-05-09T00:00:00", 70, False),  # the day has been over for seven days, no more
        ("2024-05-09T00:00:01", 70, True),
        (LATE, 80, False),
        (LATE, 79, True),
        (LATE, 0, True),
    ],
)
def test_a_fresh_day_may_shrink_and_a_settled_one_by_a_fifth(
    source: Source, at: str, left: int, *, suspect: bool
) -> None:
    source.read(V1, rows(*range(100)))
    source.read(at, rows(*range(left)) or [row(1, day=2)])
    found = source.archive.revisions("s", DAY)[-1]
    assert (len(found.suspect), found.rows, found.fields_lost) == (suspect, left, ())


def test_a_day_is_over_when_it_is_over_in_the_time_zone_of_its_stream(tmp_path: Path) -> None:
    source = Source(tmp_path, day={"field": "at", "tz": "America/Los_Angeles"})
    read = partial(source.read, start=None, end="2024-05-08T00:00:00Z")
    for at, left in ((V1, 100), ("2024-05-09T06:59:00", 70)):
        read(at, rows(*range(left)))
    assert source.archive.revisions("s", DAY)[-1].suspect == ()
    read("2024-05-09T07:01:00", rows(*range(30)))
    assert source.archive.revisions("s", DAY)[-1].suspect


def test_a_field_that_every_record_had_and_none_has_is_suspect(source: Source) -> None:
    source.read(V1, [row(n, name="x", sometimes=1) if n else row(n, name="x") for n in range(5)])
    source.read(V2, [row(n, name=None) for n in range(5)])
    source.read(V3, rows(*range(5)))
    _, nulls, lost = source.archive.revisions("s", DAY)
    assert (nulls.fields_lost, nulls.null_deltas, nulls.suspect) == ((), {"name": 1.0}, ())
    assert lost.fields_lost == ("name",)
    assert lost.suspect == ("no record has name any longer",)
    assert [one["name"] for one in source.view(policy="latest_complete")] == [None] * 5


def test_sums_are_exact_and_keys_are_not_summed(source: Source) -> None:
    source.read(V1, [row(1, cost={"usd": 0.1}), row(2, cost={"usd": 0.2}), row(3, cost={"usd": 1e300})])
    source.read(V2, [row(1, cost={"usd": 0.2}), row(2, cost={"usd": 0.1}), row(3, cost={"usd": 1e300})])
    source.read(V3, [row(1, cost={"usd": 0.25}), row(2, cost={"usd": 0.1}), row(30, cost={"usd": 1e300}, flag=True)])
    found = source.archive.revisions("s", DAY)
    assert [one.total_deltas for one in found] == [{}, {}, {"cost.usd": 0.05}]


def test_a_read_that_was_cut_in_the_middle_is_not_complete_until_one_is(source: Source) -> None:
    source.read(V1, rows(1, 2), claimed=False)
    source.read(V2, [*rows(1, 2), row(3)], status="partial")
    assert [one.complete for one in source.archive.revisions("s", DAY)] == [False, False]
    assert source.view(policy="latest_complete") == []
    assert source.view(policy="max_rows") == rows(1, 2, 3)
    source.read(V3, rows(1, 2, 3))
    archive = source.archive
    assert [one.complete for one in archive.revisions("s", DAY)] == [False, True]  # it brought nothing, and proved that
    assert source.view(policy="latest_complete") == rows(1, 2, 3)
    assert source.view(policy="latest_complete", as_of=f"{V2}Z") == []  # it was not known then


@pytest.mark.parametrize(
    ("start", "end"),
    [(AFTER, "2024-05-10T00:00:00Z"), (None, "2024-05-01T23:59:59Z"), (None, None), (None, "when?")],
)
def test_a_read_that_does_not_reach_over_the_day_proves_nothing(
    source: Source, start: str | None, end: str | None
) -> None:
    source.read(V1, rows(1), start=start, end=end)
    assert [one.complete for one in source.archive.revisions("s", DAY)] == [False]


def test_the_snapshot_of_another_day_proves_nothing(tmp_path: Path) -> None:
    source = Source(tmp_path, mode="snapshot", bookmarks=())
    source.read("2024-05-01T12:00:00", rows(1), claimed=False)
    source.read("2024-05-02T12:00:00", rows(1, 2), start=None, end="2024-05-02T12:00:00Z")
    assert [one.complete for one in source.archive.revisions("s", DAY)] == [False]
    assert [one.complete for one in source.archive.revisions("s", "2024-05-02")] == [True]


def test_a_snapshot_that_was_read_over_midnight_is_proved_by_its_run(tmp_path: Path) -> None:
    source = Source(tmp_path, mode="snapshot", bookmarks=())
    source.read("2024-05-02T00:10:00", rows(1), start=None, end="2024-05-01T23:50:00Z")
    assert [one.complete for one in source.archive.revisions("s", "2024-05-02")] == [True]


def test_the_commits_of_one_run_are_one_revision(source: Source) -> None:
    source.read(V1, rows(*range(10)), commit_every=2)
    source.read(LATE, [row(number) for number in range(100, 110)], commit_every=2)
    first, second = source.archive.revisions("s", DAY)
    assert (first.added, first.rows, first.complete) == (10, 10, True)
    assert (second.added, second.gone, second.rows, second.complete, second.suspect) == (10, 10, 10, True, ())
    assert source.view(policy="max_rows") == source.view()  # the halves of a run are nobody's view of the day


def test_a_day_that_is_read_by_the_time_of_change_is_complete_once_all_was_read(tmp_path: Path) -> None:
    source = Source(tmp_path, mode="changelog", bookmarks=("updated",))
    source.read(V1, rows(1), start="2024-05-01T00:00:00Z", end="2024-05-02T12:00:00Z")
    source.read(V2, rows(2), start=None, end="2024-05-03T12:00:00Z")
    source.read(V3, rows(3), start="2024-05-03T12:00:00Z", end="2024-05-04T12:00:00Z")
    assert [one.complete for one in source.archive.revisions("s", DAY)] == [False, True, True]


# Pins ---------------------------------------------------------------------------------------------------------------


def pin(root: Path, seq: int) -> None:
    with open_writer(LocalStorage(root), "tap", run="pin") as writer:
        writer.pin("s", DAY, seq)


def test_a_pin_goes_first_in_every_policy_and_can_be_taken_back(source: Source) -> None:
    source.read(V1, rows(1, 2))
    source.read(V2, rows(1, 2, 3))
    seq = source.archive.revisions("s", DAY)[0].commit
    pin(source.root, seq)
    for policy in get_args(Policy):
        assert source.view(policy=policy) == rows(1, 2)
    assert source.view(as_of=f"{V2}Z") == rows(1, 2, 3)
    source.read(V3, rows(1, 2, 3, 4))
    assert source.view() == rows(1, 2)
    assert [one.pinned for one in source.archive.revisions("s", DAY)] == [True, False, False]
    pin(source.root, source.archive.revisions("s", DAY)[1].commit)
    assert [one.pinned for one in source.archive.revisions("s", DAY)] == [False, True, False]
    pin(source.root, 0)
    assert source.view() == rows(1, 2, 3, 4)
    assert not any(one.pinned for one in source.archive.revisions("s", DAY))


# What differs -------------------------------------------------------------------------------------------------------


def test_a_difference_names_the_keys_and_the_fields(source: Source) -> None:
    source.read(V1, [row(1, a={"b": 1, "c": [1], "d.e": 1}), row(2), row(3, x=1), row(4, y=1)])
    later = b'{"id": 4, "y": 1,   "at": "2024-05-01T10:00:00Z"}'
    source.read(V2, [row(1, a={"b": 2, "c": [1, 2]}), row(3, x=1), later, row(5)])
    found = source.archive.diff("s", DAY, f"{V1}Z", f"{V2}Z")
    assert [one.key for one in found.added] == [{"id": 5}]
    assert [one.key for one in found.removed] == [{"id": 2}]
    assert [one.key for one in found.changed] == [{"id": 1}, {"id": 4}]
    fields = [(one.path, one.before, one.after) for one in found.changed[0].fields]
    assert [path for path, *_ in fields] == ["a.b", "a.c", 'a."d.e"']
    assert [(bytes(before), bytes(after)) for _, before, after in fields[:2]] == [(b"1", b"2"), (b"[1]", b"[1, 2]")]  # type: ignore[arg-type]
    assert found.changed[1].fields == ()
    backwards = source.archive.diff("s", DAY, f"{V2}Z", f"{V1}Z")
    assert [one.key for one in backwards.added] == [{"id": 2}]
    assert source.archive.diff("s", DAY, f"{V2}Z") == source.archive.diff("s", DAY, 0, 0)


def test_records_that_are_no_objects_stand_for_themselves(source: Source) -> None:
    source.read(V1, [b"[1]", row(1)])
    source.read(V2, [b"[2]", row(1)])
    assert source.archive.diff("s", "undated", f"{V1}Z") == Diff(added=(Row({}, msgspec.Raw(b"[2]")),))
    assert [one.rows for one in source.archive.revisions("s", "undated")] == [1, 2]


ids = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), max_size=8, unique_by=lambda one: one[0])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(ids, st.booleans()), min_size=1, max_size=5), st.booleans())
def test_every_view_is_what_the_last_reads_said(
    tmp_path_factory: pytest.TempPathFactory, reads: list[tuple[list[tuple[int, int]], bool]], keyed: bool
) -> None:
    """A complete read replaces the day, a partial one adds to it; each of them can be seen for ever."""
    source = Source(tmp_path_factory.mktemp("views"), keys=("id",) if keyed else ())
    expected: list[dict[int, Any]] = []
    now: dict[int, Any] = {}
    for number, (read, complete) in enumerate(reads):
        records = [row(one, n=n) for one, n in read] if keyed else [row(one) for one, _ in read]
        source.read(f"2024-05-02T{number:02d}:00:00", records, status="complete" if complete else "partial")
        told = {record["id"]: record for record in records}
        now = told if complete else now | told
        expected.append(now)
    archive = source.archive
    for number, told in enumerate(expected):
        view = [json.loads(line) for line in archive.view("s", DAY, as_of=f"2024-05-02T{number:02d}:00:00Z")]
        assert sorted(view, key=lambda one: one["id"]) == [told[one] for one in sorted(told)]
    found = archive.revisions("s", DAY)
    lines = list(archive.lines("s", DAY))
    held = archive.log.day("s", DAY)
    for one in found:
        keys = ("id",) if keyed else ()
        assert one.rows == len(head(lines[: held.lines(one.commit)], keys, held.gone_lines(one.commit)))


def test_an_archive_that_was_opened_while_a_run_was_writing_finds_what_that_has_moved(source: Source) -> None:
    source.read(V1, rows(1, 2))
    opened: list[Archive] = []
    source.read(V2, rows(1, 2, 3, 4), commit_every=1, meanwhile=lambda: opened.append(source.archive))
    (archive,) = opened
    assert archive.log.pending
    assert [json.loads(line) for line in archive.view("s", DAY, as_of=f"{V1}Z")] == rows(1, 2)
    assert archive.log.pending == {}
    source.read(V3, rows(1), commit_every=1, meanwhile=lambda: opened.append(source.archive))
    assert opened[1].revisions("s", DAY)[-1].rows == 4
    (source.root / "tap/s" / f"{DAY}.jsonl.gz").write_bytes(b"damaged")
    with pytest.raises(CorruptArchive, match="not as it was written"):
        source.archive.view("s", DAY)
