"""From a file to its records: every format and packing, and what is said of a file that is not as it should be."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.tap_file.harness import array, tweet

from tap_file.files import Export
from tap_rest.errors import TapError
from tap_rest.formats.spool import HELD

ONE, TWO, THREE = (tweet(number) for number in (1, 2, 3))


def export(path: Path | str, **options: Any) -> Export:
    return msgspec.convert({"path": str(path), "stream": "tweets", **options}, Export)


def records(folder: Path, name: str, body: bytes, **options: Any) -> list[bytes]:
    (folder / name).write_bytes(body)
    found = export(folder / name, **options)
    return [bytes(one) for file in found.files() for part in found.slices(file.path) for one in part]


def zipped(**members: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name.replace("__", "/"), body)
    return made.getvalue()


FORMATS: list[tuple[str, bytes, Mapping[str, Any], list[bytes]]] = [
    ("a list", array(ONE, TWO), {}, [ONE, TWO]),
    ("a list on one line, with a byte order mark", b"\xef\xbb\xbf" + b"[" + ONE + b"]", {}, [ONE]),
    ("a list somewhere", b'{"data":{"items":' + array(ONE) + b"}}", {"records": "data.items"}, [ONE]),
    ("one object", ONE, {"records": {"type": "single"}}, [ONE]),
    ("objects by id", b'{"7":' + ONE + b"}", {"records": {"type": "object_map"}}, [ONE]),
    ("JSON lines", ONE + b"\n" + TWO + b"\n", {"format": {"type": "jsonl"}}, [ONE, TWO]),
    ("UTF-16", array(ONE).decode().encode("utf-16"), {"format": {"type": "json", "encoding": "utf-16"}}, [ONE]),
    ("CSV", b"id;at\n1;2013-01-02\n", {"format": {"type": "csv", "delimiter": ";"}}, [b'{"id":"1","at":"2013-01-02"}']),
    ("CSV in Latin-1", b"id\n\xe9\n2\n", {"format": {"type": "csv", "encoding": "latin-1", "required": ["id"]}},
     ['{"id":"é"}'.encode(), b'{"id":"2"}']),
    ("XML", b"<l><t id='1'/></l>", {"format": {"type": "xml", "lists": ["l.t"]}, "records": "l.t"}, [b'{"@id":"1"}']),
    ("gzip", gzip.compress(array(ONE, TWO)), {}, [ONE, TWO]),
    ("zip", zipped(a__1=array(ONE), b__2=b"no JSON", a__3=array(TWO)), {"member": "a/*"}, [ONE, TWO]),
    ("zip, as a declaration says it", zipped(a=array(ONE), b=b""), {"format": {"type": "json", "member": "a"}}, [ONE]),
    ("gzip in a zip", zipped(a=gzip.compress(array(ONE))), {}, [ONE]),
    ("a script", b"window.YTD.tweets.part0 = " + array(ONE), {"prefix": "window.YTD.*.part* = "}, [ONE]),
    ("scripts in a zip", zipped(a=b"x.part0=[" + ONE + b"]", b=b"x.part1=[]"), {"prefix": "x.part*="}, [ONE]),
    ("a script of wrapped records", b'\xef\xbb\xbfw = [{"tweet":' + ONE + b'},\n{"tweet":' + TWO + b"}]",
     {"prefix": "w =", "records": {"type": "object_map", "path": "*"}}, [ONE, TWO]),
]  # fmt: skip


@pytest.mark.parametrize(("body", "options", "expected"), [case[1:] for case in FORMATS], ids=[c[0] for c in FORMATS])
@pytest.mark.parametrize("held", [HELD, 1])
def test_records_are_the_files_own_bytes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    held: int,
    body: bytes,
    options: Mapping[str, Any],
    expected: list[bytes],
) -> None:
    """Those of a small file, which is held, and of a large one, which is read where it is."""
    monkeypatch.setattr("tap_file.files.HELD", held)
    assert records(tmp_path, "file", body, **options) == expected


@pytest.mark.parametrize("prefix", ["", "window.YTD.tweets.part0 = "])
@pytest.mark.parametrize("packed", [bytes, gzip.compress])
def test_a_file_that_is_not_held_gives_the_same(tmp_path: Path, prefix: str, packed: Any) -> None:
    many = [tweet(number, "y" * 1000) for number in range(HELD // 1000 + 1)]
    body = packed(prefix.encode() + array(*many))
    assert records(tmp_path, "file", body, prefix=prefix) == many


BAD: list[tuple[str, bytes, Mapping[str, Any], str]] = [
    ("a cut list", array(ONE, TWO)[:-3], {}, "not whole JSON"),
    ("a cut gzip", gzip.compress(array(ONE))[:-9], {}, "stops in the middle"),
    ("a damaged gzip", gzip.compress(array(ONE))[:12] + b"\0\0\0\0" * 9, {}, "gzip"),
    ("a cut zip", zipped(a=array(ONE))[:-30], {}, "the zip can't be unpacked"),
    ("a zip without the member", zipped(a=b"", b=b""), {"member": "c*"}, "the zip has no member c*: it has a, b"),
    ("another encoding", '["é"]'.encode("latin-1"), {}, "not UTF-8 (byte 2 is 0xe9)"),
    ("another format", ONE + b"\n" + TWO, {}, "not whole JSON"),
    ("another place", b'{"data":[]}', {"records": "items"}, "the file has no items"),
    ("another prefix", array(ONE), {"prefix": "window.x ="}, "does not begin with its `prefix`"),
    ("nothing", b"", {}, "not whole JSON"),
    ("no lines", b"", {"format": {"type": "jsonl"}}, "`empty_ok`"),
    ("a row too short", b"a,b\n1\n", {"format": {"type": "csv"}}, "row 0 has 1 values for 2 columns"),
    ("cut XML", b"<a><b></a>", {"format": {"type": "xml"}, "records": "a.b"}, "not whole XML"),
]


@pytest.mark.parametrize(("body", "options", "said"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_bad_file_is_told_with_its_name_and_what_to_do(
    tmp_path: Path, body: bytes, options: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(TapError) as told:
        records(tmp_path, "file.x", body, **options)
    assert said in str(told.value)
    assert told.value.where == str(tmp_path / "file.x")
    assert told.value.hint
    assert "\n" not in str(told.value)


def test_a_bad_member_of_a_zip_is_named_and_those_before_it_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zipped(a=array(ONE), b=array(TWO)[:-1], c=array(THREE)))
    found = export(tmp_path / "x.zip")
    slices = found.slices(tmp_path / "x.zip")
    assert [bytes(one) for one in next(slices)] == [ONE]
    with pytest.raises(TapError) as told:
        next(slices)
    assert told.value.where == f"{tmp_path}/x.zip: b"


def test_an_encrypted_zip_is_told(tmp_path: Path) -> None:
    body = bytearray(zipped(a=array(ONE)))
    body[6] |= 1
    body[body.rindex(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(TapError, match="encrypted"):
        records(tmp_path, "x.zip", bytes(body))


def test_a_mark_changes_with_the_file_and_with_how_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(array(ONE))

    def mark(**options: Any) -> str:
        return export(path, **options).files()[0].mark

    before = mark()
    os.utime(path, (1, 1))
    assert mark(day={"field": "at"}) == before
    others: list[dict[str, Any]] = [{"records": "a"}, {"prefix": "x"}, {"member": "*"}, {"format": {"type": "jsonl"}}]
    assert len({before, *(mark(**options) for options in others)}) == 5
    path.write_bytes(array(TWO))
    assert mark() != before


def test_a_pattern_finds_files_in_order_and_no_hidden_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.json", "a.json", ".c.json", "d[1].json", "e/f.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for pattern in ("~/*.json", "*.json", str(tmp_path / "*.json")):
        assert [file.path.name for file in export(pattern).files()] == ["a.json", "b.json", "d[1].json"]
    assert export("~/**/*.json").files()[-1].path == tmp_path / "e/f.json"
    assert export("d[1].json").files()[0].path == tmp_path / "d[1].json"
    with pytest.raises(TapError, match=r"g\*\.json: there is no such file: see `path`"):
        export("g*.json").files()
