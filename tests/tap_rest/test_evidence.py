"""What a walk has seen: keys, order, digest, and where the bookmark may go."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tests.tap_rest.harness import NOW, stream_of

from tap_rest.engine.evidence import KEYS_COUNTED, Walk, signature
from tap_rest.language.declaration import BoundStream


def stream(folder: Path, replication: str = "{key: t, order: ascending}", keys: str = "[id]") -> BoundStream:
    return stream_of(folder, f"primary_keys: {keys}, replication: {replication}")


def walked(declared: BoundStream, *pages: list[Any]) -> Walk:
    walk = Walk(declared)
    for page in pages:
        walk.add([json.dumps(record).encode() for record in page])
    walk.finish("no_next")
    return walk


def test_keys_are_counted_once_whatever_their_kind(tmp_path: Path) -> None:
    keys: list[Any] = [1, 2, 1, "1", None, None, 1.5, 1.50, [1], [1], {"a": 1}, True]
    pages = [[{"id": key, "t": None}] for key in keys]
    assert walked(stream(tmp_path), *pages).evidence.unique_keys == 8 - (hash(1) == hash(True))


def test_more_than_a_million_keys_are_unknown(tmp_path: Path) -> None:
    walk = Walk(stream(tmp_path))
    page = [b'{"id":%d,"t":"2024-01-01T00:00:00Z"}' % number for number in range(1000)]
    walk.turn(5)
    for _ in range(KEYS_COUNTED // 1000 + 1):
        walk.add(page)
    walk.finish("no_next")
    assert walk.evidence.unique_keys is None
    assert walk.missing() == 0


def test_the_digest_does_not_depend_on_order_or_pages(tmp_path: Path) -> None:
    rows = [{"id": number, "t": None} for number in range(50)]
    mixed = random.Random(1).sample(rows, 50)
    one, other = walked(stream(tmp_path), rows), walked(stream(tmp_path), mixed[:7], [], mixed[7:])
    assert one.evidence.digest == other.evidence.digest
    assert one.evidence.digest != walked(stream(tmp_path), rows[1:]).evidence.digest


@pytest.mark.parametrize(
    ("replication", "values", "highest"),
    [
        ("{key: t}", ["2024-01-01T00:00:00Z", "2024-01-03T00:00:00Z", "2024-01-02T00:00:00Z"], "2024-01-03T00:00:00Z"),
        ("{key: t}", ["2024-01-01T09:00:00+09:00", "2024-01-01T01:00:00+00:00"], "2024-01-01T01:00:00+00:00"),
        ("{key: t}", ["2024-01-01", "2024-01-01T00:00:00.5Z"], "2024-01-01T00:00:00.5Z"),
        ("{key: t}", [1700000000, 1700000001000], 1700000001000),
        ("{key: t}", [1.5, 2.25], "2.25"),
        ("{key: t, format: text}", [9, 10], 10),
        ("{key: t, format: text}", ["9", "10"], "10"),
        ("{key: t, format: text}", ["b", "a"], "b"),
    ],
)
@pytest.mark.case("trap:2.checkpoint-last-not-max")
def test_the_bookmark_is_the_highest_value_as_the_api_wrote_it(
    replication: str, values: list[Any], highest: Any, tmp_path: Path
) -> None:
    rows = [{"id": number, "t": value} for number, value in enumerate(values)]
    assert walked(stream(tmp_path, replication), rows).bookmark(NOW) == highest
    assert walked(stream(tmp_path, replication), *([row] for row in rows)).bookmark(NOW) == highest


@pytest.mark.case("C28")
@pytest.mark.parametrize(
    ("order", "pages", "sorted_so"),
    [
        ("ascending", [[1, 2], [2, 3]], True),
        ("ascending", [[1, 3], [2, 4]], False),
        ("ascending", [[2, 1]], False),
        ("descending", [[4, 3], [3, 1]], True),
        ("descending", [[4, 2], [3, 1]], False),
        ("descending", [[1, 2]], False),
        ("none", [[2, 1, 3]], True),
    ],
)
def test_order_is_checked_within_pages_and_between_them(
    order: str, pages: list[list[int]], tmp_path: Path, *, sorted_so: bool
) -> None:
    for text in ("2024-01-0{}T00:00:00Z", "2024-01-0{}T00:00:00+00:00"):
        rows = [[{"id": day, "t": text.format(day)} for day in page] for page in pages]
        walk = walked(stream(tmp_path, f"{{key: t, order: {order}}}"), *rows)
        assert (walk.evidence.warnings == []) == sorted_so


def test_newest_first_has_passed_its_bookmark_below_it_not_at_it(tmp_path: Path) -> None:
    declared = stream(tmp_path, "{key: t, order: descending}")
    rows = [{"id": 1, "t": f"2024-01-0{day}T00:00:00Z"} for day in (5, 4, 3)]
    assert walked(declared, rows).passed("2024-01-04T00:00:00Z")
    assert not walked(declared, rows).passed("2024-01-03T00:00:00Z")
    assert not walked(declared, rows).passed(None)
    assert not walked(declared, rows[::-1]).passed("2024-01-04T00:00:00Z")


def test_a_signature_tells_pages_apart() -> None:
    assert signature([b"a", b"b"]) == signature([b"a", b"b"])
    assert signature([b"a", b"b"]) != signature([b"a", b"c"])
    assert signature([b"a"]) != signature([b"a", b"a"])
    assert signature([]) == ""
