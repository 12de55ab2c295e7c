"""Slicing records out of bodies, byte for byte."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tap_rest.odd_json import ODD, is_record, on_one_line

from tap_rest.errors import UnexpectedPage
from tap_rest.formats.fields import KeyReader, include
from tap_rest.formats.records import (
    ColumnsRecords,
    ObjectMapRecords,
    PathRecords,
    Records,
    RootRecords,
    SingleRecords,
    TableRecords,
)


def sliced(selector: Records, body: bytes) -> list[bytes]:
    return [bytes(record) for record in selector.slices(body)]


DATA = PathRecords(path="data")


@pytest.mark.case("C2")
@pytest.mark.case("C7")
@pytest.mark.case("C8")
@pytest.mark.case("C9")
@pytest.mark.parametrize("name", ODD)
def test_odd_text_is_kept_byte_for_byte_or_refused_with_a_reason(name: str) -> None:
    record = ODD[name]
    for selector, body in (
        (DATA, b'{"data":[%b, {"x":1}],"next":null}'),
        (RootRecords(), b"[%b ,{}]"),
        (ObjectMapRecords(), b'{"k":%b}'),
    ):
        if is_record(record):
            assert sliced(selector, body % record)[0] == on_one_line(record)
            continue
        with pytest.raises(UnexpectedPage) as refused:
            selector.slices(body % record)
        assert len(refused.value.problem) > 15


def test_there_is_odd_text_of_every_kind() -> None:
    assert len(ODD) > 600
    assert 100 < sum(map(is_record, ODD.values())) < 200


NUMBERS = st.from_regex(r"\A-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?\Z")


@pytest.mark.case("C8")
@given(st.lists(NUMBERS, max_size=5), st.text(), st.sampled_from(["", "\n", "\r\n  "]))
def test_a_pretty_printed_record_loses_white_space_between_tokens_and_nothing_else(
    numbers: list[str], text: str, space: str
) -> None:
    word = json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")
    tokens = [b'{"t":', word, b',"n":[', b",".join(number.encode() for number in numbers), b"]}"]
    compact = b"".join(tokens)
    body = b'{"data":[' + space.encode().join(tokens) + b"]}"
    assert sliced(DATA, body) == [compact]


@pytest.mark.case("C7")
def test_a_byte_order_mark_is_not_part_of_a_record() -> None:
    assert sliced(DATA, b'\xef\xbb\xbf{"data":[{"a":1}]}') == [b'{"a":1}']


REFUSED = [
    (b"", "not whole"),
    (b"null", "no data"),
    (b"<html>", "not whole"),
    (b'{"data":[{"a":1}]', "cut short"),
    (b'{"data":[{"a":1}],"next":abc}', "not whole"),
    (b'{"data":[{"a":1}]} {}', "not whole"),
    (b'{"data":[{"a":01}]}', "not whole"),
    (b'{"data":[{"a":"x\ny"}]}', "not whole"),
    (b'{"data":[{"a":"\xff"}]}', "not UTF-8"),
    ('{"data":[]}'.encode("utf-16"), "UTF-16"),
    (b'{"data":null}', "data is null"),
    (b'{"error":{"code":1}}', "its members are error"),
    (b'[{"a":1}]', "is a list"),
    (b'{"data":{"a":1}}', "is an object"),
    (b'{"data":[{"a":1},7]}', "record 1 is a number"),
    (b'{"data":["x"]}', "record 0 is a text"),
    (b'{"data":[null]}', "record 0 is null"),
]


@pytest.mark.case("C1")
@pytest.mark.case("C7")
@pytest.mark.parametrize(("body", "said"), REFUSED, ids=range(len(REFUSED)))
def test_a_body_that_is_not_as_declared_is_never_an_empty_page(body: bytes, said: str) -> None:
    with pytest.raises(UnexpectedPage, match=said):
        DATA.slices(body)


@pytest.mark.case("C2")
def test_a_body_cut_anywhere_is_refused() -> None:
    body = b'{"data": [{"a": "x\\ud800"}, {"b": [1, 2.0]}], "next": null}'
    assert len(sliced(DATA, body)) == 2
    for end in range(len(body) - 1):
        with pytest.raises(UnexpectedPage):
            DATA.slices(body[:end])


@pytest.mark.case("trap:3.6")
@pytest.mark.case("trap:4.3")
def test_nothing_at_the_path_is_no_records_only_where_it_is_declared() -> None:
    optional = PathRecords(path="data.items", missing_ok=True)
    assert sliced(optional, b'{"data":{"items":null}}') == sliced(optional, b"{}") == []
    with pytest.raises(UnexpectedPage, match=r"no data\.items: data is an object: its members are rows"):
        PathRecords(path="data.items").slices(b'{"data":{"rows":[]}}')
    with pytest.raises(UnexpectedPage, match="is an object, not a list"):
        optional.slices(b'{"data":{"items":{}}}')


def test_an_object_map_gives_its_names_to_records_that_have_none() -> None:
    body = b'{"m":{"x":{"a":1},"y":{},"z":{"id":3},"\\u00e4":{"q":"\\ud800"}}}'
    records = sliced(ObjectMapRecords(path="m", key_as="id"), body)
    assert records == [b'{"id":"x","a":1}', b'{"id":"y"}', b'{"id":3}', '{"id":"ä","q":"\\ud800"}'.encode()]


def test_members_are_included_where_they_are_absent() -> None:
    extra = {"repository": b'"a/b"', "n": b"1"}
    assert include(b'{"n":null,"x":1}', extra) == b'{"repository":"a/b","n":null,"x":1}'
    assert include(b"{ }", {"n": b"1"}) == b'{"n":1}'
    assert include(b'{"x":NaN,"n":2}', {"n": b"1"}) == b'{"x":NaN,"n":2}'


@pytest.mark.parametrize(
    ("record", "values"),
    [
        (b'{"id":12345678901234567890123,"o":{"p":1.10}}', (12345678901234567890123, Decimal("1.10"))),
        (b'{"id":1e999,"o":{"p":-0.0}}', (Decimal("1E+999"), Decimal("-0.0"))),
        (b'{"id":"x","o":null}', ("x", None)),
        (b'{"o":7}', (None, None)),
        (b'{"id":5,"b":"\\ud800","o":{"p":true}}', (5, True)),
        (b'{"id":5,"b":NaN}', (5, None)),
        (b'{"id":5,"b":%s}' % (b"[" * 3000 + b"]" * 3000), (5, None)),
    ],
    ids=range(7),
)
def test_key_fields_are_read_exactly_from_any_record(record: bytes, values: tuple[Any, ...]) -> None:
    reader = KeyReader(["id", "o.p"])
    assert reader.read([record, b"{}"]) == [values, (None, None)]


def test_a_field_can_be_read_twice_and_no_records_have_no_keys() -> None:
    assert KeyReader(["id", "id"]).read([b'{"id":1}']) == [(1, 1)]
    assert KeyReader(["id"]).read([]) == []


PLACES = [
    # a body in which records stand in an odd place, the selector that finds them, the records
    (b'{"data":[{"items":[{"a":1.10}]},{"items":[]},{"items":[{"b":NaN}]}]}', PathRecords(path="data.*.items")),
    (b'{"pages":{"x":[{"a":1.10}],"y":[{"b":NaN}]}}', PathRecords(path="pages.*")),
    (b'[{"rows":[{"a":1.10}]},{"rows":[{"b":NaN}]}]', PathRecords(path="*.rows")),
    (b'{"pages":[[],[{"a":1.10},{"b":NaN}]]}', PathRecords(path="pages.1")),
    (b'{"m":[{"x":{"a":1.10}},{"y":{"b":NaN}}]}', ObjectMapRecords(path="m.*")),
    (b'{"m":{"x":{"a":1.10},"x":{"b":NaN}}}', ObjectMapRecords(path="m")),
]


@pytest.mark.case("C9")
@pytest.mark.parametrize(("body", "selector"), PLACES, ids=range(len(PLACES)))
@pytest.mark.case("trap:4.9")
def test_records_are_found_in_every_place_byte_for_byte(body: bytes, selector: Records) -> None:
    assert sliced(selector, body) == [b'{"a":1.10}', b'{"b":NaN}']


@pytest.mark.parametrize(("path", "body"), [("$", b" %b\t "), ("d.0", b'{"d":[ %b ],"x":{}}')])
def test_one_object_is_the_only_record_byte_for_byte(path: str, body: bytes) -> None:
    for record in (b'{"a": 1.10}', b'{"b":NaN}'):
        assert sliced(SingleRecords(path=path), body % record) == [record]


COMPOSED = [
    (b"[1.10,null,[NaN]]", RootRecords(value_as="v"), [b'{"v":1.10}', b'{"v":null}', b'{"v":[NaN]}']),
    (b'{"ids":["\\ud800", {"v":1}]}', PathRecords(path="ids", value_as="v"), [b'{"v":"\\ud800"}', b'{"v":{"v":1}}']),
    (
        b'{"d":{"2024-01-01":[{"a":1}],"2024-01-02":[{"day":7},{"a":2}]}}',
        PathRecords(path="d.*", key_as=["day"]),
        [b'{"day":"2024-01-01","a":1}', b'{"day":7}', b'{"day":"2024-01-02","a":2}'],
    ),
    (
        b'{"d":{"x":[{"r":[{"a":1}]}]}}',
        PathRecords(path="d.*.*.r", key_as=["k", "n"]),
        [b'{"k":"x","n":"0","a":1}'],
    ),
    (
        b'{"2024-01-01":1.10,"\\ud800":2}',
        ObjectMapRecords(key_as="day", value_as="v"),
        [b'{"day":"2024-01-01","v":1.10}', b'{"day":"\\ud800","v":2}'],
    ),
    (
        b'{"columns":["id","\\u00e4"],"rows":[[1.10,"x"],\n[ NaN,\n null]]}',
        TableRecords(rows="rows", columns="columns"),
        [b'{"id":1.10,"\\u00e4":"x"}', b'{"id":NaN,"\\u00e4":null}'],
    ),
    (
        b'{"schema":{"fields":[{"name":"id"},{"name":"b"}]},"rows":[[1,2]]}',
        TableRecords(rows="rows", columns="schema.fields.*.name"),
        [b'{"id":1,"b":2}'],
    ),
    (b'[["id","b"],["1","2"]]', TableRecords(), [b'{"id":"1","b":"2"}']),
    (b"[[1,2]]", TableRecords(names=["id", "b"]), [b'{"id":1,"b":2}']),
    (b'{"rows":[],"columns":["a"]}', TableRecords(rows="rows", columns="columns"), []),
    (
        b'{"hourly":{"time":["a","b"],"t":[1.10,NaN]}}',
        ColumnsRecords(path="hourly"),
        [b'{"time":"a","t":1.10}', b'{"time":"b","t":NaN}'],
    ),
    (b'{"n":2,"a":[1,2],"x":[]}', ColumnsRecords(names=["a"]), [b'{"a":1}', b'{"a":2}']),
]


@pytest.mark.parametrize(("body", "selector", "records"), COMPOSED, ids=range(len(COMPOSED)))
@pytest.mark.case("trap:4.9")
def test_a_composed_record_holds_the_bytes_of_its_values(body: bytes, selector: Records, records: list[bytes]) -> None:
    assert sliced(selector, body) == records


def test_what_is_composed_says_so() -> None:
    assert PathRecords(path="a", value_as="v").composes
    assert not PathRecords(path="a").composes
    assert TableRecords().composes
    assert ColumnsRecords().composes


MISPLACED: list[tuple[bytes, Records, str]] = [
    (
        b'{"data":[{"items":[{}]},{"rows":[]}]}',
        PathRecords(path="data.*.items"),
        r"no data\.1\.items: data\.1 is an obj",
    ),
    (b'{"data":[{"items":null}]}', PathRecords(path="data.*.items"), r"data\.0\.items is null"),
    (b'{"data":7}', PathRecords(path="data.*.items"), "data is a number"),
    (b'{"data":[{"a":1}],"data":[{"a":2}]}', DATA, "data stands 2 times in the body"),
    (b'{"d\\u0061ta":[{"a":1}],"data":[{"a":2}]}', DATA, "data stands 2 times in the body"),
    (b'{"d":{"data":[]},"d":{"data":[]}}', PathRecords(path="d.data", missing_ok=True), "d stands 2 times"),
    (b"[7]", RootRecords(), "`value_as` makes records of bare values"),
    (b'{"d":{"a":7}}', ObjectMapRecords(path="d"), "record 0 is a number"),
    (b"{}", TableRecords(), "is an object, not a list"),
    (b"[]", TableRecords(), "no row with the columns' names"),
    (b'[["a","b"],[1]]', TableRecords(), "row 0 has 1 values for 2 columns"),
    (b'[["a","\\u0061"],[1,2]]', TableRecords(), "stands twice among the columns"),
    (b"[[1],[2]]", TableRecords(), "1 is no name among the columns"),
    (b'[["a"],{"a":1}]', TableRecords(), "an object, not a list"),
    (b'{"rows":[[1]],"columns":[{}]}', TableRecords(rows="rows", columns="columns.*.name"), "nothing is no name"),
    (b'{"a":[1,2],"b":[1]}', ColumnsRecords(), "not of one length: a 2, b 1"),
    (b'{"a":[1],"a":[2]}', ColumnsRecords(), "stands twice"),
    (b'{"a":[1]}', ColumnsRecords(names=["a", "b"]), "has no column b"),
    (b'{"a":[1],"n":7}', ColumnsRecords(), "n is a number, not a list"),
    (b'{"a":[1]}', ColumnsRecords(path="b"), "no b"),
    (b'{"a":[{},{}]}', SingleRecords(path="a.*"), r"a\.\* stands for 2 places"),
]


@pytest.mark.case("C1")
@pytest.mark.case("C9")
@pytest.mark.parametrize(("body", "selector", "said"), MISPLACED, ids=range(len(MISPLACED)))
def test_a_place_that_is_not_as_declared_is_told(body: bytes, selector: Records, said: str) -> None:
    with pytest.raises(UnexpectedPage, match=said):
        selector.slices(body)


def test_a_place_may_be_absent_only_where_it_is_declared() -> None:
    selector = PathRecords(path="data.*.items", missing_ok=True)
    assert sliced(selector, b'{"data":[{"items":null},{},{"items":[{}]}]}') == [b"{}"]
    assert sliced(ObjectMapRecords(path="d.*", missing_ok=True), b'{"d":[null,{"a":{}}]}') == [b"{}"]


def test_options_that_contradict_are_mistakes() -> None:
    with pytest.raises(ValueError, match="`path` has 1"):
        PathRecords(path="a.*", key_as=["x", "y"])
    with pytest.raises(ValueError, match="either declared"):
        TableRecords(columns="a", names=["b"])


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "é☃"])
def test_a_key_of_any_name_is_read(name: str) -> None:
    record = json.dumps({name: 7, "b": 1.10}).encode()
    assert KeyReader([name, "b"]).read([record, b"{}"]) == [(7, Decimal("1.1")), (None, None)]
