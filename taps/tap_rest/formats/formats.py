"""Formats: from the body of an answer to JSON text, in which records are then found and next pages looked up.

JSON in UTF-8 stays as it came, and JSON lines are only put into brackets: their records are the API's own bytes. What
CSV and XML say has to be composed; no text in it is guessed to be a number or anything else. A body that is gzip or zip
by its first bytes is unpacked before, whatever the format; the files of a zip are read one after another.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from io import StringIO
from itertools import chain, islice
from typing import Annotated, ClassVar

import msgspec

from tap_rest.component import Component
from tap_rest.errors import UnexpectedPage
from tap_rest.formats.inflate import unpacked
from tap_rest.formats.json_text import BOM, check_utf8, check_whole
from tap_rest.formats.spool import Body, gathered, pieces, whole, whole_lines
from tap_rest.formats.xml_text import as_json

csv.field_size_limit(1 << 30)  # of the process; a field is in memory already, and its 128 KiB would refuse whole files

ROWS = 1000
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
_BEGINNING = re.compile(r"[^ \t\r\n\x1e]")  # 0x1e opens each text of a JSON sequence (RFC 7464)


class FormatKind(Component, frozen=True, kw_only=True):
    """What every format can do.

    Attributes:
        member: Which files of a zip are read, as a pattern of their names: `*.csv`.
    """

    accept: ClassVar[str] = ""
    """What the request asks for where the declaration has no Accept header of its own."""
    composes: ClassVar[bool] = False
    """Whether a record is an object that the API itself does not have."""

    member: str = "*"

    @property
    def takes_nothing(self) -> bool:
        """Whether an empty body is one of this format."""
        return False

    def texts(self, body: Body) -> list[Body]:
        """The body as JSON text, one for each file where it is an archive of several.

        Raises UnexpectedPage where it is cut, damaged or not of this format, SpoolFailed where there is no room for it.
        """
        return [self._json(file) for file in unpacked(body, self.member)]

    @abstractmethod
    def _json(self, body: Body) -> Body:
        """One file as JSON text."""


class TextFormat(FormatKind, frozen=True, kw_only=True):
    """A format that does not say itself how its text is encoded.

    Attributes:
        encoding: Of the body, as Python names it: `utf-16`, `cp1252`; what does not fit it is refused, never replaced.
    """

    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        try:
            known = codecs.lookup(self.encoding)
            "".encode(self.encoding)
        except LookupError:
            raise ValueError(f"`{self.encoding}` is not a known encoding of text") from None
        if known.name in ("idna", "punycode", "unicode_escape", "raw_unicode_escape", "utf-7", "undefined"):
            raise ValueError(f"`{self.encoding}` is not an encoding of whole texts")

    def _utf8(self, body: Body) -> Body:
        return body if codecs.lookup(self.encoding).name == "utf-8" else gathered(self._recoded(body))

    def _recoded(self, body: Body) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(self.encoding)()
        try:
            for piece in chain(pieces(body), [b""]):
                yield decoder.decode(piece, final=not piece).encode()
        except UnicodeError as error:
            raise UnexpectedPage(f"the body is not {self.encoding}: {error}") from None


class JsonFormat(TextFormat, tag="json", frozen=True, kw_only=True):
    """One JSON text; in UTF-8 it is taken as it came."""

    def _json(self, body: Body) -> Body:
        return self._utf8(body)


class RowsFormat(TextFormat, frozen=True, kw_only=True):
    """A format in which a body without records may be empty.

    Attributes:
        empty_ok: Whether an empty body means no records; otherwise it is an error.
    """

    empty_ok: bool = False

    @property
    def takes_nothing(self) -> bool:
        return self.empty_ok

    def _json(self, body: Body) -> Body:
        body = self._utf8(body)
        if any(piece.removeprefix(BOM).strip() for piece in pieces(body)):
            return gathered(_listed(self._rows(_checked(body))))
        if self.empty_ok:
            return b"[]"
        raise UnexpectedPage("the body is empty", hint="`empty_ok` takes that for no records")

    @abstractmethod
    def _rows(self, texts: Iterator[bytes]) -> Iterator[bytes]:
        """From the text, in pieces of whole lines, to runs of the elements of a list."""


class JsonlFormat(RowsFormat, tag="jsonl", frozen=True, kw_only=True):
    """Several JSON texts in one body, by default one on each line: they are the elements of a list, `records: $`.

    Attributes:
        one_per_line: Whether each stands on a line of its own; false where they follow each other in any layout.
    """

    accept: ClassVar[str] = "application/x-ndjson, application/jsonl, */*;q=0.5"

    one_per_line: bool = True

    def _rows(self, texts: Iterator[bytes]) -> Iterator[bytes]:
        return _lines(texts) if self.one_per_line else iter([b",".join(_documents(b"".join(texts)))])


class CsvFormat(RowsFormat, tag="csv", frozen=True, kw_only=True):
    r"""Comma-separated values, a list of objects: `records: $`. Every value stays the text that it is.

    A row with more or fewer values than there are columns is an error, and so is a name that stands twice.

    Attributes:
        delimiter: Between two values; `"\t"` for a tab.
        quote: Around values that hold a delimiter or a line break; empty: nothing is quoted.
        skip: Lines to leave out at the beginning, before the columns' names.
        names: The columns' names, where the first row does not hold them.
        required: Columns that must be there, whatever others are; an error told in a line of text has none of them.
        null: Text that stands for null, `\N`; without it no value is null.
    """

    accept: ClassVar[str] = "text/csv, */*;q=0.5"
    composes: ClassVar[bool] = True

    delimiter: Annotated[str, msgspec.Meta(min_length=1, max_length=1)] = ","
    quote: Annotated[str, msgspec.Meta(max_length=1)] = '"'
    skip: Annotated[int, msgspec.Meta(ge=0)] = 0
    names: list[str] = []
    required: list[str] = []
    null: str | None = None

    def _rows(self, texts: Iterator[bytes]) -> Iterator[bytes]:
        lines = chain.from_iterable(StringIO(text.decode(), newline="") for text in texts)
        reader = csv.reader(
            islice(lines, self.skip, None),
            delimiter=self.delimiter,
            quotechar=self.quote or None,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            strict=True,
        )
        try:
            objects = self._objects(_without_blank_end(reader))
            while batch := list(islice(objects, ROWS)):
                yield msgspec.json.encode(batch)[1:-1]
        except csv.Error as error:
            raise UnexpectedPage(f"the body is not whole CSV: line {reader.line_num}: {error}") from None

    def _objects(self, rows: Iterator[list[str]]) -> Iterator[dict[str, str | None]]:
        first = list(islice(rows, 2))
        names = self._names(first)
        for index, row in enumerate(chain(first, rows)):
            if len(row) != len(names):
                problem = f"row {index} has {len(row)} values for {len(names)} columns"
                raise UnexpectedPage(problem, hint="is it CSV?")
            yield {name: None if text == self.null else text for name, text in zip(names, row, strict=True)}

    def _names(self, rows: list[list[str]]) -> list[str]:
        """The columns' names, taken off the first rows. Raises UnexpectedPage where the row can't be one of names."""
        names = self.names or (rows.pop(0) if rows else [])
        if not names or (names[0].startswith(("{", "[", "<")) and not self.names):
            raise UnexpectedPage("the body has no row with the columns' names")
        if len(names) == 1 and not rows and not self.names and self.required != names:
            problem = f"the body is one line without a {self.delimiter!r}: {names[0][:80]}"
            raise UnexpectedPage(problem, hint="`required` names columns")
        for index, name in enumerate(names):
            if not name or name in names[:index]:
                raise UnexpectedPage(f"{name} names two columns" if name else f"column {index + 1} has no name")
        if absent := [name for name in self.required if name not in names]:
            raise UnexpectedPage(f"there is no column {absent[0]}", hint=f"there are {', '.join(names[:12])}")
        return names


class XmlFormat(FormatKind, tag="xml", frozen=True, kw_only=True):
    """XML, RSS and Atom as JSON: `{"feed": {"@xmlns": …, "entry": [{…}, …]}}`. All values are texts.

    Names stay as written, prefixes included. An attribute is a member with `@` before its name. Children of one name
    are a list where there are several. An element with neither attributes nor children is its text; else its text is
    the member `#text`. An element in which text and children are mixed keeps its own XML in the member `#xml`.
    Comments, processing instructions and blanks between elements are left out. A DTD, and with it every entity, is
    refused.

    Attributes:
        lists: Dotted paths of the elements that are always a list, however many there are: `rss.channel.item`. Records
            need it, since one record alone would not be a list.
    """

    accept: ClassVar[str] = "application/xml, text/xml, */*;q=0.5"
    composes: ClassVar[bool] = True

    lists: list[str] = []

    def _json(self, body: Body) -> Body:
        return as_json(whole(body), frozenset(tuple(path.split(".")) for path in self.lists))


Format = JsonFormat | JsonlFormat | CsvFormat | XmlFormat


def _checked(body: Body) -> Iterator[bytes]:
    """The lines of a text, without the byte order mark. Raises UnexpectedPage where it is not UTF-8."""
    at = 0
    for piece in whole_lines(body):
        check_utf8(piece, at)
        yield piece if at else piece.removeprefix(BOM)
        at += len(piece)


def _listed(runs: Iterable[bytes]) -> Iterator[bytes]:
    joint = b"["
    for run in runs:
        if run:
            yield joint + run
            joint = b","
    yield b"]" if joint == b"," else b"[]"


def _without_blank_end(rows: Iterable[list[str]]) -> Iterator[list[str]]:
    blank = 0
    for row in rows:
        if row:
            yield from [[]] * blank
            blank = 0
            yield row
        else:
            blank += 1


def _lines(texts: Iterable[bytes]) -> Iterator[bytes]:
    number = 0
    for text in texts:
        found = []
        for line in text.removesuffix(b"\n").split(b"\n"):
            number += 1
            if line := line.strip(b" \t\r"):
                try:
                    check_whole(line)  # each by itself: two halves of an object joined by a comma can make a whole one
                except UnexpectedPage as error:
                    raise UnexpectedPage(f"line {number}: {error.problem}") from None
                found.append(line)
        yield b",".join(found)


def _documents(text: bytes) -> list[bytes]:
    found: list[bytes] = []
    documents, at = text.decode(), 0
    while match := _BEGINNING.search(documents, at):
        try:
            _, at = _DECODER.raw_decode(documents, match.start())
        except (ValueError, RecursionError) as error:
            why = "nested too deep" if isinstance(error, RecursionError) else str(error)
            raise UnexpectedPage(f"document {len(found)} is not whole JSON: {why}") from None
        found.append(documents[match.start() : at].encode())
    return found
