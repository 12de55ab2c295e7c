"""A hundred rows, the APIs that serve them by offset, cursor and time, and the declarations that read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.tap_rest.harness import Answered

ROWS = [{"id": number, "t": f"2024-01-01T00:{number // 60:02}:{number % 60:02}Z"} for number in range(100)]

OFFSET = """
streams:
  rows:
    path: /rows
    records: items
    paginator: {type: offset, page_size: 10, total: total}
    primary_keys: [id]
"""
CURSOR = """
streams:
  rows:
    path: /rows
    records: items
    paginator: {type: cursor, path: next, param: cursor}
    primary_keys: [id]
"""
ASCENDING = """
streams:
  rows:
    path: /rows
    records: items
    primary_keys: [id]
    replication: {key: t, order: ascending, param: since, until_param: until}
    paginator: {type: cursor, path: next, param: cursor}
"""
DESCENDING = ASCENDING.replace("ascending, param: since, until_param: until", "descending, inclusive: true")


def bookmarked(value: Any) -> dict[str, Any]:
    """A STATE in which the stream has been read up to there."""
    return {"bookmarks": {"rows": {"replication_key": "t", "replication_key_value": value}}}


def also(name: str, declaration: str = CURSOR) -> str:
    """The stream of a declaration once more, with a name and a path of its own, to follow another declaration."""
    return declaration.replace("streams:\n", "").replace("rows:", f"{name}:").replace("/rows", f"/{name}")


def by_offset(_: str, params: dict[str, str]) -> Any:
    start = int(params["offset"])
    return {"total": len(ROWS), "items": ROWS[start : start + int(params["limit"])]}


def paged(rows: list[Any], params: dict[str, str], size: int = 10) -> Any:
    """A page by cursor."""
    start = int(params.get("cursor", 0))
    return {"items": rows[start : start + size], "next": str(start + size) if start + size < len(rows) else None}


def by_cursor(_: str, params: dict[str, str]) -> Any:
    return paged(ROWS, params)


def since(rows: list[Any], *, descending: bool = False, size: int = 10) -> Answered:
    """An API that gives rows by cursor, from a time and until one if asked."""

    def answer(_: str, params: dict[str, str]) -> Any:
        found = [row for row in rows if (row.get("t") or "9") >= params.get("since", "")]
        found = [row for row in found if (row.get("t") or "") < params.get("until", "z")]
        return paged(found[::-1] if descending else found, params, size)

    return answer


# --- windows ----------------------------------------------------------------------------------------------------------

HOURS = [
    {"id": number, "t": f"{datetime(2027, 1, 1, tzinfo=UTC) + timedelta(hours=number):%Y-%m-%dT%H:%M:%SZ}"}
    for number in range(200)
]


def windowed(replication: str, paginator: str = "single_page", more: str = "") -> str:
    return f"""
    streams:
      rows:
        path: /rows
        records: items
        primary_keys: [id]
        paginator: {{type: {paginator}}}
        replication: {{key: t, param: since, until_param: until, {replication}}}
        {more}
    """


def by_time(_: str, params: dict[str, str]) -> Any:
    found = [row for row in HOURS if params.get("since", "") <= str(row["t"]) < params.get("until", "9")]
    return {"items": found, "total": len(found)}
