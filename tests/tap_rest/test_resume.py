"""Going on from every STATE that a run has told: the same records as a run that was never broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.tap_rest import rows
from tests.tap_rest.harness import json_api, run
from tests.tap_rest.test_partitions import NAMES, PULLS, REPOS, Pulls
from tests.tap_rest.test_partitions import api as repos_api

REPLICATION = "replication: {key: t, order: ascending, param: since}"
HEAD = "streams:\n  rows:\n    path: /rows\n    records: items\n    primary_keys: [id]\n    "
ROWS = rows.ROWS[:60]


def by_offset(_: str, params: dict[str, str]) -> Any:
    start = int(params["offset"])
    return {"items": ROWS[start : start + 9], "total": len(ROWS)}


def by_key(_: str, params: dict[str, str]) -> Any:
    return {"items": [row for row in ROWS if int(str(row["id"])) > int(params.get("after", -1))][:8]}


def newest_first(_: str, params: dict[str, str]) -> Any:
    page = int(params["page"])
    return {"items": list(reversed(ROWS))[page * 8 - 8 : page * 8]}


STREAMS: dict[str, tuple[str, Callable[[], Any]]] = {
    "cursor, ascending": (
        f"{HEAD}paginator: {{type: cursor, path: next, param: cursor}}\n    {REPLICATION}",
        lambda: rows.since(ROWS, size=7),
    ),
    "offset, read whole": (f"{HEAD}paginator: {{type: offset, page_size: 9, total: total}}", lambda: by_offset),
    "keyset": (
        f"{HEAD}paginator: {{type: keyset, field: id, param: after, inclusive: false, unique: true, page_size: 8}}",
        lambda: by_key,
    ),
    "page number, newest first": (
        f"{HEAD}paginator: {{type: page_number}}\n    replication: {{key: t, order: descending}}",
        lambda: newest_first,
    ),
    "windows": (rows.windowed("window: 2d, start: 2027-01-01"), lambda: rows.by_time),
    "partitions": (REPOS, lambda: repos_api),
    "partitions, side by side": (f"limits: [{{quota: 100000/s, concurrency: 4}}]\n{REPOS}", lambda: repos_api),
    "offset, side by side": (
        (
            f"limits: [{{quota: 100000/s, concurrency: 4}}]\n{HEAD}"
            "paginator: {type: offset, page_size: 9, total: total, stable: true}"
        ),
        lambda: by_offset,
    ),
    "children by change": (PULLS, Pulls),
}


def named(output: bytes) -> list[tuple[str, Any]]:
    found = [json.loads(line) for line in output.splitlines() if b'"type":"RECORD"' in line]
    return [(one["stream"], one["record"]["id"]) for one in found]


@pytest.mark.case("R000-25")
@pytest.mark.case("R003-20")
@pytest.mark.case("trap:3.11")
@pytest.mark.parametrize("kind", STREAMS)
def test_every_state_leads_to_the_records_of_an_unbroken_run(tmp_path: Path, kind: str) -> None:
    declaration, made = STREAMS[kind]
    with json_api(made()) as server:
        whole = run(tmp_path, server, declaration)
        assert whole.error is None
        wanted = set(named(whole.output))
        lines = whole.output.splitlines(keepends=True)
        places = [number for number, line in enumerate(lines) if line.startswith(b'{"type":"STATE"')]
        assert len(places) >= (3 if kind != "windows" else 5)
        for place in places:
            state = json.loads(lines[place])["value"]
            again = run(tmp_path, server, declaration, state=state)
            assert again.error is None
            before = named(b"".join(lines[:place]))
            assert set(before) | set(named(again.output)) == wanted, (kind, place)
            final = {name: entry for name, entry in again.states[-1]["bookmarks"].items() if entry != {}}
            assert final == {name: entry for name, entry in whole.states[-1]["bookmarks"].items() if entry != {}}
    assert len(NAMES) == 3


@pytest.mark.case("P9")
@pytest.mark.parametrize("kind", ["cursor, ascending", "offset, read whole", "keyset", "partitions"])
def test_a_broken_run_repeats_at_most_one_page(tmp_path: Path, kind: str) -> None:
    """Killed after the records of a page and before its STATE."""
    declaration, made = STREAMS[kind]
    with json_api(made()) as server:
        whole = run(tmp_path, server, declaration)
        lines = whole.output.splitlines(keepends=True)
        places = [number for number, line in enumerate(lines) if line.startswith(b'{"type":"STATE"')]
        for earlier, place in pairwise(places):
            state = json.loads(lines[earlier])["value"]
            again = run(tmp_path, server, declaration, state=state)
            both = named(b"".join(lines[:place])) + named(again.output)
            late = set(named(whole.output)) - set(named(b"".join(lines[: place + 1])))
            repeated = len(both) - len(set(both))
            finished = not late
            assert repeated <= 9 or finished, (kind, place, repeated)


@pytest.mark.parametrize("order", [(99, 50, 98, 97, 40, 39, 38, 37, 96, 95), (80, 79, 77, 76, 99, 10, 9, 8, 98, 97)])
def test_what_was_not_sorted_is_read_to_its_end_by_the_run_that_goes_on(tmp_path: Path, order: tuple[int, ...]) -> None:
    """Within a page, and where two pages meet: records below the bookmark then are no end."""
    found, state = [rows.ROWS[number] for number in order], rows.bookmarked(rows.ROWS[60]["t"])
    with json_api(lambda _, params: rows.paged(found, params, 4)) as server:
        whole = run(tmp_path, server, rows.DESCENDING, state=state)
        assert [row["id"] for row in whole.records()] == list(order)
        for broken in whole.states[:-1]:
            again = run(tmp_path, server, rows.DESCENDING, state=broken)
            assert [row["id"] for row in again.records()][-2:] == list(order[-2:])
