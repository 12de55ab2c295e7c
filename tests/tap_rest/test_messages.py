"""Singer lines to the byte."""

from __future__ import annotations

import pytest

from tap_rest.engine.messages import record_lines, schema_line, state_line, timestamp


@pytest.mark.parametrize("count", [0, 1, 2, 5])
@pytest.mark.case("trap:2.jsonl-of-arrays")
def test_each_record_is_a_line_and_what_follows_comes_last(count: int) -> None:
    records = [b'{"a":%d}' % number for number in range(count)]
    lines = record_lines('a"b', records, 0.5, b"then\n")
    wanted = [
        b'{"type":"RECORD","stream":"a\\"b","record":' + record + b',"time_extracted":"1970-01-01T00:00:00.500000Z"}\n'
        for record in records
    ]
    assert lines == b"".join(wanted) + b"then\n"


def test_a_schema_names_its_bookmark_only_where_there_is_one() -> None:
    assert schema_line("s", {"type": "object"}, ["id"], None) == (
        b'{"type":"SCHEMA","stream":"s","schema":{"type":"object"},"key_properties":["id"]}\n'
    )
    assert schema_line("s", {}, [], "t").endswith(b'"key_properties":[],"bookmark_properties":["t"]}\n')


def test_a_state_is_one_line() -> None:
    assert (
        state_line({"bookmarks": {"s": {"x": "a\nb"}}})
        == b'{"type":"STATE","value":{"bookmarks":{"s":{"x":"a\\nb"}}}}\n'
    )


def test_a_timestamp_always_has_microseconds() -> None:
    assert timestamp(1_800_000_000) == "2027-01-15T08:00:00.000000Z"
