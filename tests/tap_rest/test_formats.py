"""Bodies that are not one JSON text: what comes out of each format, and what none of them takes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tap_rest.harness import json_api, run
from tests.tap_rest.hostile import response
from tests.tap_rest.odd_json import ODD, is_record, on_one_line
from tests.tap_rest.pages import zipped

from tap_rest.errors import UnexpectedPage
from tap_rest.formats.formats import CsvFormat, Format, JsonFormat, JsonlFormat, XmlFormat
from tap_rest.formats.inflate import Caps, unpacked
from tap_rest.formats.json_text import BOM
from tap_rest.formats.records import PathRecords, RootRecords
from tap_rest.formats.spool import whole


def text(form: Format, body: bytes) -> bytes:
    (found,) = form.texts(body)
    assert isinstance(found, bytes)
    return found


def value(form: Format, body: bytes) -> Any:
    return json.loads(text(form, body))


def records(form: Format, body: bytes) -> list[bytes]:
    return [bytes(record) for record in RootRecords().slices(text(form, body))]


LINES = [b'{"a":1.10,"a":2}', b'{"a":"\\ud800"}', b'{"a":"\xe2\x80\xa8"}']


@pytest.mark.case("C7")
@pytest.mark.case("C8")
@pytest.mark.case("C9")
@pytest.mark.parametrize("name", [name for name, record in ODD.items() if b"\n" not in record and record.strip()])
def test_an_odd_line_is_kept_byte_for_byte_or_refused_with_its_number(name: str) -> None:
    body = b"\xef\xbb\xbf{}\r\n" + ODD[name] + b'\n\n{"x":1}'
    if is_record(ODD[name]):
        assert records(JsonlFormat(), body) == [b"{}", on_one_line(ODD[name]), b'{"x":1}']
        return
    with pytest.raises(UnexpectedPage, match=r"line 2: .+|is not UTF-8"):
        records(JsonlFormat(), body)


@pytest.mark.case("C2")
@pytest.mark.parametrize("last", LINES)
@pytest.mark.case("trap:4.4")
def test_a_torn_last_line_is_an_error(last: bytes) -> None:
    for end in range(1, len(last)):
        with pytest.raises(UnexpectedPage):
            JsonlFormat().texts(LINES[0] + b"\n" + last[:end])


def test_two_broken_lines_do_not_make_a_whole_one() -> None:
    with pytest.raises(UnexpectedPage, match="line 1: the body is not whole JSON"):
        JsonlFormat().texts(b'{"a":1\n"b":2}\n')
    with pytest.raises(UnexpectedPage, match="line 2"):
        JsonlFormat().texts(b'{"a":1}\n{"b":1},{"b":2}\n')


@pytest.mark.case("trap:4.9")
def test_documents_follow_each_other_in_any_layout() -> None:
    form = JsonlFormat(one_per_line=False)
    body = b'{"a":\n1.10}{"a":NaN}\x1e{"a":"\\ud800"}\n\n{"a":%s}' % (b"1" * 5000)
    assert records(form, body)[:3] == [b'{"a":1.10}', b'{"a":NaN}', b'{"a":"\\ud800"}']
    assert text(form, body).endswith(b'{"a":%s}]' % (b"1" * 5000))
    pages = PathRecords(path="*.items")
    assert len(pages.slices(text(form, b'{"items":[{},{}]}{"items":[{}]}'))) == 3
    for wrong in (b'{"a":1}{"a"', b'{"a":1}]', b"x", b"[" * 9999 + b"]" * 9999):
        with pytest.raises(UnexpectedPage, match="is not whole JSON"):
            form.texts(wrong)


def test_nothing_is_no_records_only_where_it_is_declared() -> None:
    assert records(JsonlFormat(empty_ok=True), b"\n") == records(CsvFormat(empty_ok=True), b"") == []


@pytest.mark.case("C7")
def test_another_encoding_is_taken_where_it_is_declared() -> None:
    body = '{"a":"ä\u2028"}'
    assert text(JsonFormat(encoding="utf-16"), body.encode("utf-16")) == body.encode()
    assert (
        text(JsonFormat(encoding="utf-16-le"), ("\ufeff" + body).encode("utf-16-le")).removeprefix(BOM) == body.encode()
    )
    assert value(CsvFormat(encoding="cp1252"), "a\n€".encode("cp1252")) == [{"a": "€"}]
    with pytest.raises(UnexpectedPage, match="is not cp1252"):
        CsvFormat(encoding="cp1252").texts(b"a\n\x81")
    for wrong in ("utf-9", "base64", "idna"):
        with pytest.raises(ValueError, match="is not a"):
            JsonFormat(encoding=wrong)


@pytest.mark.parametrize(
    ("form", "body", "rows"),
    [
        (CsvFormat(delimiter="\t", quote=""), b'a\tb\n"1\t2"\n', [{"a": '"1', "b": '2"'}]),
        (CsvFormat(delimiter=";", quote="'"), b"a;b\n'1;2';3", [{"a": "1;2", "b": "3"}]),
        (CsvFormat(skip=2), b"made\rat noon\r\na\r\n1\r\n", [{"a": "1"}]),
        (CsvFormat(names=["x", "y"]), b"1,2\n3,4\n\n\n", [{"x": "1", "y": "2"}, {"x": "3", "y": "4"}]),
        (CsvFormat(null="\\N"), b"a,b\n\\N,\n", [{"a": None, "b": ""}]),
        (CsvFormat(null=""), b"a,b\n007,\n", [{"a": "007", "b": None}]),
        (CsvFormat(), b"\xef\xbb\xbfa,b\n", []),
        (CsvFormat(), b"a\n" + b"x" * 300_000, [{"a": "x" * 300_000}]),
    ],
    ids=range(8),
)
def test_csv_is_read_in_its_dialect_and_values_stay_text(form: Format, body: bytes, rows: list[Any]) -> None:
    assert value(form, body) == rows


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"a,a\n1,2\n", "a names two columns"),
        (b"a,\n1,2\n", "has no name"),
        (b"a,b\n1\n", "row 0 has 1 values for 2 columns"),
        (b"a,b\n1,2,3\n", "row 0 has 3 values for 2 columns"),
        (b"a\n1\n\n2\n", "row 1 has 0 values"),
        (b'a,b\n1,"2', "is not whole CSV: line 2"),
        (b'a,b\n1,"2"x\n', "is not whole CSV"),
        (b'{"error": "no", "code":1}\n', "no row with the columns' names"),
        (b"Too many requests.\n", "is one line without a ',': Too many requests"),
        (b"Too many requests, sorry\n1,2", "there is no column a"),
        (b"<html>\n<body>\nlog in, please", "no row with"),
    ],
)
def test_csv_that_is_not_rectangular_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(UnexpectedPage, match=said):
        CsvFormat(required=["a"] if said == "there is no column a" else []).texts(body)


CELL = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)


@given(st.lists(st.tuples(CELL, CELL), max_size=5))
def test_every_text_survives_csv(rows: list[tuple[str, str]]) -> None:
    quoted = ['"' + '","'.join(cell.replace('"', '""') for cell in row) + '"\n' for row in rows]
    expected = [dict(zip("ab", row, strict=True)) for row in rows]
    assert value(CsvFormat(), ("a,b\n" + "".join(quoted)).encode()) == expected


FEED = """<?xml version="1.0"?><?x y?><!-- c -->
<feed xmlns="http://www.w3.org/2005/Atom" xmlns:m="urn:m"><title> T </title><link rel="next" href="?p=2&amp;q"/>
 <entry m:id="7"><id>1</id><c term="x"/><c term="y">z</c><m:n><![CDATA[<5>]]>&#228;</m:n><e/></entry>
 <entry><id>2</id><content type="xhtml">a <b>b</b> c</content></entry>
</feed>"""


def test_xml_is_read_whole() -> None:
    feed = value(XmlFormat(lists=["feed.entry", "feed.author", "feed.entry.c"]), FEED.encode())["feed"]
    assert feed == {
        "@xmlns": "http://www.w3.org/2005/Atom",
        "@xmlns:m": "urn:m",
        "title": " T ",
        "link": {"@rel": "next", "@href": "?p=2&q"},
        "entry": [
            {"@m:id": "7", "id": "1", "c": [{"@term": "x"}, {"@term": "y", "#text": "z"}], "m:n": "<5>ä", "e": ""},
            {"id": "2", "content": {"@type": "xhtml", "#xml": '<content type="xhtml">a <b>b</b> c</content>'}, "c": []},
        ],
        "author": [],
    }


def test_one_record_or_none_is_a_list_as_well() -> None:
    form, place = XmlFormat(lists=["rss.channel.item"]), PathRecords(path="rss.channel.item")
    found = [
        [bytes(record) for record in place.slices(text(form, b"<rss><channel>%b</channel></rss>" % items))]
        for items in (b"", b"<item><a>1</a></item>", b"<item><a>1</a></item><item><a>2</a></item>")
    ]
    assert found == [[], [b'{"a":"1"}'], [b'{"a":"1"}', b'{"a":"2"}']]
    with pytest.raises(UnexpectedPage, match="its members are error"):
        place.slices(text(form, b"<error>no</error>"))


@pytest.mark.parametrize("encoding", ["utf-16", "iso-8859-1", "windows-1252", "shift_jis"])
def test_xml_says_its_encoding_itself(encoding: str) -> None:
    word = "ソ" if encoding == "shift_jis" else "ä"
    body = f'<?xml version="1.0" encoding="{encoding}"?><a><b>{word}</b></a>'.encode(encoding)
    assert value(XmlFormat(), body) == {"a": {"b": word}}


BOMB = b'<!DOCTYPE a [<!ENTITY x "billion laughs">' + b"".join(
    b'<!ENTITY x%d "%b">' % (n, b"&x%d;" % (n - 1) * 10 if n else b"&x;" * 10) for n in range(9)
)


@pytest.mark.case("X12")
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (BOMB + b"]><a>&x8;</a>", "declares a DTD"),
        (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', "declares a DTD"),
        (b'<!DOCTYPE a SYSTEM "http://127.0.0.1:1/x.dtd"><a/>', "declares a DTD"),
        (b"<!DOCTYPE html><html><p>log in<br></html>", "declares a DTD"),
        (b"<a>&x;</a>", "undefined entity"),
        (b"<a>" * 100_000, "nested deeper"),
        (b'<a b="1" b="2"/>', "duplicate attribute"),
        (b'<?xml version="1.0" encoding="rot13"?><a/>', "not text in the encoding"),
        (b'<?xml version="1.0" encoding="ascii"?><a>\xe4</a>', "not text in the encoding ascii"),
        (b"<a/><b/>", "not whole XML"),
        (b"<a>\x00</a>", "not whole XML"),
    ],
    ids=range(11),
)
def test_xml_that_is_dangerous_or_broken_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(UnexpectedPage, match=said):
        XmlFormat().texts(body)


@pytest.mark.case("C2")
@pytest.mark.case("trap:4.4")
def test_xml_cut_anywhere_is_refused() -> None:
    for end in range(len(FEED) - 1):
        with pytest.raises(UnexpectedPage):
            XmlFormat().texts(FEED[:end].encode())


def test_the_files_of_a_zip_are_chosen_by_name() -> None:
    body = zipped({"readme.txt": b"hi", "b.json": b"[{}]", "a.json": b"[]"})
    assert JsonFormat(member="*.json").texts(body) == [b"[{}]", b"[]"]
    with pytest.raises(UnexpectedPage, match=r"no member \*\.csv: it has readme\.txt, b\.json, a\.json"):
        JsonFormat(member="*.csv").texts(body)
    with pytest.raises(UnexpectedPage, match="no member"):
        JsonFormat().texts(zipped({}))


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(b"0" * (40 << 20)),
        zipped({"a": b"0" * (40 << 20)}),
        zipped({str(n): b"0" * (1 << 20) for n in range(20)}),
        gzip.compress(gzip.compress(b"0" * (40 << 20))),
        zipped({str(n): gzip.compress(b"0" * (9 << 20)) for n in range(2)}),
    ],
    ids=["gzip", "zip", "many files", "gzip in gzip", "gzip in zip"],
)
def test_an_archive_that_inflates_too_far_is_given_up(body: bytes) -> None:
    with pytest.raises(UnexpectedPage, match="inflates to more than is taken"):
        unpacked(body)


def test_a_damaged_or_strange_archive_is_refused() -> None:
    body = zipped({"a": b"0123456789" * 10})
    flipped = body[:40] + bytes([body[40] ^ 1]) + body[41:]
    encrypted = body.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
    for wrong in (flipped, encrypted, gzip.compress(b"x") + b"junk", gzip.compress(b"x")[:-1] + b"!"):
        with pytest.raises(UnexpectedPage):
            unpacked(wrong)
    assert unpacked(gzip.compress(b"a") + gzip.compress(b"b")) == [b"ab"]
    assert unpacked(b"x" * 100, caps=Caps(inflated=10)) == [b"x" * 100]


DECLARED = """
streams:
  feed:
    path: /feed
    format: {type: xml, lists: [feed.entry]}
    records: feed.entry
    errors: [{when: {body: {path: error}}, then: fail_stream}]
    paginator: {type: next_url, path: feed.next}
  lines: {path: /lines, format: {type: jsonl}, records: $}
  sheet: {path: /sheet, format: {type: csv, member: "*.csv"}, records: $, headers: {Accept: text/tab}}
"""


def test_a_run_reads_every_format(tmp_path: Path) -> None:
    bodies = {
        "/feed": b"<feed><entry><a>1</a></entry><next>/feed2</next></feed>",
        "/feed2": b"<feed><entry><a>2</a></entry><entry><a>3</a></entry></feed>",
        "/lines": b'{"a":1.10}\n{"a":2}\n',
        "/sheet": zipped({"1.csv": b"a\n1\n", "2.csv": b"b\n2\n", "notes": b""}),
    }
    with json_api(lambda path, _: response(bodies[path])) as server:
        result = run(tmp_path, server, DECLARED)
    assert result.error is None
    assert result.records("feed") == [{"a": "1"}, {"a": "2"}, {"a": "3"}]
    assert result.records("sheet") == [{"a": "1"}, {"b": "2"}]
    assert b'"record":{"a":1.10}' in result.output
    asked = {request.split()[1]: request for request in server.seen}
    assert "Accept: application/xml" in asked["/feed"]
    assert "Accept: text/tab" in asked["/sheet"]
    hints = {
        message["stream"]: message["schema"].get("x-daykeep-composed")
        for message in result.messages
        if message["type"] == "SCHEMA"
    }
    assert hints == {"feed": True, "lines": None, "sheet": True}


@pytest.mark.case("C1")
def test_an_error_in_xml_is_found_by_its_path(tmp_path: Path) -> None:
    with json_api(lambda *_: response(b"<error>no</error>")) as server:
        result = run(tmp_path, server, DECLARED.partition("  lines:")[0])
    assert result.error is not None
    assert len(server.seen) == 1


@pytest.mark.case("C1")
@pytest.mark.parametrize("empty_ok", [True, False])
def test_an_empty_answer_is_complete_only_where_it_is_declared(tmp_path: Path, empty_ok: bool) -> None:
    text = f"streams: {{a: {{path: /a, records: $, format: {{type: jsonl, empty_ok: {empty_ok}}}}}}}"
    with json_api(lambda *_: response(b"")) as server:
        result = run(tmp_path, server, text)
    assert (result.error is None) == empty_ok
    assert result.claim("a")["status"] == ("complete" if empty_ok else "partial")


@pytest.mark.case("C8")
@pytest.mark.case("C9")
@pytest.mark.parametrize("keys", ["[]", "[a]"])
def test_every_odd_record_that_is_one_reaches_the_output_byte_for_byte(tmp_path: Path, keys: str) -> None:
    kept = [record for record in ODD.values() if is_record(record)]
    with json_api(lambda *_: response(b"[" + b",".join(kept) + b"]")) as server:
        result = run(tmp_path, server, f"streams: {{odd: {{path: /, records: $, primary_keys: {keys}}}}}")
    written = [line for line in result.output.split(b"\n") if line.startswith(b'{"type":"RECORD"')]
    assert result.error is None
    assert [line.partition(b'"record":')[2].rpartition(b',"time_ext')[0] for line in written] == [
        on_one_line(record) for record in kept
    ]


REFUSED = {
    "latin": (b'[{"a":1},{"a":"\xe4"}]', "not UTF-8"),
    "surrogate": (b'[{"a":"\xed\xa0\x80"}]', "not UTF-8"),
    "utf16": ('[{"a":1}]'.encode("utf-16"), "UTF-16"),
    "twice": (b'{"data":[{"a":1}],"data":[{"a":2}]}', "data stands 2 times"),
    "broken": (b'[{"a":"x\ny"}]', "not whole JSON"),
    "zero": (b'[{"a":01}]', "not whole JSON"),
}


@pytest.mark.case("C7")
@pytest.mark.case("C9")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_kept_is_told_with_its_reason(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    body, reason = REFUSED[name]
    place = "data" if name == "twice" else "$"
    with json_api(lambda *_: response(body)) as server:
        result = run(tmp_path, server, f"streams: {{odd: {{path: /, records: {place}}}}}")
    assert reason in caplog.text
    assert result.records() == []
    assert result.claim("odd")["status"] == "partial"


@pytest.mark.case("C1")
def test_a_text_in_the_place_of_a_list_is_kept_and_no_empty_list() -> None:
    form = XmlFormat(lists=["rss.channel.item"])
    (body,) = form.texts(b"<rss><channel>Quota exceeded</channel></rss>")
    assert json.loads(whole(body)) == {"rss": {"channel": "Quota exceeded"}}
