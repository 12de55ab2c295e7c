"""`export`: every row of the head view arrives, as it is, in files and tables whose days have one schema."""

from __future__ import annotations

import json
import re
import shlex
from decimal import Decimal
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daykeep.command import daykeep, make_archive
from tests.target_archive import stores
from tests.target_archive.rereading import DAY, Source

from daykeep.columns import Rows, columns_of
from target_archive.archiver import Archiver
from target_archive.settings import Settings
from target_archive.shape import merge, shape_of
from target_archive.storage import storage_of
from target_archive.writer import open_writer

PAGE = Path(__file__).parent.parent.parent / "docs/export.md"
FORMS = ("parquet", "csv", "duckdb")

ODD = [
    b'{"id":1,"at":"2024-05-01T00:00:00Z","n":9223372036854775807,"x":0.1,"ok":true,"t":"a\\u0000b","o":{"a":[1.10]}}',
    b'{"id":2,"at":"2024-05-01T00:00:00Z","n":9223372036854775808,"x":1.234567890123456789,"m":1,"o":{"k":1,"k":2}}',
    b'{"id":3,"at":"2024-05-02T00:00:00Z","n":null,"x":1e400,"m":"one","ID":"upper","source":"web","day":7}',
    b'{"id":4,"at":"2024-05-02T00:00:00Z","name":"first","name":"second","\\u0022":1}',
    b'{"id": 5, "at": "2024-05-03T00:00:00Z", "name": "spaced: a, b", "x": -1.5}',
    b'{"id":6,"name":"undated"}',
]


def export(root: Path, out: Path, form: str, *options: str) -> str:
    ended = daykeep("export", "--root", root, "--to", form, out, *options)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return ended.stdout


def outcome(root: Path, out: Path, form: str, *options: str) -> Any:
    return json.loads(export(root, out, form, "--json", *options))[0]


def rows(out: Path, form: str, stream: str = "s") -> list[dict[str, Any]]:
    """What was exported of a stream of the source `tap`, in order of day and `id`."""
    if form == "duckdb":
        with duckdb.connect(str(out), read_only=True) as database:
            found = database.execute(f'FROM "tap"."{stream}" ORDER BY day, id')
            names = [one[0] for one in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    with duckdb.connect() as database:
        more = ", all_varchar = true" if form == "csv" else ""
        files = f"read_{form}('{out}/source=tap/stream={stream}/*/*.{form}', hive_partitioning = true{more})"
        found = database.execute(f"FROM {files} ORDER BY day, id")
        names = [one[0] for one in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def files(out: Path) -> dict[str, int]:
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.rglob("part-0.*")}


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Records with everything that a typed column may alter, in three days and without one."""
    root = tmp_path / "archive"
    Source(root).read("2024-05-04T06:00:00", ODD)
    return root


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_those_of_the_head_view_and_columns_have_the_types_of_the_shape(tmp_path: Path, form: str) -> None:
    source = Source(tmp_path / "archive")
    first = [
        {"id": 1, "at": "2024-05-01T01:00:00Z", "price": 1.5, "paid": True, "tags": ["a"], "note": None},
        {"id": 2, "at": "2024-05-01T02:00:00Z", "price": 2},
    ]
    source.read("2024-05-02T06:00:00", first)
    source.read("2024-05-03T06:00:00", [{**first[0], "price": 2.5}])
    out = tmp_path / "out"
    assert "tap/s: 1 rows, as in the archive" in export(source.root, out, form)
    (row,) = rows(out, form)
    assert (row["id"], row["price"], row["paid"], json.loads(row["tags"]), row["note"], row["_record"]) == (
        ("1", "2.5", "true", ["a"], None, None) if form == "csv" else (1, 2.5, True, ["a"], None, None)
    )
    assert str(row["day"]) == DAY
    export(source.root, out, form, "--as-of", "2024-05-02")
    assert [float(row["price"]) for row in rows(out, form)] == [1.5, 2.0]


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_silently_altered(odd: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "out"
    done = outcome(odd, out, form)
    assert (done["rows"], done["days"], done["not_in_columns"]) == (6, 4, 1)
    assert {"n", "x", "m", "o"} <= {*done["as_json"]}
    found = {int(row["id"]): row for row in rows(out, form)}
    assert [found[1][name] for name in ("n", "x", "o")] == ["9223372036854775807", "0.1", '{"a":[1.10]}']
    assert found[1]["t"] == "a\0b"
    assert [found[2][name] for name in ("n", "x", "m", "o")] == [
        "9223372036854775808",
        "1.234567890123456789",
        "1",
        '{"k":1,"k":2}',
    ]
    assert [found[3][name] for name in ("n", "x", "m")] == [None, "1e400", '"one"']
    assert (found[3]["ID_"], found[3]["source_"], int(found[3]["day_"])) == ("upper", "web", 7)
    assert found[4]["_record"] == ODD[3].decode()
    assert (found[5]["name"], found[5]["_record"]) == ("spaced: a, b", None)
    assert (found[6]["day"], found[6]["name"]) == (None, "undated")


def test_all_files_have_one_schema_and_a_column_too_narrow_on_the_last_day_is_widened_on_all(tmp_path: Path) -> None:
    source, out = Source(tmp_path / "archive"), tmp_path / "out"
    days = [{"id": day, "at": f"2024-05-{day:02d}T00:00:00Z", "n": day} for day in range(1, 6)]
    source.read("2024-06-01T00:00:00", days)
    assert outcome(source.root, out, "parquet")["as_json"] == []
    big = b'{"id":9,"at":"2024-05-09T00:00:00Z","n":99999999999999999999,"more":"x"}'
    source.read("2024-06-02T00:00:00", [big], claimed=False)
    done = outcome(source.root, out, "parquet", "--from", "2024-05-09")
    assert (done["written"], done["as_json"]) == (6, ["n"])
    with duckdb.connect() as database:
        shapes = {tuple(database.execute(f"DESCRIBE FROM '{out / file}'").fetchall()) for file in files(out)}
    assert len(shapes) == 1
    assert [row["n"] for row in rows(out, "parquet")] == ["1", "2", "3", "4", "5", "99999999999999999999"]
    assert outcome(source.root, out, "parquet")["unchanged"] == 6
    huge = b'{"id":10,"at":"2024-05-10T00:00:00Z","f":1e400}'
    source.read("2024-06-03T00:00:00", [huge], claimed=False)
    assert outcome(source.root, out, "parquet")["as_json"] == ["n", "f"]


@pytest.mark.parametrize("form", FORMS)
def test_a_second_export_writes_the_days_that_have_changed_and_no_others(tmp_path: Path, form: str) -> None:
    source, out = Source(tmp_path / "archive"), tmp_path / "out"
    days = [{"id": day, "at": f"2024-05-{day:02d}T00:00:00Z"} for day in (1, 2, 3)]
    source.read("2024-05-04T00:00:00", days)
    export(source.root, out, form)
    before = files(out)
    again = outcome(source.root, out, form)
    assert (again["written"], again["unchanged"], again["removed"]) == (0, 3, 0)
    assert files(out) == before
    source.read("2024-05-05T00:00:00", [])  # a complete read of the first day, which finds it empty
    source.read("2024-05-05T00:00:01", [{"id": 22, "at": "2024-05-02T00:00:00Z"}], claimed=False)
    third = outcome(source.root, out, form)
    assert (third["written"], third["unchanged"], third["removed"], third["rows"]) == (1, 1, 1, 3)
    after = files(out)
    assert [name for name in after if after[name] == before.get(name)] == [name for name in before if "05-03" in name]
    assert [int(row["id"]) for row in rows(out, form)] == [2, 22, 3]
    assert outcome(source.root, out, form, "--as-of", "2024-05-04")["rows"] == 3
    assert [int(row["id"]) for row in rows(out, form)] == [1, 2, 3]


def test_a_range_exports_its_days_alone_and_keeps_what_stands_there(odd: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert outcome(odd, out, "parquet", "--from", "2024-05-02", "--until", "2024-05-02")["rows"] == 2
    assert outcome(odd, out, "parquet", "--until", "2024-05-01")["rows"] == 4


def test_a_file_that_is_not_ours_is_told_and_one_that_was_changed_is_written_again(odd: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(odd, out, "parquet")
    one, *_ = out.rglob("day=2024-05-01/part-0.parquet")
    one.write_bytes(b"")
    assert outcome(odd, out, "parquet")["written"] == 1
    one.with_name("part-1.parquet").write_bytes(one.read_bytes())
    ended = daykeep("export", "--root", odd, "--to", "parquet", out)
    assert ended.returncode == 1
    assert "4 rows are there, 2 are in the archive (tap/s, 2024-05-01" in ended.stderr


def test_snapshots_that_were_not_stored_again_have_their_rows_and_pins_count(tmp_path: Path) -> None:
    source, out = Source(tmp_path / "archive", mode="snapshot", bookmarks=()), tmp_path / "out"
    for day in ("2024-05-02", "2024-05-03"):
        source.read(f"{day}T06:00:00", [{"id": 1}, {"id": 2}], start=None, end=f"{day}T06:00:00Z")
    assert outcome(source.root, out, "parquet")["rows"] == 4
    source.read("2024-05-02T07:00:00", [{"id": 3}], claimed=False)
    assert outcome(source.root, out, "parquet")["rows"] == 5
    daykeep("pin", "s", "2024-05-02", "--revision", "1", "--root", source.root)
    done = outcome(source.root, out, "parquet")
    assert (done["written"], done["rows"]) == (1, 4)


def test_names_of_all_kinds_become_folders_and_columns(tmp_path: Path) -> None:
    root, out = tmp_path / "archive", tmp_path / "out"
    record = {"id": 1, "": "empty", 'a"b': "quote", "it's": 1, "Größe": 2.5, "_record": "own", "a b": [1]}
    schema = {"type": "SCHEMA", "stream": "s/t x", "schema": {"properties": {}}, "key_properties": ["id"]}
    make_archive(root, "tap @ x", [schema, {"type": "RECORD", "stream": "s/t x", "record": record}])
    export(root, out, "parquet")
    export(root, out.with_suffix(".duckdb"), "duckdb")
    with duckdb.connect() as database:
        found = database.execute(f"FROM '{out}/**/*.parquet'")
        row = dict(zip([one[0] for one in found.description or ()], found.fetchall()[0], strict=True))
    assert (row["source"], row["stream"], row["_"], row['a"b']) == ("tap @ x", "s/t x", "empty", "quote")
    assert (row["it's"], row["Größe"], row["_record_"], row["a b"], row["_record"]) == (1, 2.5, "own", "[1]", None)


TEXTS = st.sampled_from(
    ['"a"', '""', '"\\u0000"', '"\\n\\""', '"\\ud83d\\ude00"', '"é\u2028"', '"null"', '"1"', '"2024-01-01"']
)
NUMBERS = st.sampled_from(
    [
        "0",
        "-0",
        "-1",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "123456789012345678901",
        "0.1",
        "-0.0",
        "1E+5",
        "1e-400",
        "1e400",
        "1.7976931348623157e308",
        "5e-324",
        "0.30000000000000004",
        "1234567890123456.7",
        "1.10",
        "9007199254740993",
        "1e23",
    ]
)
OTHERS = st.sampled_from(["null", "true", "false", "[1.10, null]", '{"a" :1,"a":2}', "{}", "[]"])
MEMBERS = st.one_of(
    st.tuples(st.sampled_from(["t", 't"q', "T"]), TEXTS),
    st.tuples(st.sampled_from(["n", "N", "_record"]), NUMBERS),
    st.tuples(st.sampled_from(["m", "é", ""]), TEXTS | NUMBERS | OTHERS),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.lists(MEMBERS, max_size=5), st.sampled_from([",", " , "])), min_size=1, max_size=5))
def test_every_value_of_every_record_can_be_told_from_its_row(told: list[tuple[list[tuple[str, str]], str]]) -> None:
    records = ["{" + mark.join(f"{json.dumps(key)}:{text}" for key, text in members) + "}" for members, mark in told]
    shape = reduce(merge, [shape_of(json.loads(one)) for one in records])
    lines = [one.encode() for one in records]
    columns = columns_of(shape, Rows(lines, columns_of(shape)).misfits)
    made = Rows(lines, columns)
    assert made.misfits == set()
    with TemporaryDirectory(prefix="[a]") as folder, duckdb.connect() as database:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(b"\n".join([*made.lines, b""]))
        found = database.sql(made.query(path)).fetchall()
    for (members, _), record, row in zip(told, records, found, strict=True):
        last = dict(members)
        *cells, whole = row
        assert whole == (record if len(last) < len(members) else None)
        for key, cell in zip(columns, cells, strict=True):
            text, kind = last.get(key, "null"), columns[key].kind
            if text == "null":
                assert cell is None
            elif kind == "JSON":
                assert cell == text
            else:
                assert (Decimal(repr(cell)) == Decimal(text)) if kind == "DOUBLE" else (cell == json.loads(text))


def test_objects_used_as_maps_large_and_deep_records_and_records_that_are_none_arrive(tmp_path: Path) -> None:
    root, out = tmp_path / "archive", tmp_path / "out"
    schema = {"type": "SCHEMA", "stream": "s", "schema": {"properties": {}}, "key_properties": []}
    told = [
        json.dumps({f"k{n}": n for n in range(400)}),
        json.dumps({"id": 1, "big": "x" * 20_000_000}),
        '{"id":2,"deep":' + "[" * 500 + "]" * 500 + "}",
        "[1, 2]",
        "null",
    ]
    records = [f'{{"type":"RECORD","stream":"s","record":{one}}}' for one in told]
    make_archive(root, "tap", [schema, *records])
    done = outcome(root, out, "parquet")
    assert done["rows"] == 5
    with duckdb.connect() as database:
        found = {one for (one,) in database.sql(f"FROM '{out}/**/*.parquet'").select("_record").fetchall()}
    assert {"[1, 2]", "null", told[0]} <= found <= {*told, None}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "parquet", "s3://bucket/x"], "local path"),
        (["--to", "parquet", "out", "--stream", "ss"], "did you mean `s`"),
        (["--to", "parquet", "out", "--as-of", "99"], "there is no commit 99"),
        (["--to", "xlsx", "out"], "xlsx"),
        (["--to", "parquet", "out", "--from", "May"], "May"),
    ],
)
def test_what_cannot_be_exported_is_told(odd: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    ended = daykeep("export", "--root", odd, *arguments, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert words in ended.stderr
    assert not (tmp_path / "out").exists()


def test_without_duckdb_a_line_says_what_to_install(odd: Path, tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without/duckdb.py").write_text("raise ImportError")
    env = {"PYTHONPATH": str(tmp_path / "without")}
    ended = daykeep("export", "--root", odd, "--to", "parquet", tmp_path / "out", env=env)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "daykeep: exporting needs DuckDB: pip install 'daykeep[query]'\n"


def test_a_person_s_own_table_is_left_alone(odd: Path, tmp_path: Path) -> None:
    out = tmp_path / "own.duckdb"
    with duckdb.connect(str(out)) as database:
        database.execute("CREATE SCHEMA tap; CREATE TABLE tap.s AS SELECT 1 AS mine")
    ended = daykeep("export", "--root", odd, "--to", "duckdb", out)
    assert ended.returncode == 2
    assert "not from an export" in ended.stderr
    with duckdb.connect(str(out)) as database:
        assert database.execute("FROM tap.s").fetchall() == [(1,)]


def test_an_archive_that_is_damaged_leaves_what_was_exported(odd: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(odd, out, "parquet")
    before = rows(out, "parquet")
    Source(odd).read("2024-05-05T00:00:00", [{"id": 7, "at": "2024-05-01T00:00:00Z"}], claimed=False)
    for file in (odd / "tap/s").glob("2024-05-01*"):
        file.write_bytes(b"")
    ended = daykeep("export", "--root", odd, "--to", "parquet", out)
    assert ended.returncode == 1
    assert "not as it was written" in ended.stderr
    assert rows(out, "parquet") == before
    assert list(tmp_path.rglob("*.tmp")) == []


def test_an_archive_in_an_object_store_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stores.s3_server() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        root = "s3://bucket/archive"
        with open_writer(storage_of(root), "tap", run="run") as writer:
            archiver = Archiver(writer, Settings(root=root, source="tap"), lambda _state: None)
            schema = {"type": "SCHEMA", "stream": "s", "schema": {"properties": {}}, "key_properties": ["id"]}
            archiver.take([json.dumps(schema).encode(), b'{"type":"RECORD","stream":"s","record":{"id":1}}'])
            archiver.finish()
        ended = daykeep("export", "--root", root, "--to", "parquet", tmp_path / "out")
    assert (ended.returncode, ended.stdout.partition(",")[0]) == (0, "tap/s: 1 rows"), ended.stderr


def test_the_page_on_export_shows_what_the_command_and_duckdb_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = {"properties": {"shop": {}, "at": {}}, "x-daykeep-day": {"field": "at"}}
    told = {"type": "SCHEMA", "stream": "sales", "schema": schema, "key_properties": ["shop"]}
    sales = [("berlin", 1, 119.8), ("oslo", 1, 69.93), ("oslo", 1, 59.93), ("oslo", 2, 12.0)]
    records = [{"shop": shop, "at": f"2024-05-{day:02d}T21:00:00Z", "revenue": revenue} for shop, day, revenue in sales]
    messages = [{"type": "RECORD", "stream": "sales", "record": record} for record in records]
    make_archive(tmp_path / "archive", "shop", [told, *messages])
    monkeypatch.chdir(tmp_path)
    page = PAGE.read_text()
    for command, expected in re.findall(r"```console\n\$ daykeep (.*?)\n(.*?)```", page, re.DOTALL):
        ended = daykeep(*shlex.split(command))
        assert (ended.stdout, ended.stderr) == (expected, "")
    queries = re.findall(r"```sql\n(.*?)```\n\n```text\n(.*?)```", page, re.DOTALL)
    assert len(queries) == page.count("```sql") == 2
    for query, expected in queries:
        with duckdb.connect() as database:
            found = ["|".join(map(str, row)) for row in database.execute(query).fetchall()]
        assert found == expected.splitlines()
