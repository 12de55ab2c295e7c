"""Rows that disappear from an API: gone in the archive after a complete read of all of them, and never by mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.test_partitions import archived
from tests.tap_rest.harness import FAST, json_api, run
from tests.tap_rest.hostile import response

from target_archive.archive import Archive

STREAM = """
streams:
  rows:
    path: /rows
    records: items
    primary_keys: [id]
    mode: entity
    day: {field: at}
    paginator: {type: offset, page_size: 3, size_param: limit, stable: true}
"""
PARTITIONS = """
    for_each: {items: [a, b], as: part}
    params: {part: "{part}"}
    errors: [{when: {status: 404}, then: skip_partition}]
"""


def api(items: list[dict[str, Any]], *, missing: str = "") -> Any:
    """Rows by offset and part; ETags; a sync token after which nothing has changed; `missing` is a part that is 404."""

    def answer(path: str, params: dict[str, str]) -> Any:
        part = params.get("part")
        if part and part == missing:
            return response(b"{}", status="404 Not Found")
        found = [one for one in items if part in {None, one["part"]}]
        if "since" in params:
            return {"items": [], "sync": "s2"}
        start = int(params.get("offset", 0))
        page = found[start : start + int(params.get("limit", 1000))]
        return response(json.dumps({"items": page, "sync": "s1"}).encode(), headers=['ETag: "v1"'])

    return answer


def row(number: int) -> dict[str, Any]:
    return {"id": number, "at": f"2024-05-{1 + number % 3:02d}T10:00:00Z", "part": "ab"[number % 2]}


ROWS = [row(number) for number in range(8)]
LESS = [one for one in ROWS if one["id"] not in {1, 5}]


def ids(root: Path) -> list[int]:
    archive = Archive(root, "tap-test")
    return sorted(json.loads(line)["id"] for day in archive.days("rows") for line in archive.view("rows", day))


@pytest.mark.parametrize(
    ("declared", "second", "gone"),
    [
        (STREAM, {}, True),
        (STREAM + PARTITIONS, {}, True),
        (STREAM + PARTITIONS, {"missing": "b"}, False),
        (STREAM.replace(", stable: true", ""), {}, False),  # a row that moved may have been missed
        (STREAM.replace("mode: entity", "mode: event"), {}, False),
        (STREAM[: STREAM.index("    paginator")] + "    conditional: true\n", {}, False),
        (
            STREAM[: STREAM.index("    paginator")]
            + "    paginator: {type: sync_token, path: next, param: page, token_path: sync, token_param: since}\n",
            {},
            False,
        ),
    ],
    ids=["all", "all parts", "a part is left out", "unstable pages", "events", "not modified", "sync token"],
)
def test_what_a_second_read_does_not_bring_is_gone_only_if_it_was_of_all(
    tmp_path: Path, declared: str, second: dict[str, Any], gone: bool
) -> None:
    served = [api(ROWS), api(LESS, **second)]

    def answer(path: str, params: dict[str, str]) -> Any:
        if 'if-none-match: "v1"' in server.seen[-1].lower():
            return response(b"", status="304 Not Modified", headers=['ETag: "v1"'])
        return served[0](path, params)

    with json_api(answer) as server:
        first = run(tmp_path, server, FAST + declared)
        archived(tmp_path / "archive", b'{"type":"STATE","value":{"bookmarks":{}}}\n' + first.output)
        assert ids(tmp_path / "archive") == list(range(8))
        del served[0]
        state = first.states[-1]
        again = run(tmp_path, server, FAST + declared, state=state)
    assert again.error is None
    archived(tmp_path / "archive", json.dumps({"type": "STATE", "value": state}).encode() + b"\n" + again.output)
    assert ids(tmp_path / "archive") == ([0, 2, 3, 4, 6, 7] if gone else list(range(8)))
    assert Archive(tmp_path / "archive", "tap-test").count("rows") == 8
