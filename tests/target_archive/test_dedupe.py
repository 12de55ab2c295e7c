"""What counts as a repeat: never something whose loss would be one."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_archive import dedupe
from target_archive.dedupe import CopiesReadAgain, LatestVersion


def line(key: int, text: str) -> bytes:
    return b'{"id":%d,"v":"%s"}' % (key, text.encode())


RECORDS = st.lists(
    st.tuples(st.sampled_from(["d1", "d2", "d3"]), st.integers(0, 5), st.sampled_from("AB"), st.booleans()), max_size=60
)


@pytest.mark.case("B10")
@given(RECORDS, st.integers(0, 4), st.integers(0, 4))
def test_only_a_record_equal_to_its_keys_latest_version_is_a_repeat_however_much_is_forgotten(
    records: list[tuple[str, int, str, bool]], fresh: int, frozen: int
) -> None:
    archive: dict[str, list[bytes]] = defaultdict(list)
    uncommitted: dict[str, list[bytes]] = defaultdict(list)
    latest: dict[tuple[str, int], str] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dedupe, "FRESH_ENTRIES", fresh)
        patch.setattr(dedupe, "FROZEN_ENTRIES", frozen)
        rule = LatestVersion(lambda day: (list(archive[day]), ()), ("id",))
        for day, key, text, commit in records:
            repeat = rule.is_repeat(day, (key,), line(key, text))
            assert repeat == (latest.get((day, key)) == text)
            if not repeat:
                latest[day, key] = text
                uncommitted[day].append(line(key, text))
            if commit:
                done = [day for day in uncommitted if day != "d3"]  # d3 waits for its STATE
                for one in done:
                    archive[one] += uncommitted.pop(one)
                rule.trim(set(uncommitted))


def copies(archived: list[bytes], since: int, **start: Any) -> CopiesReadAgain:
    options = {"resumes_exactly": False, "position": "t", "start": None, **start}
    return CopiesReadAgain(lambda _: (archived, ()), lambda _: since, **options)


def dated(time: object) -> bytes:
    return b'{"t":%s}' % str(time).encode()


@pytest.mark.case("B11")
@pytest.mark.parametrize(
    ("archived", "since", "start", "incoming", "kept"),
    [
        ([1, 1], 0, {"start": 1}, [1, 1, 1], 1),  # two of three were held
        ([1, 1], 0, {"start": 2}, [1, 1], 2),  # before the bookmark: not read again, so these are new
        ([1, 1], 2, {"start": 2}, [1, 1], 0),  # before it, but after its STATE
        ([1, 1], 1, {"resumes_exactly": True, "start": 1}, [1, 1], 1),  # the page goes on after the first
        ([1, 1], 0, {"start": None}, [1, 1], 0),  # from the beginning: all is read again
        ([1, 1], 0, {"position": ""}, [1, 1, 1], 1),  # always read whole
        (["null", '"x"'], 0, {"start": 1}, ["null", '"x"'], 2),  # a place that cannot be compared: kept
        ([], 0, {"start": 1}, [1, 1], 2),  # copies within a run are genuine
    ],
)
def test_each_copy_that_is_read_again_is_matched_once(
    archived: list[object], since: int, start: dict[str, Any], incoming: list[object], kept: int
) -> None:
    rule = copies([dated(time) for time in archived], since, **start)
    assert sum(not rule.is_repeat("day", (), dated(time)) for time in incoming) == kept


def test_keys_may_be_objects_lists_and_missing() -> None:
    rule = LatestVersion(lambda _: ([b'{"id":{"a":1}}', b'{"id":[1]}', b"{}", b"7"], ()), ("id",))
    assert dedupe.hashable(({"b": 1, "a": [2]},)) == (b'{"a":[2],"b":1}',)
    for key in ({"a": 1}, [1]):
        assert rule.is_repeat(
            "day", dedupe.hashable((key,)), b'{"id":%s}' % str(key).replace("'", '"').replace(" ", "").encode()
        )
