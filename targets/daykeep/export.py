"""`daykeep export`: records as they stand, as Parquet or CSV files or in a DuckDB file, typed by their shape.

A stream's columns follow from the shape that its records have shown in all the years, so all its days have one schema;
see `columns.py`. Beside what is exported stands of which lines of the archive it is made, so the next export writes the
days that have changed, and nothing else.
"""

from __future__ import annotations

import csv
import glob
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args
from urllib.parse import quote

import click
import msgspec

from daykeep import options
from daykeep.columns import RECORD, Columns, Rows, columns_of, sql_name, sql_text
from daykeep.root import find_root, unknown
from daykeep.terminal import printable
from target_archive import commit as records
from target_archive import layout
from target_archive.archive import Archive
from target_archive.errors import ArchiveError, BadSettings
from target_archive.shape import Shape

Form = Literal["parquet", "csv", "duckdb"]
_NO_DAY = "__HIVE_DEFAULT_PARTITION__"  # what Hive, Spark, Trino and DuckDB take for a partition whose value is NULL


class Exported(msgspec.Struct):
    """A day as it was exported: a print of what it was made of, its rows, and of a file its bytes and time (ns)."""

    made_of: str
    rows: int
    file: tuple[int, int] = (0, 0)


class Book(msgspec.Struct):
    """What was exported of a stream."""

    columns: Columns = {}
    days: dict[str, Exported] = {}


class Outcome(msgspec.Struct, frozen=True):
    """What an export has done with a stream; see the command's help."""

    source: str
    stream: str
    days: int
    rows: int
    written: int
    removed: int
    unchanged: int
    not_in_columns: int
    as_json: list[str]


@click.command()
@click.argument("out", type=click.Path())
@click.option("--to", "form", required=True, type=click.Choice(get_args(Form)), help="What OUT becomes.")
@options.stream
@click.option("--from", "start", metavar="DAY", type=click.DateTime(["%Y-%m-%d"]), help="Days from this one on.")
@click.option("--until", "end", metavar="DAY", type=click.DateTime(["%Y-%m-%d"]), help="Days up to this one.")
@options.as_of
@options.source
@options.root
@options.as_json
def export(
    out: str,
    form: Form,
    stream: str | None,
    start: Any,
    end: Any,
    as_of: str | None,
    source: str | None,
    root: str | None,
    *,
    as_json: bool,
) -> None:
    """Export the records of all streams as they stand, or stood, to OUT, and check that every row arrived.

    OUT is a folder for Parquet and CSV (source=NAME/stream=NAME/day=YYYY-MM-DD/part-0.parquet), a file for DuckDB
    (a schema per source, a table per stream). Exporting to the same OUT again writes the days that have changed. Days
    that stand there already are kept up to date even outside of --from and --until. Undated records go with an export
    of all days. It needs the extra `query`.

    \b
    --json is an array of
      {source, stream, days, rows, written, removed, unchanged,
       not_in_columns, as_json: [COLUMN]}
    `not_in_columns` counts the written rows whose record stands in
    `_record`; `as_json` names the columns of JSON text.
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    if "://" in out:
        raise BadSettings("an export goes to a local path", where=out, hint="copy it to the store from there")
    place = find_root(root)
    archives = place.archives(source)
    chosen = [(archive, name) for archive in archives for name in archive.streams() if stream in {None, name}]
    if stream is not None and not chosen:
        raise unknown("stream", stream, {name for one in archives for name in one.streams()}, where=str(place.path))
    first, last = ("" if one is None else one.date().isoformat() for one in (start, end))
    done = []
    with _connected(Path(out), form) as database:
        for archive, name in chosen:
            seq = archive.commit_at(as_of) if as_of is not None else None
            there = (Tables if form == "duckdb" else Files)(database, Path(out), form, archive.source, name)
            identity = records.digest(place.storage.read(layout.commit(archive.log.source, 1)) or b"")
            done.append(_exported(there, Stretch(archive, name, seq, identity, first, last), Path(out)))
            if not as_json:
                click.echo(printable(_in_words(done[-1])))
    if as_json:
        click.echo(msgspec.json.encode(done))


def _in_words(one: Outcome) -> str:
    days = f"{one.days:,} days: {one.written:,} written, {one.unchanged:,} unchanged, {one.removed:,} removed"
    odd = f" · {one.not_in_columns:,} rows written have their record in `{RECORD}`" if one.not_in_columns else ""
    return f"{one.source}/{one.stream}: {one.rows:,} rows, as in the archive · {days}{odd}"


class Stretch(msgspec.Struct, frozen=True):
    """What is to be exported of a stream: as of a commit or as it stands, days from one to another, "" for open.

    `identity` tells one archive from another.
    """

    archive: Archive
    stream: str
    as_of: int | None
    identity: str
    start: str
    end: str

    def days(self, known: Collection[str]) -> list[str]:
        held = self.archive.days(self.stream)
        found = {day for day in held if self.start <= day <= (self.end or day)} | ({*known} & {*held, layout.UNDATED})
        if not (self.start or self.end) and self.archive.log.lines_of(self.stream, layout.UNDATED):
            found.add(layout.UNDATED)
        return sorted(found)

    def made_of(self, day: str, columns: Columns) -> str:
        """A print of the lines that a day's view consists of. Lines have their numbers for good, so it reads none."""
        log = self.archive.log
        seq = self.as_of if self.as_of is not None else log.day(self.stream, day).pin or log.seq
        keys = log.streams[self.stream].key_properties
        return records.digest(msgspec.json.encode([self.identity, keys, self._lines(day, seq), columns]))

    def _lines(self, day: str, seq: int) -> list[Any]:
        log = self.archive.log
        held = log.day(self.stream, day)
        if count := held.lines(seq):
            return [day, count, sorted(held.gone_lines(seq)), held.lost]
        since, earlier = log.same.get(self.stream, {}).get(day, (0, ""))
        return self._lines(earlier, max(since, log.day(self.stream, earlier).lost)) if 0 < since <= seq else []


def _exported(place: Files | Tables, stretch: Stretch, out: Path) -> Outcome:
    archive, stream, book = stretch.archive, stretch.stream, place.book
    shape = archive.log.shapes.get(stream) or Shape(("object",))
    unfit = {key for key, column in book.columns.items() if column.kind == "JSON"}
    days, former = stretch.days(book.days), dict(book.days)
    while True:
        columns, misfits, not_in_columns = columns_of(shape, unfit), set[str](), 0
        place.begin(columns)
        for day in days:
            made_of = stretch.made_of(day, columns)
            if day in book.days and book.days[day].made_of == made_of:
                continue
            rows = Rows(archive.view(stream, day, as_of=stretch.as_of), columns)
            misfits |= rows.misfits
            if rows.lines and not misfits:  # once one is known, the days that are left are only looked at
                out.parent.mkdir(parents=True, exist_ok=True)
                with TemporaryDirectory(".tmp", f".{out.name}.", out.parent) as folder:
                    path = Path(folder) / "rows.jsonl"
                    path.write_bytes(b"\n".join([*rows.lines, b""]))
                    place.put(day, rows.query(path), Exported(made_of, len(rows.lines)))
                not_in_columns += rows.not_in_columns
            elif not rows.lines and day in book.days:
                place.drop(day)
        if not misfits:
            break
        unfit |= misfits
    for day in book.days.keys() - {*days}:
        place.drop(day)
    counted, expected = place.finish(), {day: one.rows for day, one in book.days.items()}
    if wrong := sorted({day for day, _ in counted.items() ^ expected.items()}):
        raise ArchiveError(
            f"{counted.get(wrong[0], 0):,} rows are there, {expected.get(wrong[0], 0):,} are in the archive",
            where=f"{archive.source}/{stream}, {wrong[0]}; in all {len(wrong):,} days differ",
            hint="was something else put there? export to an empty place",
        )
    written, removed = (
        sum(former.get(day) != one for day, one in book.days.items()),
        len(former.keys() - book.days.keys()),
    )
    as_json = [column.name for column in columns.values() if column.kind == "JSON"]
    counts = (len(expected), sum(expected.values()), written, removed, len(expected) - written, not_in_columns)
    return Outcome(archive.source, stream, *counts, as_json)


class Files:
    """A stream as a file per day, in folders as Hive names them; each is whole before it takes its place."""

    def __init__(self, database: Any, out: Path, form: Form, source: str, stream: str) -> None:
        self._database, self._form = database, form
        self._folder = out / f"source={quote(source, ' @+')}" / f"stream={quote(stream, ' @+')}"
        self._book = self._folder / f"_{form}.json"
        try:
            self.book = msgspec.json.decode(self._book.read_bytes(), type=Book)
        except (FileNotFoundError, msgspec.DecodeError):
            self.book = Book()  # every day is written
        for day, one in self.book.days.items():
            if self._file(day) != one.file:
                one.made_of = ""  # somebody has changed or removed it

    def begin(self, columns: Columns) -> None:
        self.book.columns = columns

    def put(self, day: str, rows: str, made: Exported) -> None:
        path = self._path(day)
        path.parent.mkdir(parents=True, exist_ok=True)
        how = "FORMAT parquet, COMPRESSION zstd" if self._form == "parquet" else "FORMAT csv, HEADER"
        new = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            self._database.execute(f"COPY ({rows}) TO {sql_text(new)} ({how})")
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
        made.file = self._file(day)
        self.book.days[day] = made

    def drop(self, day: str) -> None:
        path = self._path(day)
        path.unlink(missing_ok=True)
        del self.book.days[day]
        if not any(path.parent.iterdir()):
            path.parent.rmdir()

    def finish(self) -> dict[str, int]:
        if self._folder.exists():
            new = self._book.with_name(f".{self._book.name}.{os.getpid()}.tmp")
            new.write_bytes(msgspec.json.encode(self.book))
            new.replace(self._book)
        counted = Counter[str]()
        for path, rows in self._rows_there():
            day = path.parent.name.removeprefix("day=")
            counted[layout.UNDATED if day == _NO_DAY else day] += rows
        return counted

    def _rows_there(self) -> Iterator[tuple[Path, int]]:
        """The rows of every file that an engine would find, also of one that is not ours."""
        found = list(self._folder.glob(f"*/*.{self._form}"))
        if self._form == "parquet" and found:
            every = f"{glob.escape(str(self._folder))}/*/*.parquet"
            told = self._database.execute("SELECT file_name, num_rows FROM parquet_file_metadata(?)", [every])
            yield from ((Path(name), rows) for name, rows in told.fetchall())
            return
        csv.field_size_limit(sys.maxsize)
        for path in found:
            with path.open(newline="", encoding="utf-8") as file:
                yield path, sum(1 for _ in csv.reader(file)) - 1

    def _path(self, day: str) -> Path:
        return self._folder / f"day={_NO_DAY if day == layout.UNDATED else day}" / f"part-0.{self._form}"

    def _file(self, day: str) -> tuple[int, int]:
        path = self._path(day)
        return (path.stat().st_size, path.stat().st_mtime_ns) if path.exists() else (-1, 0)


class Tables:
    """A stream as a table, its days a column; all that an export changes in it becomes visible at once."""

    def __init__(self, database: Any, _out: Path, _form: Form, source: str, stream: str) -> None:
        self._database, self._own = database, (source, stream)
        self._table = f"{sql_name(source)}.{sql_name(stream)}"
        run = database.execute
        run("BEGIN")
        run(f"CREATE SCHEMA IF NOT EXISTS {sql_name(source)}")
        run("CREATE SCHEMA IF NOT EXISTS _daykeep")
        run("CREATE TABLE IF NOT EXISTS _daykeep.exported (source VARCHAR, stream VARCHAR, book VARCHAR)")
        found = run("SELECT book FROM _daykeep.exported WHERE source = ? AND stream = ?", self._own).fetchone()
        tables = "SELECT 1 FROM duckdb_tables() WHERE lower(schema_name) = lower(?) AND lower(table_name) = lower(?)"
        there = run(tables, self._own).fetchone()
        if there and not found:
            raise BadSettings("a table of that name is not from an export", where=self._table, hint="rename it")
        self.book = msgspec.json.decode(found[0], type=Book) if found and there else Book()

    def begin(self, columns: Columns) -> None:
        if columns != self.book.columns or not self.book.columns:
            told = [f"{sql_name(column.name)} {column.kind}" for column in columns.values()]
            described = ", ".join(["day DATE", *told, f"{sql_name(RECORD)} VARCHAR"])
            self._database.execute(f"CREATE OR REPLACE TABLE {self._table} ({described})")
            self.book.columns = columns
            self.book.days.clear()

    def put(self, day: str, rows: str, made: Exported) -> None:
        if day in self.book.days:
            self.drop(day)
        when = "NULL" if day == layout.UNDATED else f"DATE {sql_text(day)}"
        self._database.execute(f"INSERT INTO {self._table} SELECT {when}, * FROM ({rows})")  # noqa: S608 - all quoted
        self.book.days[day] = made

    def drop(self, day: str) -> None:
        del self.book.days[day]
        value = None if day == layout.UNDATED else day
        self._database.execute(f"DELETE FROM {self._table} WHERE day IS NOT DISTINCT FROM ?::DATE", [value])  # noqa: S608 - quoted

    def finish(self) -> dict[str, int]:
        run, book = self._database.execute, msgspec.json.encode(self.book).decode()
        run("DELETE FROM _daykeep.exported WHERE source = ? AND stream = ?", self._own)
        run("INSERT INTO _daykeep.exported VALUES (?, ?, ?)", [*self._own, book])
        run("COMMIT")
        counted = run(f"SELECT day::VARCHAR, count(*) FROM {self._table} GROUP BY day").fetchall()  # noqa: S608 - quoted
        return {layout.UNDATED if day is None else day: rows for day, rows in counted}


@contextmanager
def _connected(out: Path, form: Form) -> Iterator[Any]:
    """DuckDB, which fetches nothing from anywhere. Raises BadSettings where it is missing or cannot open OUT."""
    try:
        import duckdb  # noqa: PLC0415 - an extra, and slow to load
    except ImportError:
        raise BadSettings("exporting needs DuckDB", hint="pip install 'daykeep[query]'") from None
    offline: dict[str, Any] = {"autoinstall_known_extensions": False}
    try:
        with duckdb.connect(str(out) if form == "duckdb" else ":memory:", config=offline) as database:
            yield database
    except (duckdb.Error, OSError) as error:
        raise ArchiveError("the export failed", where=str(out), hint=" ".join(str(error).split())) from None
