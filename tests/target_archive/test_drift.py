"""Drift: what is noticed, what is not, where it is written, and that no record is ever lost for it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial, reduce
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.target_archive.histories import keyed, run_once
from tests.target_archive.simulated import PowerLoss, SimulatedStorage

from target_archive import drift, shape
from target_archive.archive import Archive
from target_archive.archiver import Archiver
from target_archive.commit import Change, Drift
from target_archive.drift import Watch, in_words, load_sample
from target_archive.reading import DayReader, open_log
from target_archive.settings import Settings
from target_archive.shape import Shape, decoder_type, merge, news, places, shape_of
from target_archive.storage import LocalStorage
from target_archive.writer import open_writer

SCHEMA: dict[str, Any] = {"properties": {"id": {"type": "integer"}, "at": {"type": "string", "format": "date-time"}}}


def said(records: Iterable[Any], schema: dict[str, Any] = SCHEMA, **more: Any) -> list[bytes]:
    head = {"type": "SCHEMA", "stream": "s", "schema": schema, "key_properties": ["id"], "bookmark_properties": ["at"]}
    lines = [{**head, **more}, *({"type": "RECORD", "stream": "s", "record": one} for one in records)]
    return [json.dumps(line).encode() for line in lines]


def take(root: Path, lines: list[bytes], **more: Any) -> Archiver:
    """One run."""
    with open_writer(LocalStorage(root), "x", run="r") as writer:
        archiver = Archiver(writer, Settings(root=str(root), **more), lambda _: None)
        archiver.take(lines)
        archiver.finish()
        return archiver


def records(first: int, count: int, day: int | None = None, **fields: Any) -> list[dict[str, Any]]:
    """Records over the days of May 2024, or of one of them."""
    return [
        {"id": n, "at": f"2024-05-{day or 1 + (n - first) * 20 // count:02}T00:00:00Z", "n": 1, **fields}
        for n in range(first, first + count)
    ]


def changes(root: Path) -> list[Change]:
    return [noted.change for noted in open_log(LocalStorage(root), "x").changes]


def told(root: Path) -> list[tuple[str, str, str]]:
    return [(change.kind, change.path, change.severity) for change in changes(root)]


def after(
    root: Path, *new: dict[str, Any], schema: dict[str, Any] = SCHEMA, **usual: Any
) -> list[tuple[str, str, str]]:
    """What is told when new records follow a first run of usual ones."""
    take(root, said(records(0, 60, **usual), schema))
    assert told(root) == []
    take(root, said([one | {"id": 100 + n, "at": "2024-06-01T00:00:00Z"} for n, one in enumerate(new)], schema))
    assert Archive(root, "x").count("s") == 60 + len(new)
    return told(root)


# What is noticed ----------------------------------------------------------------------------------------------------


@pytest.mark.case("R002-17")
def test_a_field_that_only_record_57_has_is_noticed_and_can_be_found(tmp_path: Path) -> None:
    new: list[dict[str, Any]] = [{"n": 1} for _ in range(80)]
    new[56]["rare"] = {"a": 1}
    assert after(tmp_path, *new) == [("added", "rare", "info")]
    change = changes(tmp_path)[0]
    assert (change.after, change.day, change.line) == (("object",), "2024-06-01", 57)
    line = list(Archive(tmp_path, "x").lines("s", change.day))[change.line - 1]
    assert json.loads(line)["rare"] == {"a": 1}


@pytest.mark.case("R002-17")
def test_a_scalar_that_changes_its_type_is_noticed_wherever_it_stands(tmp_path: Path) -> None:
    usual = {"p": {"size": 1, "commits": [{"sha": "a"}, {"sha": "b"}]}}
    new: list[dict[str, Any]] = [
        {"n": "1", **usual},
        {"n": 1, "p": {"size": "big", "commits": [{"sha": "c"}, {"sha": 7}]}},
    ]
    assert after(tmp_path, *new, **usual) == [
        ("type", "n", "breaking"),
        ("type", "p.size", "breaking"),
        ("type", "p.commits[].sha", "breaking"),
    ]
    assert in_words(changes(tmp_path)[0]) == "`n` was integer, is now also string (2024-06-01, line 1)"


@pytest.mark.case("R002-17")
def test_an_optional_field_that_one_record_lacks_is_not_gone(tmp_path: Path) -> None:
    assert after(tmp_path, {"n": 1}, {"n": 1, "extra": 1}, extra=1) == []


def test_null_where_there_never_was_one_is_noticed_unless_it_is_declared(tmp_path: Path) -> None:
    declared = {"properties": {**SCHEMA["properties"], "b": {"anyOf": [{"type": "string"}, {"type": "null"}]}}}
    found = after(tmp_path, {"n": None, "b": None}, schema=declared, b="x")
    assert found == [("null", "n", "warn"), ("null", "b", "info")]


@pytest.mark.case("02-3.8")
@pytest.mark.parametrize(
    ("usual", "new", "expected"),
    [
        (1, 1.5, [("type", "v", "warn")]),
        (1.5, 1, []),
        (1.5, 2**70, []),
        (None, 1, [("type", "v", "info")]),
        (1, True, [("type", "v", "breaking")]),
        ("x", {"a": 1}, [("type", "v", "breaking")]),
        ({"a": 1}, {"a": 1, "b": {"c": 2}}, [("added", "v.b", "info")]),
        ([], [1], [("added", "v[]", "info")]),
        ([1], [], []),
        ({"a.b": 1}, {"a.b": "x"}, [("type", 'v."a.b"', "breaking")]),
        ([[1]], [[1], ["x"]], [("type", "v[][]", "breaking")]),
    ],
)
def test_each_kind_of_change_has_its_severity(tmp_path: Path, usual: Any, new: Any, expected: list[Any]) -> None:
    assert after(tmp_path, {"n": 1, "v": new}, v=usual) == expected


def test_volatile_fields_are_told_as_information_alone(tmp_path: Path) -> None:
    volatile = {**SCHEMA, "x-daykeep-volatile": ["views", "p.rank"]}
    usual = {"views": 1, "p": {"rank": {"a": 1}, "size": 1}}
    new = {"n": 1, "views": "many", "p": {"rank": {"a": "x"}, "size": "x"}}
    assert after(tmp_path, new, schema=volatile, **usual) == [
        ("type", "views", "info"),
        ("type", "p.rank.a", "info"),
        ("type", "p.size", "breaking"),
    ]


def test_keys_that_change_their_type_are_read_as_before(tmp_path: Path) -> None:
    first = records(0, 40)
    odd = [
        {"id": key, "at": at} for key in ("a", {"k": 1}, [1], None, 2.5) for at in ("2024-05-01T00:00:00Z", 1714521600)
    ]
    take(tmp_path, said(first))
    take(tmp_path, said([*odd, *odd]))
    take(tmp_path, said([*first, *odd]))
    archive = Archive(tmp_path, "x")
    keyed = [one for one in odd if one["id"] is not None]
    assert archive.count("s") == 40 + len(odd) + len(keyed) + len(keyed)  # A→B→A: the other version is news each time
    assert archive.days("s") == sorted({one["at"][:10] for one in first})


# Gone ---------------------------------------------------------------------------------------------------------------


def test_a_field_that_was_always_there_is_gone_after_a_hundred_records_and_a_whole_day(tmp_path: Path) -> None:
    take(tmp_path, said(records(0, 200, extra={"deep": 1}, often=1)))
    take(tmp_path, said(records(1000, 99, often=1)))
    assert told(tmp_path) == []
    take(tmp_path, said(records(2000, 300, often=1)))
    take(tmp_path, said(records(3000, 300, often=1)))
    assert told(tmp_path) == [("gone", "extra", "warn")]
    assert changes(tmp_path)[0].day == "2024-05-20"
    take(tmp_path, said(records(4000, 30, extra={"deep": 1}, often=1)))
    assert told(tmp_path)[1:] == [("returned", "extra", "info")]


def test_a_whole_day_must_have_passed_without_it(tmp_path: Path) -> None:
    take(tmp_path, said(records(0, 200, extra=1)))
    take(tmp_path, said(records(1000, 190, day=20)))
    take(tmp_path, said(records(2000, 190, day=21)))
    assert told(tmp_path) == []
    take(tmp_path, said(records(3000, 190, day=22)))
    assert told(tmp_path) == [("gone", "extra", "warn")]


def test_a_field_that_is_seldom_there_is_missed_later(tmp_path: Path) -> None:
    some = records(0, 190)
    for one in some[::10]:
        one["seldom"] = 1
    for one in some[::10]:
        one["seldom"] = 1
    take(tmp_path, said([*some, *records(500, 10, seldom=1)]))
    for number in range(3):
        take(tmp_path, said(records(1000 * (number + 1), 200)))
    assert told(tmp_path) == []
    for number in range(3, 8):
        take(tmp_path, said(records(1000 * (number + 1), 200)))
    assert told(tmp_path) == [("gone", "seldom", "warn")]


def test_a_lost_or_torn_sample_is_taken_again_from_the_archive(tmp_path: Path) -> None:
    for content in (None, b"", b'{"":{"pres', b"\0" * 40):
        root = tmp_path / str(content and len(content))
        take(root, said(records(0, 200, extra=1)))
        path = root / "x/_meta/drift/s.json"
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        take(root, said(records(1000, 300)))
        take(root, said(records(2000, 300)))
        assert told(root) == [("gone", "extra", "warn")]
        assert load_sample(path.read_bytes())["extra"].present <= 200


# Maps and bounds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "kinds"),
    [
        ([f"{n:08x}-user" if n % 2 else f"2024-01-{n:04}" for n in range(2000)], 40),
        ([f"name_{'x' * (n % 7)}_{chr(97 + n % 26)}{n // 26 % 10}{n // 260}" for n in range(1500)], 310),
    ],
)
def test_an_object_with_ever_new_keys_becomes_a_map_with_a_note(tmp_path: Path, keys: list[str], kinds: int) -> None:
    found = after(tmp_path, *({"n": 1, "labels": {key: {"v": 1}}} for key in keys), labels={"first": {"v": 1}})
    assert found[-1] == ("map", "labels", "info")
    assert {kind for kind, *_ in found} <= {"added", "map"}
    assert len(found) <= kinds
    take(tmp_path, said([{"id": -1, "at": "2024-06-02", "labels": {"other": {"v": "x"}}}]))
    assert told(tmp_path)[-1] == ("type", "labels.*.v", "breaking")


def test_keys_of_any_spelling_are_fields_like_others(tmp_path: Path) -> None:
    usual: dict[str, Any] = {'a "b" \\ \n': {"x": 1}, "": 1}
    take(tmp_path, said(records(0, 60, **usual)))
    lines = [*said([*records(100, 60, **usual), {"id": 200, "at": "2024-06-01", **usual, 'a "b" \\ \n': {"x": "1"}}])]
    take(tmp_path, lines)
    assert told(tmp_path) == [("type", r'"a \"b\" \\ \n".x', "breaking")]
    assert Archive(tmp_path, "x").count("s") == 121


def test_whatever_comes_the_shape_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shape, "SIZE", 200)
    rng = random.Random(1)

    def value(depth: int) -> Any:
        if depth == 0:
            return rng.choice([1, "x", None, 1.5])
        return {f"k{rng.choice('abcdefghij')}{rng.choice('abcdefghij')}": value(depth - 1) for _ in range(4)}

    whole = shape_of({})
    for _ in range(300):
        one = value(5)
        whole = merge(whole, shape_of(one))
        assert len(list(places(whole))) <= 200
        fits(whole, json.dumps(one).encode())


def test_what_lies_deep_is_kept_and_passed_over(tmp_path: Path) -> None:
    deep = (
        b'{"type":"RECORD","stream":"s","record":{"id":%d,"at":"2024-05-01","v":'
        + b"[" * 40
        + b"%b"
        + b"]" * 40
        + b"}}"
    )
    take(tmp_path, said([{"id": 1}]))
    take(tmp_path, [*said([]), *(deep % (n, b'"x"' if n % 2 else b"1") for n in range(30))])
    take(tmp_path, [*said([]), *(deep % (n, b"{}") for n in range(30, 60))])
    assert Archive(tmp_path, "x").count("s") == 61
    assert [kind for kind, path, _ in told(tmp_path) if path.startswith("v[")] == []


@pytest.mark.parametrize(
    "odd",
    [
        rb'"\ud800"', b"1e999", b"9" * 5000, b'"\xff"', b'{"\\ud800":1}', b"[" * 3000 + b"]" * 3000, b'1,"v":"twice"',
    ],
)  # fmt: skip
def test_odd_values_are_archived_and_end_nothing(tmp_path: Path, odd: bytes) -> None:
    take(tmp_path, said(records(0, 20, v=1)))
    line = b'{"type":"RECORD","stream":"s","record":{"id":%d,"at":"2024-05-01T00:00:00Z","v":%b}}'
    take(tmp_path, [*said([]), *(line % (100 + n, odd) for n in range(30))])
    archive = Archive(tmp_path, "x")
    held = archive.count("s") + sum(1 for _ in archive.dead_letters())
    assert held == 50
    assert len(told(tmp_path)) <= 1


# Policies -----------------------------------------------------------------------------------------------------------


def test_the_policy_says_what_is_told_and_what_a_run_ends_with(tmp_path: Path) -> None:
    take(tmp_path, said(records(0, 20)))
    drifted = said([{"id": 50, "at": "2024-06-01", "n": None, "new": 1}, {"id": 51, "at": "2024-06-01", "n": "x"}])
    archiver = take(tmp_path, drifted)
    assert [one.change.severity for one in archiver.news_of_drift()] == ["warn", "breaking"]
    assert archiver.news_of_drift() == archiver.beyond_policy == []
    for policy, failing in [
        ("fail", 3), ({"breaking": "fail"}, 1), ({"warn": "fail"}, 1), ({"info": "fail"}, 1), ("warn", 0), ("note", 0),
    ]:  # fmt: skip
        again = take(tmp_path, said([]), on_drift=policy)
        assert (len(again.beyond_policy), again.news_of_drift()) == (failing, [])
    with open_writer(LocalStorage(tmp_path), "x", run="ack") as writer:
        writer.acknowledge(["s"])
    assert take(tmp_path, said([]), on_drift="fail").beyond_policy == []
    beyond = take(tmp_path, said([{"id": 52, "at": "2024-06-01", "newer": 1}]), on_drift="fail").beyond_policy
    assert [one.change.path for one in beyond] == ["newer"]


def test_a_new_streams_first_records_show_what_is_usual_and_later_ones_what_is_new(tmp_path: Path) -> None:
    take(tmp_path, said([*records(0, drift.LEARNING, a=1), {"id": 5000, "at": "2024-05-01", "n": "x"}]))
    assert told(tmp_path) == [("type", "n", "breaking")]
    take(tmp_path / "b", said([*records(0, drift.LEARNING - 1, a=1), {"id": 5000, "at": "2024-05-01", "n": "x"}]))
    assert told(tmp_path / "b") == []


# Schemas ------------------------------------------------------------------------------------------------------------


@pytest.mark.case("A25")
def test_a_schema_that_changes_in_mid_run_is_told_once_with_before_and_after(tmp_path: Path) -> None:
    wider = {
        "properties": {**SCHEMA["properties"], "id": {"type": ["integer", "string"]}, "o": {"properties": {"x": {}}}}
    }
    lines = [*said(records(0, 5, day=1)), *said(records(5, 5, day=1), wider), *said([], wider)]
    take(tmp_path, lines)
    take(tmp_path, said([], wider))
    assert told(tmp_path) == [("declared", "o", "info"), ("declared", "id", "warn")]
    assert (changes(tmp_path)[1].before, changes(tmp_path)[1].after) == (("integer",), ("integer", "string"))
    assert Archive(tmp_path, "x").days("s") == ["2024-05-01"]
    assert len(list((tmp_path / "x/s").iterdir())) == 1


def test_other_keys_types_and_formats_are_declared_changes(tmp_path: Path) -> None:
    other = {"properties": {"id": {"type": "string"}, "at": {"type": "string", "format": "date-time", "enum": ["a"]}}}
    take(tmp_path, said([]))
    take(tmp_path, said([], other, key_properties=["id", "at"], bookmark_properties=[]))
    take(
        tmp_path, said([], {"properties": {"at": other["properties"]["at"]}}, key_properties=[], bookmark_properties=[])
    )
    assert told(tmp_path) == [
        ("keys", "", "breaking"),
        ("replication_key", "", "breaking"),
        ("declared", "at", "warn"),
        ("declared", "id", "breaking"),
        ("keys", "", "breaking"),
        ("declared", "id", "warn"),
    ]


# Laws ---------------------------------------------------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b", "c", "id", "x y", 'q"', "2024", "é"]) | st.text(max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
ODD_KEY = re.compile(r"[\\]")  # in a path a quote, a backslash or a control character is escaped
RECORDS = st.lists(st.dictionaries(KEYS, VALUES, max_size=5), min_size=1, max_size=8)


def test_number_takes_in_integer_and_null_stays_beside_it() -> None:
    seen = [shape_of({"a": one}) for one in (1, 1.5, None)]
    for order in (seen, seen[::-1]):
        assert reduce(merge, order).fields["a"].types == ("null", "number")


def fits(known: Shape, line: bytes) -> None:
    msgspec.json.Decoder(decoder_type(known)).decode(line)


@given(RECORDS, st.randoms(use_true_random=False), st.integers(1, 6))
def test_the_shape_is_the_same_in_whatever_order_and_groups_records_come(
    values: list[Any], rng: random.Random, width: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shape, "WIDTH", width)
        shapes = [shape_of(one) for one in values]
        whole = reduce(merge, shapes)
        rng.shuffle(shapes)
        while len(shapes) > 1:
            place = rng.randrange(len(shapes) - 1)
            shapes[place : place + 2] = [merge(shapes[place], shapes[place + 1])]
        assert shapes[0] == whole
        learned: Shape | None = None
        for one in values:
            new = shape_of(one) if learned is None else news(shape_of(one), learned)
            if new is not None:
                learned = new if learned is None else merge(learned, new)
        assert learned == whole


@given(RECORDS, st.integers(1, 6))
def test_a_record_fits_exactly_when_its_shape_is_no_news(values: list[Any], width: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shape, "WIDTH", width)
        known = reduce(merge, map(shape_of, values[1:]), shape_of({}))
        decode = msgspec.json.Decoder(decoder_type(known)).decode
        line = json.dumps(values[0]).encode()
        if news(shape_of(values[0]), known) is None:
            if not any(ODD_KEY.search(path) for path, _ in places(shape_of(values[0]))):
                decode(line)
        else:
            with pytest.raises(msgspec.DecodeError):
                decode(line)


@settings(max_examples=30)
@given(RECORDS)
def test_a_record_that_fits_never_is_drift_and_every_new_shape_is_noticed(values: list[Any]) -> None:
    watch = Watch(shape_of({}))
    watch.expect({}, ["id"])
    lines = [msgspec.json.encode(one) for one in values]
    for number, line in enumerate(lines):
        try:
            watch.read(line)
        except drift.UNREADABLE:
            watch.learn(line, number)
    assert watch.shape == reduce(merge, map(shape_of, values), shape_of({}))
    watch.expect({}, ["id"])
    for line in lines:
        try:
            assert watch.read(line) == watch.read_fields(line)
        except drift.UNREADABLE:
            assert ODD_KEY.search(line.decode())
            assert watch.learn(line, 0) == Drift()


# Kills --------------------------------------------------------------------------------------------------------------


def archived_shape(storage: LocalStorage) -> tuple[Shape | None, Shape | None]:
    """What the log says, and what the archived records say."""
    log = open_log(storage, "model")
    lines = [line for day in log.days("s") for line in DayReader(storage, log).lines("s", day)]
    shapes = [shape_of(json.loads(line)) for line in lines]
    return log.shapes.get("s"), reduce(merge, shapes) if shapes else None


@pytest.mark.case("R002-17")
def test_after_any_power_loss_the_shape_is_that_of_the_archived_records() -> None:
    crashes = 0
    for seed in range(150):
        rng = random.Random(seed)
        source, storage = keyed(30, rng), SimulatedStorage(rng)
        for number in range(30):  # each record has something of its own, so that none can be one too many
            source.records[number] = source.records[number][:-1] + b',"f%d":%d}' % (number, number)
        told: list[dict[str, object]] = []
        for attempt in range(4):
            storage.fail_at = rng.randint(1, 120) if attempt < 3 else None
            try:
                run_once(storage, source, told[-1] if told else None, told, rng)
            except PowerLoss:
                crashes += 1
                storage = storage.after_power_loss()
            storage.operations = 0
            known, real = archived_shape(storage)
            assert known == real
        log = open_log(storage, "model")
        assert len({(one.change.kind, one.change.path) for one in log.changes}) == len(log.changes)
    assert crashes > 100


def test_what_waits_for_a_state_waits_with_its_drift(tmp_path: Path) -> None:
    take(tmp_path, said(records(0, 20)))
    state = b'{"type":"STATE","value":{"bookmarks":{"s":{"page":1}}}}'
    now = partial(datetime.now, UTC)
    with open_writer(LocalStorage(tmp_path), "x", run="r") as writer:
        archiver = Archiver(writer, Settings(commit_max_records=3), lambda _: None, now=now)
        new: Sequence[dict[str, Any]] = [{"id": 50 + n, "at": "2024-06-01", f"f{n}": 1} for n in range(4)]
        head, *lines = said(new)
        archiver.take([head, *lines[:3], state, *lines[3:]])
        archiver.commit_if_due()
        known, real = open_log(LocalStorage(tmp_path), "x").shapes["s"], set()
        real = {path for path, _ in places(known)}
        assert {"f0", "f1", "f2"} < real
        assert "f3" not in real
        archiver.finish()
    assert [(one.path, one.line) for one in changes(tmp_path)] == [("f0", 1), ("f1", 2), ("f2", 3), ("f3", 4)]
