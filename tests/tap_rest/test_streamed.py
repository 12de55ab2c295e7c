"""Bodies too large to be held give the same records as if they were, in bounded memory."""

from __future__ import annotations

import gzip
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.tap_rest.harness import ids, json_api, run
from tests.tap_rest.hostile import Hostile, framed, response
from tests.tap_rest.odd_json import ODD, is_record, on_one_line

from tap_rest.engine.capture import Capture, CaptureClock
from tap_rest.engine.transport import Transport, TransportError
from tap_rest.errors import UnexpectedPage
from tap_rest.formats.formats import CsvFormat, Format, JsonlFormat
from tap_rest.formats.records import ObjectMapRecords, PathRecords, Records, RootRecords
from tap_rest.formats.spool import HELD, Spool, SpoolFailed, gathered, whole
from tap_rest.formats.streamed import Streamed
from tap_rest.redaction import Redactor
from tap_rest.request import Request

DATA = PathRecords(path="data")
Outcome = tuple[list[bytes], str]


def outcome(find: Callable[[], Sequence[bytes] | None]) -> list[bytes] | str | None:
    try:
        found = find()
    except UnexpectedPage:
        return "refused"
    return None if found is None else [bytes(record) for record in found]


def agree(selector: Records, body: bytes, window: int) -> bool:
    """Whether a body was streamed; what came out must be what comes out when it is held."""
    streamed = outcome(lambda: selector.streamed(Spool([body], window)))
    assert streamed in (None, outcome(lambda: selector.slices(body)))
    return streamed not in (None, "refused")


@pytest.mark.case("C2")
@pytest.mark.case("C7")
@pytest.mark.case("C8")
@pytest.mark.case("C9")
@pytest.mark.parametrize("name", ODD)
def test_odd_text_is_streamed_byte_for_byte_or_refused(name: str) -> None:
    record = ODD[name]
    body = b'{"n":1,"data":[{"x":0},%b, {"x":1}],"next":null}' % record
    expected = [b'{"x":0}', record, b'{"x":1}'] if is_record(record) else "refused"
    if b"\n" in record or b"\r" in record:
        expected = [b'{"x":0}', on_one_line(record), b'{"x":1}'] if is_record(record) else "refused"
    for window in (20, 1 << 20):
        assert outcome(lambda size=window: DATA.streamed(Spool([body], size))) == expected  # type: ignore[misc]


LAYOUTS: list[tuple[bytes, Records, bool]] = [
    # a body, its selector, whether it can be streamed
    (b'[{"id":1},{"id":2,"o":[{"id":3},{"id":4}]},{"id":5}]', RootRecords(), True),
    (b'\xef\xbb\xbf \r\n[\n  {\n "id" : 1\n },\n  {\n "t": "a,\\n}, {\\"id\\""\n}\n]\n ', RootRecords(), True),
    (b'{"a":[[{"data":[]}]],"data":[{"a":1},{"b":NaN},{"c":"\\ud800"}],"next":"x"}', DATA, True),
    (b'{"\\"data":[{}],"t":"data","data" : [{"a":1},{"b":2}]}', DATA, True),
    (b'{"d":{"e":{"f":[{"a":1},{"b":2}]},"x":1},"y":[]}', PathRecords(path="d.e.f"), True),
    (b'{"\xc3\xa4 \\"":[{"a":1},{"b":2}]}', PathRecords(path='ä "'), True),
    (b'[1,"a,b",[2,{"a":"]"}],null , {},-1.10]', RootRecords(value_as="v"), True),
    (b"[%b]" % b",".join(b'{"id":%d}' % n for n in range(60)), RootRecords(), True),
    (b'[{"id":%b},{"id":1}]' % (b"[" * 3000 + b"]" * 3000), RootRecords(), True),
    (b'{"d\\u0061ta":[{"a":1},{"b":2}]}', DATA, False),
    (b'{"data":{"1":[{"a":1}]}}', PathRecords(path="data.*"), False),
    (b'{"data":{"*":[{"a":1},{"b":2}]}}', PathRecords(path="data.*", key_as=["k"]), False),
    (b'{"data":[[{"a":1}]]}', PathRecords(path="data.0"), False),
    (b'{"k":{"a":1}}', ObjectMapRecords(), False),
    (b'{"data":[]}', DATA, False),
    (b'{"data":[  ],"x":1}', DATA, False),
    (b'{"data":null}', PathRecords(path="data", missing_ok=True), False),
]


@pytest.mark.parametrize(("body", "selector", "streams"), LAYOUTS, ids=range(len(LAYOUTS)))
def test_a_list_is_streamed_from_wherever_it_stands(body: bytes, selector: Records, streams: bool) -> None:
    assert [agree(selector, body, window) for window in (40, 64, 200, 1 << 20)] == [streams] * 4


@pytest.mark.case("C2")
@pytest.mark.parametrize(("body", "selector", "streams"), LAYOUTS, ids=range(len(LAYOUTS)))
def test_a_body_cut_anywhere_is_never_streamed(body: bytes, selector: Records, streams: bool) -> None:
    for end in range(0, len(body.rstrip()), max(1, len(body) // 200)):
        assert not agree(selector, body[:end], 40)
    assert not agree(selector, body + b"x", 40)


@pytest.mark.case("C9")
@pytest.mark.parametrize(
    "body",
    [
        b'{"data":[{"a":1},{"a":2}],"data":[{"a":3}]}',
        b'{"data":[{"a":1},{"a":2}],"d\\u0061ta":[]}',
        b'{"data":[{"a":1},{"a":2}],"next":abc}',
        b'{"data":[{"a":1},{"a":2}]}}',
        b'{"data":[{"a":1},{"a":2}}}',
        b'{"data":[{"a":1},]}',
        b'{"data":[,{"a":1}]}',
        b'{"data":[{"a":1},,{"a":2}]}',
        b'{"data":[{"a":1} {"a":2}]}',
        b'{"data":[{"a":1},7]}',
        b'{"data":[{"a":1},{"a":"\xff"}]}',
        b'{"data":[{"a":1},{"a":2}],"x":"\xff"}',
    ],
    ids=range(12),
)
def test_a_fault_anywhere_in_the_body_is_found_before_the_first_record_is_given(body: bytes) -> None:
    for window in (24, 1 << 20):
        with pytest.raises(UnexpectedPage, match=r".+"):
            DATA.streamed(Spool([body], window))


def test_a_fault_is_told_with_its_place_in_the_whole_body() -> None:
    records = b",".join(b'{"a":%d}' % n for n in range(30))
    with pytest.raises(UnexpectedPage, match="record 30 is a number"):
        DATA.streamed(Spool([b'{"data":[%b,7]}' % records], 40))
    body = b'{"data":[%b,{"a":"\xff"}]}' % records
    with pytest.raises(UnexpectedPage, match=f"byte {body.index(0xFF)} is 0xff"):
        DATA.streamed(Spool([body], 40))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(['"},{"', "\\", "]", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "id", "data"]), inner, max_size=3)
    ),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(st.sampled_from(["id", "data", "a"]), VALUES, max_size=3), max_size=6)


@settings(deadline=None)
@given(
    rows=ROWS,
    around=st.sampled_from(
        ["%s", '{"data":%s}', '{"x":[{"data":[1]}],"data": %s ,"n":{"data":[]}}', '{"data":%s,"data":1}']
    ),
    indent=st.sampled_from([None, 0, 2]),
    change=st.tuples(
        st.floats(0, 1), st.integers(0, 3), st.sampled_from([b"", b"", b'"', b"]", b"}", b",", b"\\", b"\n"])
    ),
    window=st.sampled_from([30, 50, 90]),
)
@example(rows=[{}], around="%s", indent=None, change=(0.0, 0, b""), window=30)
def test_a_body_gives_the_same_streamed_as_held_whatever_is_wrong_with_it(
    rows: list[object], around: str, indent: int | None, change: tuple[float, int, bytes], window: int
) -> None:
    body = (around % json.dumps(rows, indent=indent, ensure_ascii=False)).encode("utf-8", "surrogatepass")
    at = int(change[0] * len(body))
    agree(RootRecords() if around == "%s" else DATA, body[:at] + change[2] + body[at + change[1] :], window)


CELL = st.text(st.sampled_from('a,"\r\n\u20ac'), max_size=4)


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(CELL, CELL), max_size=6),
    quoting=st.booleans(),
    end=st.sampled_from(["", "\n", "\n\n\n", "\r\n"]),
    window=st.integers(1, 12),
)
def test_rows_are_read_the_same_in_pieces_as_at_once(
    rows: list[tuple[str, str]], quoting: bool, end: str, window: int
) -> None:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if quoting else text

    body = "\n".join(["a,b", *(f"{cell(a)},{cell(b)}" for a, b in rows)]).encode() + end.encode()
    lines = b"\n".join(json.dumps(row).encode() for row in rows) + end.encode()
    for form, text in ((CsvFormat(), body), (CsvFormat(skip=1, names=["x", "y"]), body), (JsonlFormat(), lines)):
        assert outcome_of_text(form, Spool([text], window)) == outcome_of_text(form, text)
    form = CsvFormat(encoding="utf-16")
    wide = body.decode().encode("utf-16")
    assert outcome_of_text(form, Spool([wide], window)) == outcome_of_text(CsvFormat(), body)


def outcome_of_text(form: Format, body: bytes | Spool) -> object:
    try:
        return form.texts(body)
    except UnexpectedPage as error:
        return error.problem


def test_streamed_records_are_a_sequence() -> None:
    rows = [b'{"id":%d}' % n for n in range(50)]
    found = RootRecords().streamed(Spool([b"[%b]" % b",".join(rows)], 64))
    assert found is not None
    assert len(found.batches) > 5
    assert [bytes(record) for record in found] == rows
    assert (len(found), bytes(found[0]), bytes(found[-1]), bytes(found[17])) == (50, rows[0], rows[-1], rows[17])
    assert [bytes(record) for record in found[3:9]] == rows[3:9]
    for place in (50, -51):
        with pytest.raises(IndexError):
            found[place]
    assert not Streamed(b"", [])


def test_what_is_gathered_is_held_up_to_a_size() -> None:
    assert gathered([]) == b""
    assert gathered(iter([b"ab", b"c"])) == b"abc"
    large = gathered(b"x" * (1 << 20) for _ in range(9))
    assert isinstance(large, Spool)
    assert (large.size, whole(large)) == (9 << 20, b"x" * (9 << 20))


def test_a_body_with_much_around_its_records_is_held() -> None:
    text = b'"%b"' % (b"x" * (HELD + 1))
    for body in (b'{"data":[{"a":1}],"x":%b}' % text, b'{"x":%b,"data":[{"a":1}]}' % text):
        assert DATA.streamed(Spool([body])) is None
        assert outcome(lambda held=body: DATA.slices(held)) == [b'{"a":1}']  # type: ignore[misc]


def test_a_text_is_found_across_the_windows_of_a_body() -> None:
    spool = Spool([b"0123456789abcdef"], 4)
    assert all(spool.contains(text) for text in (b"0", b"34", b"3456789a", b"f"))
    assert not spool.contains(b"43")


ROW = b'{"id":%d,"name":"\xc3\xa4","o":{"list":[{"id":1},{"id":2}],"t":"},{"},"f":1.10}'
LARGE = [ROW % n for n in range(140_000)]


def large(around: bytes = b'{"meta":{"state":"done"},"data":[%b],"next":null}', rows: Iterable[bytes] = LARGE) -> bytes:
    return around % b",".join(rows)


@pytest.fixture(scope="module")
def body() -> bytes:
    return large()


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_large_body_arrives_in_a_file(transport: Transport, body: bytes, framing: str, encoding: str) -> None:
    assert len(body) > HELD
    with Hostile(lambda _: [framed(body, framing, encoding)]) as server:
        page = transport.send(Request(server.url))
    assert page.spool is not None
    assert page.body == body[: len(page.body)]
    assert page.whole() == body
    assert page.contains(b"139999")
    assert not page.contains(b"140000")


@pytest.mark.case("C3")
@pytest.mark.case("C4")
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_large_body_that_is_cut_is_no_page(transport: Transport, body: bytes, framing: str, encoding: str) -> None:
    with Hostile(lambda _: [framed(body, framing, encoding)[:-9]]) as server:
        if (framing, encoding) == ("close", "identity"):
            with pytest.raises(UnexpectedPage, match="not whole JSON"):
                DATA.streamed(transport.send(Request(server.url)).spool or Spool([]))
            return
        with pytest.raises(TransportError) as caught:
            transport.send(Request(server.url))
    assert caught.value.retriable


DECLARED = """
streams:
  rows:
    path: /
    records: data
    primary_keys: [id]
    include: {place: x}
    errors: [{when: {body: {path: meta.state, equals: pending}}, then: fail_stream}]
    paginator: {type: cursor, path: next, param: after}
"""


def answering(*bodies: bytes, headers: Sequence[str] = ()) -> Hostile:
    left = iter(bodies)
    return Hostile(lambda _: [response(next(left), headers=headers)])


def test_a_run_writes_a_large_page_byte_for_byte(tmp_path: Path, body: bytes) -> None:
    first = large(b'{"data":[%b],"next":"2"}')
    with answering(gzip.compress(first, 1), large(rows=[b'{"id":-1}']), headers=[]) as server:
        result = run(tmp_path, server, DECLARED)
    assert result.error is None
    records = [
        line.partition(b'"record":')[2].partition(b',"time_extracted"')[0] for line in record_lines(result.output)
    ]
    assert records == [b'{"place":"x",' + row[1:] for row in [*LARGE, b'{"id":-1}']]
    claim = result.claim("rows")
    assert (claim["status"], claim["evidence"]["pages"], claim["evidence"]["unique_keys"]) == ("complete", 2, 140_001)


def record_lines(output: bytes) -> list[bytes]:
    return [line for line in output.splitlines() if line.startswith(b'{"type":"RECORD"')]


RULED = DECLARED.replace("paginator: {type: cursor, path: next, param: after}", "").replace(
    "    include: {place: x}\n", ""
)


@pytest.mark.case("C1")
@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (b'{"meta":{"state":"done"},"data":[%b]}', "complete"),
        (b'{"meta":{"state":"pending"},"data":[%b]}', "partial"),
        (b'{"data":[%b],"meta":{"state":"pending"}}', "partial"),
        (b'{"meta":{"state":"pending"},"rows":[%b]}', "partial"),
    ],
    ids=["ok", "before", "behind", "elsewhere"],
)
def test_rules_look_around_the_records_of_a_large_page(tmp_path: Path, body: bytes, outcome: str) -> None:
    with answering(large(body)) as server:
        result = run(tmp_path, server, RULED)
    assert result.claim("rows")["status"] == outcome
    assert len(server.seen) == 1
    assert len(record_lines(result.output)) == (len(LARGE) if outcome == "complete" else 0)


def test_a_rule_may_look_for_a_text_in_the_records_of_a_large_page(tmp_path: Path, body: bytes) -> None:
    rule = """{when: {body: {path: nothing}}, then: ok}, {when: {contains: '"id":139999,'}, then: fail_stream}"""
    before, _, rest = RULED.partition("errors: [")
    with answering(body) as server:
        result = run(tmp_path, server, f"{before}errors: [{rule}{rest[rest.index(']') :]}")
    assert result.error is not None
    assert record_lines(result.output) == []


@pytest.mark.parametrize(
    "paginator", ["{type: keyset, field: id, param: after, inclusive: false, unique: true, page_size: 10}"]
)
def test_a_paginator_looks_at_the_records_of_a_large_page(tmp_path: Path, body: bytes, paginator: str) -> None:
    with answering(body, b'{"data":[]}') as server:
        result = run(tmp_path, server, f"{RULED}    paginator: {paginator}\n")
    assert result.error is None
    assert "after=139999" in server.seen[1]


def test_an_error_is_judged_by_what_it_says_however_large(transport: Transport, body: bytes) -> None:
    with Hostile(lambda _: [response(body, status="400 Bad Request")]) as server:
        page = transport.send(Request(server.url))
    assert (page.spool, page.at("meta.state")) == (None, "done")


def test_a_large_body_is_captured_whole(tmp_path: Path, transport: Transport, body: bytes) -> None:
    clock = CaptureClock()
    capture = Capture(transport, tmp_path, clock, Redactor())
    with Hostile(lambda _: [response(body)]) as server:
        page = capture.send(Request(server.url))
    capture.close()
    clock.close()
    (kept,) = tmp_path.rglob("*.json.gz")
    assert gzip.decompress(kept.read_bytes()) == page.whole() == body


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Files may have 4 MiB at most."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_disk")
def test_without_room_for_a_large_page_the_stream_fails_and_nothing_is_acknowledged(
    tmp_path: Path, body: bytes
) -> None:
    with answering(body, body) as server:
        result = run(tmp_path, server, DECLARED)
    assert len(server.seen) == 1
    assert record_lines(result.output) == []
    claim = result.claim("rows")
    assert (claim["status"], claim["evidence"]["records"]) == ("partial", 0)
    assert "a large answer can't be kept in" in claim["evidence"]["reason"]


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_is_told_with_its_place() -> None:
    with pytest.raises(SpoolFailed, match=r"can't be kept in .+: File too large: free space there, or set TMPDIR"):
        Spool([b"x" * (5 << 20)])


def test_a_fault_of_the_wire_is_not_taken_for_one_of_the_disk() -> None:
    def cut() -> Iterator[bytes]:
        yield b"x" * (HELD + 1)
        raise TimeoutError("total")

    with pytest.raises(TimeoutError):
        gathered(cut())


MEASURED = r"""
import re, sys
import singer_sdk
from tap_rest.engine.reading import read
from tap_rest.engine.transport import Transport
from tap_rest.formats.formats import CsvFormat, JsonFormat, JsonlFormat
from tap_rest.formats.records import PathRecords, RootRecords
from tap_rest.language.verdicts import judge
from tap_rest.request import Request

class Stream:
    errors, paginator = (), None
    format = {"json": JsonFormat, "jsonl": JsonlFormat, "csv": CsvFormat}[sys.argv[2]]()
    records = PathRecords(path="data") if sys.argv[2] == "json" else RootRecords()

page = Transport().send(Request(sys.argv[1]))
page, _ = read(page, Stream, judge(page, now=0.0), 0.0)
count = sum(len(batch) for batch in page.batches())
peak = re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())  # getrusage would tell the parent's as well
print(count, int(peak[1]) // 1024)
"""


@pytest.mark.parametrize(
    ("form", "encoding"), [("json", "identity"), ("json", "gzip"), ("jsonl", "identity"), ("csv", "gzip")]
)
def test_an_answer_of_200_mb_is_read_in_less_than_150_mib(form: str, encoding: str) -> None:
    row = b'7,"%b"' % (b"x" * 390) if form == "csv" else b'{"id":7,"name":"%b"}' % (b"x" * 380)
    joint = b"," if form == "json" else b"\n"
    block = joint.join([row] * 5000)
    head, tail = {"json": (b'{"data":[', b"]}"), "jsonl": (b"", b"\n"), "csv": (b"a,b\n", b"\n")}[form]

    def answer(_: str) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
        yield b"Content-Encoding: gzip\r\n\r\n" if encoding == "gzip" else b"\r\n"
        for piece in (head, *[block + joint] * 99, block, tail):
            yield gzip.compress(piece, 1) if encoding == "gzip" else piece

    with Hostile(answer) as server:
        found = subprocess.run(
            [sys.executable, "-c", MEASURED, server.url, form], check=True, capture_output=True, text=True
        ).stdout.split()
    assert int(found[0]) == 500_000
    assert int(found[1]) < 150


@pytest.mark.parametrize(("records", "path"), [("$", "1.id"), ("data", "data.1.id")])
@pytest.mark.parametrize("width", [1, HELD // 2 + 1], ids=["held", "in a file"])
def test_a_cursor_may_stand_in_a_record(tmp_path: Path, records: str, path: str, width: int) -> None:
    def api(_: str, params: dict[str, str]) -> Any:
        after = int(params.get("after", 0))
        found = [{"id": number, "text": "x" * width} for number in range(after + 1, min(after + 3, 6))]
        return found if records == "$" else {"data": found}

    declaration = f"""
    streams: {{rows: {{path: /rows, records: "{records}", paginator: {{type: cursor, path: {path}, param: after}}}}}}
    """
    with json_api(api) as server:
        assert ids(run(tmp_path, server, declaration)) == [1, 2, 3, 4, 5]
