"""Faults of the wire against whole runs: every answer that differs from a whole one is asked again or told.

The oracle knows what the server holds. A run that calls itself complete has written exactly that; any other run says
why, has written whole pages only, claims nothing complete and has not moved its bookmark.

What no reader can know: a body whose end is neither announced (Content-Length, chunks), nor in its compression, nor in
its format. JSON and XML say their end; JSON lines and CSV do not. Where such a body is cut between two lines (and CSV
also inside a row's last value), or a server announces the rest away, it is a whole one. `UNKNOWABLE` names exactly
these cases; the tests below it show what makes them known: compression, a framing, or a paginator that goes on by what
came.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from tests.tap_rest.harness import Run, run
from tests.tap_rest.hostile import ENCODINGS, Hostile, chunked, head, response

from tap_rest.errors import TapError

PAGES, ROWS, FOR_EVER = 3, 4, 1 << 40
BOOKMARK = {"replication_key": "t", "replication_key_value": "2023-01-01T00:00:00Z"}


def rows(page: int) -> list[dict[str, Any]]:
    numbers = range(page * ROWS, page * ROWS + ROWS)
    return [{"id": n, "t": f"2024-01-01T00:00:{n:02}Z", "text": f'ü, "{n}" \\ & <b>, some words'} for n in numbers]


HELD = [row for page in range(PAGES) for row in rows(page)]
TEXTS = [{**row, "id": str(row["id"])} for row in HELD]


@dataclass(frozen=True)
class Kind:
    """A format with a way to page, and where in the body of a page it can be cut.

    Attributes:
        declaration: Of the stream, below its path and keys.
        body: Of a page, from its records and the number of the next page.
        held: The records, as they are written.
        link: Whether the next page is named in a header.
    """

    declaration: str
    body: Callable[[list[dict[str, Any]], int | None], bytes]
    held: Sequence[dict[str, Any]] = field(default_factory=lambda: HELD)
    link: bool = False

    def page(self, number: int) -> bytes:
        return self.body(rows(number) if number < PAGES else [], number + 1 if number + 1 < PAGES else None)

    def headers(self, number: int) -> list[str]:
        return [f'Link: </rows?page={number + 1}>; rel="next"'] if self.link and number + 1 < PAGES else []


def text(value: Any, **options: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, **options).encode()


def as_csv(found: list[dict[str, Any]], _: int | None) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, ["text", "t", "id"])
    writer.writeheader()
    writer.writerows(found)
    return out.getvalue().encode()


def as_xml(found: list[dict[str, Any]], following: int | None) -> bytes:
    entries = "".join(
        "<row>" + "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in row.items()) + "</row>"
        for row in found
    )
    return f"<feed><next>{following or ''}</next>{entries}</feed>".encode()


LINKED = "paginator: {type: link_header}"
KINDS = {
    "list": Kind(
        "records: $, paginator: {type: page_number, start: 0}",
        lambda found, _: text(found, separators=(",", ":")),
    ),
    "object": Kind(
        "records: data.items, paginator: {type: cursor, path: next, param: page, has_more: more}",
        lambda found, following: text({"next": following, "more": following is not None, "data": {"items": found}}),
    ),
    "pretty": Kind(
        "records: items, paginator: {type: next_url, path: links.next, total: total}",
        lambda found, following: text(
            {
                "items": found,
                "total": len(HELD),
                "links": {"next": None if following is None else f"/rows?page={following}"},
            },
            indent=2,
        ),
    ),
    "jsonl": Kind(
        f"records: $, format: {{type: jsonl}}, {LINKED}",
        lambda found, _: b"".join(text(row) + b"\n" for row in found),
        link=True,
    ),
    "csv": Kind(f"records: $, format: {{type: csv, required: [id]}}, {LINKED}", as_csv, TEXTS, link=True),
    "xml": Kind(
        "records: feed.row, format: {type: xml, lists: [feed.row]},"
        "paginator: {type: cursor, path: feed.next, param: page}",
        as_xml,
        TEXTS,
    ),
}


def declaration(kind: Kind, more: str = "") -> str:
    keys = "primary_keys: [id], replication: {key: t, param: since}"
    return f"limits: [{{quota: 100000/s}}]\n{more}streams: {{rows: {{path: /rows, {keys}, {kind.declaration}}}}}\n"


# --- the faults -------------------------------------------------------------------------------------------------------

CUTS = ("first byte", "inside a record", "between records", "last byte")
Spoil = Callable[[bytes, int], bytes]
"""From an encoded body and the place of a cut in it to what is sent below the head."""

FRAMINGS: dict[str, tuple[Callable[[bytes, int], list[str]], Spoil]] = {
    "length too long": (lambda body, _: [f"Content-Length: {len(body)}"], lambda body, cut: body[:cut]),
    "length too short": (lambda _, cut: [f"Content-Length: {cut}"], lambda body, _: body),
    "length of what is cut": (lambda _, cut: [f"Content-Length: {cut}"], lambda body, cut: body[:cut]),
    "close": (lambda *_: [], lambda body, cut: body[:cut]),
    "length below zero": (lambda *_: ["Content-Length: -1"], lambda body, cut: body[:cut]),
    "length that is no number": (lambda body, _: [f"Content-Length: {len(body)}x"], lambda body, cut: body[:cut]),
    "chunked, cut in data": (
        lambda *_: ["Transfer-Encoding: chunked"],
        lambda body, cut: chunked([body])[: len(f"{len(body):x}") + 2 + cut],
    ),
    "chunked, cut after a chunk": (
        lambda *_: ["Transfer-Encoding: chunked"],
        lambda body, cut: chunked([body[:cut]]),
    ),
    "chunked, cut in a size": (
        lambda *_: ["Transfer-Encoding: chunked"],
        lambda body, cut: chunked([body[:cut]]) + f"{len(body):x}".encode()[:1],
    ),
    "chunked, cut in a size with zeroes": (
        lambda *_: ["Transfer-Encoding: chunked"],
        lambda body, cut: chunked([body[:cut]], width=8) + b"00",
    ),
}


def damaged(body: bytes, encoding: str) -> dict[str, tuple[list[str], bytes]]:
    """Answers that are no cut: the lines of the head and what is sent below it."""
    sized = [f"Content-Length: {len(body)}"]
    found = {
        "chunked, without end": (["Transfer-Encoding: chunked"], chunked([body])),
        "chunked, bad size": (["Transfer-Encoding: chunked"], b"zz\r\n" + body + b"\r\n0\r\n\r\n"),
        "chunked, and more": (["Transfer-Encoding: chunked"], chunked([body]) + b"0\r\n\r\nmore"),
        "length and an answer more": (sized, body + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"),
        "not HTTP": (["\r\n"], b""),
    }
    if encoding != "identity":
        junk = body + b"junk"
        found["junk behind the end"] = ([f"Content-Length: {len(junk)}"], junk)
        found["bad checksum"] = (sized, body[:-6] + b"\0\0\0\0\0\0")
        flipped = bytes([*body[: len(body) // 2], body[len(body) // 2] ^ 0x55, *body[len(body) // 2 + 1 :]])
        found["a bit flipped"] = (sized, flipped)
        found["not compressed"] = (["Content-Length: 2"], b"[]")
        twice = ENCODINGS[encoding](body)
        found["compressed twice and cut"] = ([f"Content-Length: {len(twice) - 3}"], twice[:-3])
    return found


@dataclass(frozen=True)
class Case:
    kind: str
    encoding: str
    fault: str
    cut: str = ""

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.kind, self.encoding, self.fault, self.cut)))

    def answer(self, number: int) -> bytes:
        kind = KINDS[self.kind]
        body = ENCODINGS[self.encoding](kind.page(number))
        if self.fault in FRAMINGS:
            announced, spoil = FRAMINGS[self.fault]
            cut = self._place(kind.page(number), len(body))
            lines, sent = announced(body, cut), spoil(body, cut)
        else:
            lines, sent = damaged(body, self.encoding)[self.fault]
        return head(*lines, *kind.headers(number), encoding=self.encoding) + sent

    def _place(self, plain: bytes, size: int) -> int:
        if self.encoding != "identity":
            return {"first byte": 1, "inside a record": size // 3, "between records": size // 2}.get(self.cut, size - 1)
        third = plain.index(rows(0)[2]["t"][:17].encode())
        marks = [place for n in range(99) if (place := plain.find(f":{n:02}Z".encode())) >= 0]
        second = sorted(marks)[2]
        start = max(plain.rfind(sign, 0, second) for sign in (b"\n", b"{", b"<row>"))
        if self.kind == "xml":
            start = plain.rfind(b"<row>", 0, second)
        elif self.kind in ("jsonl", "csv"):
            start = plain.rfind(b"\n", 0, second) + 1
        places = {"first byte": 1, "inside a record": max(third, start + 5), "between records": start}
        return places.get(self.cut, len(plain) - 1)


def cases() -> Iterator[Case]:
    for kind in KINDS:
        for encoding in ENCODINGS:
            for fault in [*FRAMINGS][:: 2 if encoding == "deflate" else 1]:
                yield from (Case(kind, encoding, fault, cut) for cut in CUTS)
            yield from (Case(kind, encoding, fault) for fault in damaged(b"x" * 99, encoding))


CASES = list(cases())
UNKNOWABLE = {
    Case(kind, "identity", fault, "between records")
    for kind in ("jsonl", "csv")
    for fault in ("length of what is cut", "close")
}
"""Cut so that what is left is a whole body: no reader of it can know better."""

COUNTS: Counter[str] = Counter()


def served(kind: Kind, spoilt: int, answer: Callable[[int], bytes], times: int) -> Hostile:
    """A server of the pages; that of number `spoilt` is answered by `answer` so many times first."""
    left = times

    def pages(request: str) -> list[bytes]:
        nonlocal left
        number = int(request.split()[1].partition("page=")[2].partition("&")[0] or 0)
        if number == spoilt and left:
            left -= 1
            return [answer(number)]
        return [response(kind.page(number), headers=kind.headers(number))]

    return Hostile(pages)


def verdict(result: Run, held: Sequence[dict[str, Any]]) -> str:
    """`exact` or `told`; fails where a run is neither."""
    came = result.records()
    claims = result.states[-1].get("claims", {}).get("rows", [])
    if result.error is None:
        assert came == held
        assert [claim["status"] for claim in claims] == ["complete"]
        return "exact"
    assert isinstance(result.error, TapError)
    assert [claim["status"] for claim in claims] in ([], ["partial"])
    assert all(claim["evidence"]["reason"] for claim in claims)
    assert str(result.error)
    entry = result.states[-1]["bookmarks"]["rows"]
    assert {name: entry[name] for name in BOOKMARK} == BOOKMARK
    assert len(came) % ROWS == 0
    assert came == held[: len(came)]
    return "told"


def always(answer: bytes) -> Callable[[int], bytes]:
    return lambda _: answer


def next_of(answers: Iterator[bytes], _: str) -> list[bytes]:
    return [next(answers)]


def outcome(folder: Path, name: str, spoilt: int, answer: Callable[[int], bytes], times: int) -> str:
    kind = KINDS[name]
    with served(kind, spoilt, answer, times) as server:
        return verdict(run(folder, server, declaration(kind), state={"bookmarks": {"rows": BOOKMARK}}), kind.held)


@pytest.mark.case("C2")
@pytest.mark.case("C3")
@pytest.mark.case("C4")
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_fault_of_the_wire_makes_a_page_short_in_silence(
    tmp_path: Path, kind: str, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each fault comes once, on one of the pages, and all is written; every fifth one stays, and the run says so."""
    caplog.set_level(logging.CRITICAL)
    failed = []
    for number, case in enumerate(case for case in CASES if (case.kind, case.encoding) == (kind, encoding)):
        if case in UNKNOWABLE:
            continue
        try:
            found = outcome(tmp_path, kind, number % PAGES, case.answer, 1)
            assert found == "exact"
            COUNTS[f"a fault, once: {found}"] += 1
            if number % 5 == 0:
                COUNTS[f"a fault, for ever: {outcome(tmp_path, kind, number % PAGES, case.answer, FOR_EVER)}"] += 1
        except AssertionError as error:
            failed.append(f"{case} on page {number % PAGES}: {error}")
    assert not failed, "\n".join(failed)


@pytest.mark.case("C3")
def test_a_head_cut_anywhere_is_no_answer(tmp_path: Path) -> None:
    """Where an empty body is allowed, a head that ends too early would be an empty last page."""
    form = "records: $, format: {type: jsonl, empty_ok: true}, paginator: {type: link_header}"
    whole = response(text({"id": 1}) + b"\n", headers=['Link: </rows?page=1>; rel="next"'])
    last = response(text({"id": 2}) + b"\n")
    for cut in range(whole.index(b"\r\n\r\n") + 3):
        answers = iter([whole[:cut], whole, last])
        with Hostile(partial(next_of, answers)) as server:
            result = run(tmp_path, server, f"streams: {{rows: {{path: /rows, primary_keys: [id], {form}}}}}")
        assert result.records() == [{"id": 1}, {"id": 2}], whole[:cut]


@pytest.mark.case("C4")
@pytest.mark.parametrize("kind", ["list", "jsonl", "csv"])
def test_what_is_left_of_a_connection_is_never_the_answer_to_the_next_request(tmp_path: Path, kind: str) -> None:
    """A kept connection on which an answer is followed by another that nobody asked for, empty and complete."""
    found = KINDS[kind]
    forged = response(found.body([], None)).replace(b"Connection: close\r\n", b"")

    def pages(request: str) -> list[bytes]:
        number = int(request.split()[1].partition("page=")[2].partition("&")[0] or 0)
        whole = response(found.page(number), headers=found.headers(number)).replace(b"Connection: close\r\n", b"")
        return [whole + forged if len(server.seen) in (1, 3) else whole]

    with Hostile(pages, keep_alive=True) as server:
        result = run(tmp_path, server, declaration(found), state={"bookmarks": {"rows": BOOKMARK}})
    assert verdict(result, found.held) == "exact"
    assert result.engine.summary.retries == 2


# --- whole answers that are no pages ----------------------------------------------------------------------------------

ACCEPTED = (200, 201, 202, 203, 206)
STATUSES = (204, 205, 207, 226, 299, 300, 301, 302, 304, 305, 308, *range(400, 419), 421, 422, 423, 425, 426, 428, 429)
STATUSES += (431, 451, *range(500, 509), 511, 520, 522, 525, 530, 598, 599, 600, 999)

OTHERS: dict[str, bytes] = {
    "nothing": b"",
    "blanks": b" \r\n\t",
    "a byte order mark": b"\xef\xbb\xbf",
    "null": b"null",
    "an empty text": b'""',
    "a text": b'"OK"',
    "a word": b"OK",
    "a number": b"0",
    "a sentence": b"Service temporarily unavailable, try again later",
    "an empty object": b"{}",
    "an error": b'{"error":{"code":"busy","message":"try again, later"}}',
    "errors and no data": b'{"errors":[{"message":"timeout"}],"data":null}',
    "a list of lists": b"[[1],[2]]",
    "rows that are null": b'{"items":null,"data":{"items":null},"next":null,"more":false,"links":{"next":null}}',
    "a log-in page": b"<!DOCTYPE html><html><body>Log in</body></html>",
    "a wall": b"\n<html><head><title>Just a moment...</title></head></html>",
    "an error in XML": b"<?xml version='1.0'?><error><message>busy</message></error>",
    "XML of nothing": b"<feed><next></next></feed><feed/>",
    "half a character": b"\xc3",
    "zeroes": b"\0" * 64,
    "an image": b"\x89PNG\r\n\x1a\n" + b"\0" * 32,
    "an archive cut": gzip.compress(b"[]" * 99)[:-9],
}
RECORDS_TOO = {("jsonl", "an empty object"), ("jsonl", "an error"), ("jsonl", "errors and no data")} | {
    ("jsonl", "rows that are null")
}
"""A JSON object is a JSON line; only an error rule can say that it is none (see below)."""


@pytest.mark.case("C1")
@pytest.mark.case("R002-28")
@pytest.mark.parametrize("kind", KINDS)
def test_a_success_that_holds_something_else_is_asked_again_or_told(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    failed = []
    for number, (name, body) in enumerate(OTHERS.items()):
        if (kind, name) in RECORDS_TOO:
            continue
        for times in (1, FOR_EVER):
            try:
                found = outcome(tmp_path, kind, number % PAGES, always(response(body)), times)
                assert found == ("exact" if times == 1 else "told")
                COUNTS[f"another body, {'once' if times == 1 else 'for ever'}: {found}"] += 1
            except AssertionError as error:
                failed.append(f"{name} on page {number % PAGES}, {times} times: {error}")
    assert not failed, "\n".join(failed)


@pytest.mark.case("C1")
@pytest.mark.parametrize(
    ("name", "when"),
    [
        ("an error", "{body: {path: error}}"),
        ("errors and no data", "{body: {path: errors}}"),
        ("rows that are null", "{body: {path: items, exists: true}}"),
        ("an empty object", '{contains: "{}"}'),
    ],
)
def test_a_json_line_that_is_an_error_is_found_by_a_rule(tmp_path: Path, name: str, when: str) -> None:
    kind = KINDS["jsonl"]
    rules = f"errors: [{{when: {when}, then: retry}}]\n"
    with served(kind, 1, always(response(OTHERS[name])), 1) as server:
        result = run(tmp_path, server, declaration(kind, rules), state={"bookmarks": {"rows": BOOKMARK}})
    assert verdict(result, kind.held) == "exact"


@pytest.mark.case("R001-7")
@pytest.mark.parametrize("kind", ["object", "jsonl", "csv"])
def test_no_other_status_makes_a_page_whatever_its_body(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The body is a whole page that says it is the last, so that believing it would end the stream in silence."""
    caplog.set_level(logging.CRITICAL)
    body = KINDS[kind].body(rows(1), None)
    failed = []
    for status in STATUSES:
        for times in (1, FOR_EVER):
            try:
                found = outcome(tmp_path, kind, 1, always(response(body, status=f"{status} Odd")), times)
                assert found == "told" or times == 1
                COUNTS[f"another status, {'once' if times == 1 else 'for ever'}: {found}"] += 1
            except AssertionError as error:
                failed.append(f"{status}, {times} times: {error}")
    for status in ACCEPTED:
        found = outcome(tmp_path, kind, 1, partial(whole, kind, f"{status} Fine"), FOR_EVER)
        assert found == "exact", status
    assert not failed, "\n".join(failed)


def whole(kind: str, status: str, number: int) -> bytes:
    return response(KINDS[kind].page(number), status=status, headers=KINDS[kind].headers(number))


@pytest.mark.case("C2")
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_part_that_nobody_asked_for_is_no_page(tmp_path: Path, kind: str) -> None:
    """206 with two rows of four, each of them whole; and the same status where it is the whole."""

    def part(number: int, *, complete: bool) -> bytes:
        found = KINDS[kind]
        body = found.page(number) if complete else found.body(rows(number)[:2], None)
        span = f"Content-Range: bytes 0-{len(body) - 1}/{len(found.page(number))}"
        return response(body, status="206 Partial Content", headers=[span, *found.headers(number)])

    assert outcome(tmp_path, kind, 1, lambda n: part(n, complete=False), 1) == "exact"
    assert outcome(tmp_path, kind, 1, lambda n: part(n, complete=False), FOR_EVER) == "told"
    assert outcome(tmp_path, kind, 1, lambda n: part(n, complete=True), FOR_EVER) == "exact"


# --- what can not be known, and what makes it known -------------------------------------------------------------------


def cut_between(kind: str, *, encoding: str = "identity", framing: str = "close") -> Callable[[int], bytes]:
    return Case(kind, encoding, framing, "between records").answer


@pytest.mark.case("C2")
@pytest.mark.parametrize("case", sorted(UNKNOWABLE, key=str), ids=str)
def test_a_cut_that_leaves_a_whole_body_can_not_be_seen(tmp_path: Path, case: Case) -> None:
    """The price of these formats without a framing. What did come stays exact, and the next pages are read."""
    kind = KINDS[case.kind]
    with served(kind, 1, case.answer, 1) as server:
        result = run(tmp_path, server, declaration(kind))
    assert result.error is None
    assert result.records() == [row for row in kind.held if int(row["id"]) not in (6, 7)]


@pytest.mark.case("C2")
def test_a_cut_inside_the_last_value_of_a_csv_row_can_not_be_seen(tmp_path: Path) -> None:
    kind = KINDS["csv"]
    body = kind.page(2).removesuffix(b"1\r\n")
    with served(kind, 2, always(head() + body), 1) as server:
        result = run(tmp_path, server, declaration(kind))
    assert (result.error, result.records()[:-1], result.records()[-1]["id"]) == (None, TEXTS[:-1], "1")


@pytest.mark.case("C2")
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize(
    ("encoding", "framing"),
    [("gzip", "close"), ("deflate", "close"), ("identity", "chunked, cut in data"), ("identity", "length too long")],
)
def test_compression_or_a_framing_makes_it_known(tmp_path: Path, kind: str, encoding: str, framing: str) -> None:
    assert outcome(tmp_path, kind, 1, cut_between(kind, encoding=encoding, framing=framing), 1) == "exact"


@pytest.mark.case("C2")
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_an_offset_that_counts_what_came_heals_it(tmp_path: Path, kind: str) -> None:
    """The next request begins where the cut page ended, so each row comes all the same."""
    found = KINDS[kind]
    form = found.declaration.replace("paginator: {type: link_header}", "paginator: {type: offset, page_size: 4}")
    form = form.replace("type: jsonl", "type: jsonl, empty_ok: true")

    def answer(request: str) -> list[bytes]:
        start = int(request.partition("offset=")[2].partition("&")[0].split()[0])
        body = found.body(HELD[start : start + 4], None)
        if len(server.seen) == 2:
            body = body[: body.index(HELD[start + 2]["t"].encode())]
            return [head(), body[: body.rindex(b"\n") + 1]]
        return [response(body)]

    with Hostile(answer) as server:
        result = run(tmp_path, server, f"streams: {{rows: {{path: /rows, primary_keys: [id], {form}}}}}")
    assert (result.error, result.records()) == (None, found.held)


def test_the_matrix_has_the_size_that_it_should(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(CASES) >= 600
    assert len(STATUSES) * 3 + len(OTHERS) * len(KINDS) >= 250
    with capsys.disabled():
        for name, count in sorted(COUNTS.items()):
            print(f"\n{name}: {count}", end="")
