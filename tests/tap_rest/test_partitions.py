"""Streams that are read once for each of something: where partitions come from, and what a failing one leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.tap_rest.harness import NOW, json_api, run, stream_of, written
from tests.tap_rest.hostile import response
from tests.tap_rest.rows import by_time, windowed

from tap_rest.engine import memory
from tap_rest.engine.checkpoint import Unit
from tap_rest.engine.engine import RunIncomplete
from tap_rest.engine.evidence import Walk
from tap_rest.engine.memory import MOST_PARTITIONS
from tap_rest.engine.state import State
from tap_rest.errors import DeclarationError
from tap_rest.language.declaration import load
from tap_rest.language.partitions import LONGEST_ID, Partition, partition

REPOS = """
errors:
  - {when: {status: 404}, then: skip_partition}
streams:
  repos:
    path: /repos
    records: $
    primary_keys: [id]
  issues:
    for_each: {stream: repos, as: repo}
    path: /repos/{repo.full_name}/issues
    records: items
    primary_keys: [id]
    include: {repository: "{repo.full_name}", repository_id: "{repo.id}"}
    replication: {key: t, order: ascending, param: since}
    paginator: {type: cursor, path: next, param: cursor}
"""
NAMES = ["org/a", "org/b", "org/c"]
REFUSED = response(b'{"message":"no"}', status="400 Bad Request")
GONE = response(b'{"message":"no"}', status="404 Not Found")


def issues(name: str, params: dict[str, str]) -> Any:
    """Six issues of each repository, two on a page."""
    rows = [{"id": f"{name}-{number}", "t": f"2024-05-0{number}T00:00:00Z"} for number in range(1, 7)]
    rows = [row for row in rows if row["t"] >= params.get("since", "")]
    start = int(params.get("cursor", 0))
    return {"items": rows[start : start + 2], "next": str(start + 2) if start + 2 < len(rows) else None}


def api(path: str, params: dict[str, str]) -> Any:
    if path == "/repos":
        return [{"id": number, "full_name": name} for number, name in enumerate(NAMES)]
    return issues(path.removeprefix("/repos/").removesuffix("/issues"), params)


def every_issue(*names: str) -> list[str]:
    return [f"{name}-{number}" for name in names or NAMES for number in range(1, 7)]


def ids(result: Any, stream: str = "issues") -> list[Any]:
    return [record["id"] for record in result.records(stream)]


@pytest.mark.case("R000-19")
@pytest.mark.case("R002-14")
def test_a_stream_is_read_once_for_each_record_of_its_parent(tmp_path: Path) -> None:
    with json_api(api) as server:
        result = run(tmp_path, server, REPOS)
        assert result.error is None
        assert ids(result) == every_issue()
        assert len(server.seen) == 1 + 3 * 3
        first = next(line for line in result.output.splitlines() if b"org/a-1" in line)
        assert b'"record":{"repository":"org/a","repository_id":0,"id":"org/a-1","t":' in first
        claim = result.claim("issues")
        assert (claim["status"], claim["partitions"]) == ("complete", {"complete": 3, "skipped": 0, "failed": 0})
        assert claim["evidence"]["records"] == claim["evidence"]["unique_keys"] == 18
        bookmarks = result.states[-1]["bookmarks"]["issues"]["partitions"]
        assert bookmarks == dict.fromkeys(NAMES, "2024-05-06T00:00:00Z")
        again = run(tmp_path, server, REPOS, state=result.states[-1])
        assert ids(again) == [f"{name}-6" for name in NAMES]
        assert again.claim("issues")["from"] == "2024-05-06T00:00:00Z"


def test_a_partition_without_a_bookmark_is_read_from_its_beginning(tmp_path: Path) -> None:
    state = {"bookmarks": {"issues": {"replication_key": "t", "partitions": {"org/a": "2024-05-05T00:00:00Z"}}}}
    with json_api(api) as server:
        result = run(tmp_path, server, REPOS, state=state)
    assert ids(result) == ["org/a-5", "org/a-6", *every_issue("org/b", "org/c")]
    assert result.claim("issues")["from"] == "2024-05-05T00:00:00Z"


@pytest.mark.case("C30")
@pytest.mark.case("R000-19")
def test_a_failing_partition_stops_no_other_and_moves_no_bookmark(tmp_path: Path) -> None:
    broken = {"org/b"}

    def flaky(path: str, params: dict[str, str]) -> Any:
        return REFUSED if any(name in path for name in broken) and params else api(path, params)

    with json_api(flaky) as server:
        result = run(tmp_path, server, REPOS)
        assert isinstance(result.error, RunIncomplete)
        assert result.error.exit_status == 3
        assert ids(result) == [*every_issue("org/a"), "org/b-1", "org/b-2", *every_issue("org/c")]
        claim = result.claim("issues")
        assert (claim["status"], claim["partitions"]) == (
            "partial",
            {"complete": 2, "skipped": 0, "failed": 1, "named": ["org/b"]},
        )
        kept = result.states[-1]["bookmarks"]["issues"]["partitions"]
        assert (kept["org/a"], kept["org/c"]) == ("2024-05-06T00:00:00Z",) * 2
        assert "value" not in kept["org/b"]
        broken.clear()
        again = run(tmp_path, server, REPOS, state=result.states[-1])
    assert again.error is None
    assert set(ids(result)) | set(ids(again)) == set(every_issue())
    assert again.states[-1]["bookmarks"]["issues"]["partitions"]["org/b"] == "2024-05-06T00:00:00Z"


@pytest.mark.case("R000-6")
def test_a_partition_that_the_declaration_leaves_out_is_counted_and_no_failure(tmp_path: Path) -> None:
    with json_api(lambda path, params: GONE if "/b/" in path else api(path, params)) as server:
        result = run(tmp_path, server, REPOS)
    assert result.error is None
    claim = result.claim("issues")
    assert (claim["status"], claim["partitions"]) == ("complete", {"complete": 2, "skipped": 1, "failed": 0})
    assert "org/b" in str(claim["evidence"])
    assert set(result.states[-1]["bookmarks"]["issues"]["partitions"]) == {"org/a", "org/c"}


def test_partitions_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    state = {"bookmarks": {"issues": {"replication_key": "t", "partitions": {"org/z": "2024-05-05T00:00:00Z"}}}}
    with json_api(api) as server:
        result = run(tmp_path, server, REPOS, state=state)
    assert set(result.states[-1]["bookmarks"]["issues"]["partitions"]) == set(NAMES)


@pytest.mark.case("R000-25")
def test_every_state_of_a_pass_leads_to_the_same_records(tmp_path: Path) -> None:
    with json_api(api) as server:
        whole = run(tmp_path, server, REPOS)
        lines = whole.output.splitlines()
        for place, line in enumerate(lines):
            if b'"type":"STATE"' not in line:
                continue
            before = [json.loads(text) for text in lines[:place] if b'"issues","record"' in text]
            again = run(tmp_path, server, REPOS, state=json.loads(line)["value"])
            assert again.error is None
            seen = [message["record"]["id"] for message in before] + ids(again)
            assert set(seen) == set(every_issue())
            over = b'"pass"' not in line and bool(before)
            assert len(seen) <= len(set(seen)) + (3 if over else 0), place


def test_a_parent_that_was_read_from_its_beginning_is_not_read_twice(tmp_path: Path) -> None:
    declaration = REPOS.replace(
        "    primary_keys: [id]\n  issues", "    primary_keys: [id]\n    replication: {key: t}\n  issues"
    )
    with json_api(
        lambda path, params: (
            [{**row, "t": "2024-01-01T00:00:00Z"} for row in api(path, params)]
            if path == "/repos"
            else api(path, params)
        )
    ) as server:
        result = run(tmp_path, server, declaration)
        assert sum("GET /repos " in seen for seen in server.seen) == 1
        again = run(tmp_path, server, declaration, state=result.states[-1])
        assert sum("GET /repos " in seen for seen in server.seen) == 3
    assert ids(again) == [f"{name}-6" for name in NAMES]


PULLS = """
streams:
  repos: {path: /repos, records: $, primary_keys: [id]}
  pulls:
    for_each: {stream: repos, as: repo}
    path: /repos/{repo.full_name}/pulls
    records: $
    primary_keys: [id]
    replication: {key: t, order: descending}
    paginator: {type: page_number}
  reviews:
    for_each: {stream: pulls, as: pull, only: changed}
    path: /repos/{repo.full_name}/pulls/{pull.number}/reviews
    records: $
    primary_keys: [id]
"""


class Pulls:
    """Repositories with pull requests whose reviews are read when they change."""

    def __init__(self) -> None:
        self.times = {(name, number): f"2024-05-0{number}T00:00:00Z" for name in NAMES for number in (1, 2, 3)}
        self.failing: set[str] = set()

    def __call__(self, path: str, params: dict[str, str]) -> Any:
        if path == "/repos":
            return api(path, params)
        if path in self.failing:
            return REFUSED
        if path.endswith("/reviews"):
            return [{"id": path}]
        name = path.removeprefix("/repos/").removesuffix("/pulls")
        rows = [
            {"id": f"{name}-{number}", "number": number, "t": time}
            for (repo, number), time in sorted(self.times.items(), key=lambda item: item[1], reverse=True)
            if repo == name
        ]
        page = int(params["page"])
        return rows[page * 2 - 2 : page * 2]


def reviews(*pulls: tuple[str, int]) -> list[str]:
    return [f"/repos/{name}/pulls/{number}/reviews" for name, number in pulls]


def test_children_are_read_when_their_parents_have_changed(tmp_path: Path) -> None:
    server_side = Pulls()
    with json_api(server_side) as server:
        result = run(tmp_path, server, PULLS)
        assert result.error is None
        assert sorted(ids(result, "reviews")) == reviews(*sorted(server_side.times))
        assert result.states[-1]["bookmarks"]["reviews"]["partitions"] == dict.fromkeys(NAMES, "2024-05-03T00:00:00Z")
        server_side.times["org/b", 1] = "2024-06-01T00:00:00Z"
        asked = len(server.seen)
        again = run(tmp_path, server, PULLS, state=result.states[-1])
        assert again.error is None
        # The bookmark is inclusive: what stands on it is read again.
        changed = {("org/b", 1), *((name, 3) for name in NAMES)}
        assert sorted(ids(again, "reviews")) == reviews(*sorted(changed))
        assert len(server.seen) - asked == 1 + (3 + 1) + len(changed), "a second page of org/b, to reach the bookmark"


@pytest.mark.case("R000-19")
@pytest.mark.case("trap:1.h")
def test_a_child_that_failed_is_read_again_although_its_parent_has_not_changed(tmp_path: Path) -> None:
    server_side = Pulls()
    (failing,) = server_side.failing = set(reviews(("org/a", 1)))
    with json_api(server_side) as server:
        result = run(tmp_path, server, PULLS)
        assert isinstance(result.error, RunIncomplete)
        kept = result.states[-1]["bookmarks"]["reviews"]
        assert list(kept["pending"].values()) == [{"repo.full_name": "org/a", "pull.number": 1}]
        assert kept["partitions"]["org/a"] == "2024-05-03T00:00:00Z"
        server_side.failing = set()
        again = run(tmp_path, server, PULLS, state=result.states[-1])
    assert again.error is None
    assert failing in ids(again, "reviews")
    assert "pending" not in again.states[-1]["bookmarks"]["reviews"]


def test_a_parent_that_fails_keeps_its_mark_and_its_childrens(tmp_path: Path) -> None:
    server_side = Pulls()
    server_side.failing = {"/repos/org/b/pulls"}
    with json_api(server_side) as server:
        result = run(tmp_path, server, PULLS)
        assert isinstance(result.error, RunIncomplete)
        assert set(result.states[-1]["bookmarks"]["reviews"]["partitions"]) == {"org/a", "org/c"}
        assert result.claim("reviews")["status"] == "partial"
        server_side.failing = set()
        again = run(tmp_path, server, PULLS, state=result.states[-1])
    assert again.error is None
    found = {*ids(result, "reviews"), *ids(again, "reviews")}
    assert found == set(reviews(*server_side.times))


@pytest.mark.parametrize(
    ("each", "asked"),
    [
        ("{items: [eu, us], as: it}", ["/eu/x", "/us/x"]),
        ("{setting: places, as: it}", ["/de/x", "/fr/x"]),
        ("{items: [7, 10], as: it}", ["/10/x", "/7/x"]),
    ],
)
def test_partitions_come_from_a_list_or_a_setting(tmp_path: Path, each: str, asked: list[str]) -> None:
    declaration = f"""
    settings: {{places: {{}}}}
    streams:
      rows: {{for_each: {each}, path: "/{{it}}/x", records: $, primary_keys: [id]}}
    """
    with json_api(lambda path, _: [{"id": path}]) as server:
        result = run(tmp_path, server, declaration, settings={"places": " fr, de,,fr "})
    assert ids(result, "rows") == asked


def test_partitions_of_mappings_have_the_values_of_each(tmp_path: Path) -> None:
    declaration = """
    streams:
      rows:
        for_each: {items: [{id: 1, zone: eu}, {id: 2, zone: us}], as: it}
        path: "/{it.zone}/{it.id}"
        records: $
        include: {zone: "{it.zone}"}
    """
    with json_api(lambda path, _: [{"path": path}]) as server:
        result = run(tmp_path, server, declaration)
    assert result.records() == [{"zone": "eu", "path": "/eu/1"}, {"zone": "us", "path": "/us/2"}]


@pytest.mark.case("R000-24")
@pytest.mark.case("trap:1.2.3")
def test_ids_are_looked_up_in_batches_and_all_of_them(tmp_path: Path) -> None:
    declaration = """
    streams:
      things: {path: /things, records: $, primary_keys: [id]}
      details:
        for_each: {stream: things, as: thing, batch: 100}
        path: /lookup
        params: {ids: "{thing.id}"}
        records: $
        primary_keys: [id]
    """

    def lookup(path: str, params: dict[str, str]) -> Any:
        wanted = params["ids"].split(",") if params else map(str, range(250))
        return [{"id": int(one), "path": path} for one in wanted]

    with json_api(lookup) as server:
        result = run(tmp_path, server, declaration)
        assert result.error is None
        assert len(server.seen) == 1 + 3
    assert sorted(ids(result, "details")) == list(range(250))


@pytest.mark.case("X7")
@pytest.mark.parametrize("name", ["../admin", "a/../../b", "..", "."])
def test_a_parents_value_never_leads_out_of_its_path(tmp_path: Path, name: str) -> None:
    with json_api(
        lambda path, params: [{"id": 1, "full_name": name}] if path == "/repos" else api(path, params)
    ) as server:
        result = run(tmp_path, server, REPOS)
        assert isinstance(result.error, RunIncomplete)
        assert len(server.seen) == 1


def test_a_parents_value_is_no_template_and_no_query(tmp_path: Path) -> None:
    name = "{settings.token}?x=1#y z"
    with json_api(
        lambda path, params: [{"id": 1, "full_name": name}] if path == "/repos" else api("/repos/a/issues", params)
    ) as server:
        result = run(tmp_path, server, REPOS)
        assert result.error is None
        assert "GET /repos/%7Bsettings.token%7D%3Fx=1%23y%20z/issues HTTP" in server.seen[1]


def test_a_parents_record_without_the_value_is_told(tmp_path: Path) -> None:
    with json_api(
        lambda path, params: [{"id": 1}, *api(path, params)] if path == "/repos" else api(path, params)
    ) as server:
        result = run(tmp_path, server, REPOS)
    assert isinstance(result.error, RunIncomplete)
    assert ids(result) == every_issue()
    assert result.claim("issues")["status"] == "partial"


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("for_each: {as: x}", "exactly one of"),
        ("for_each: {stream: repo, as: repo}", "did you mean `repos`?"),
        ("for_each: {stream: issues, as: repo}", "among its own parents"),
        ("for_each: {setting: orgs, as: repo}", "no setting `orgs`"),
        ("for_each: {stream: repos, as: bookmark}", "already has a meaning"),
        ("for_each: {stream: repos, as: rep}", "`{repo.full_name}` is not there"),
        ("for_each: {stream: repos, as: repo, only: changed}", "needs a `replication` of repos"),
        ("for_each: {stream: repos, as: repo, batch: 10}", "has no replication of its own"),
    ],
)
def test_partitions_from_nowhere_are_mistakes(tmp_path: Path, part: str, said: str) -> None:
    file = written(tmp_path, REPOS.replace("for_each: {stream: repos, as: repo}", part))
    with pytest.raises(DeclarationError) as caught:
        load(file)
    assert said in str(caught.value)


def partitioned(tmp_path: Path, replication: str = "{key: t}") -> Any:
    return stream_of(tmp_path, f"primary_keys: [id], for_each: {{items: [a], as: it}}, replication: {replication}")


def one(value: str | int) -> Partition:
    return partition({"it": value}, ["it"])


def told(state: State) -> int:
    return len(json.dumps(state.value(), separators=(",", ":")))


@pytest.mark.case("trap:3.8")
def test_ten_thousand_partitions_stay_below_a_mebibyte_and_more_are_kept_by_the_day(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stream, state = partitioned(tmp_path), State({}, now=NOW)
    state.begin_pass(stream, NOW)
    for number in range(MOST_PARTITIONS):
        name = f"{number:05}".rjust(LONGEST_ID, "n")
        state.complete(Unit(stream, NOW, partition=one(name)), Walk(stream), "2024-05-01T10:00:00.000000Z")
    assert told(state) < 1 << 20
    last = one("one more")
    state.complete(Unit(stream, NOW, partition=last), Walk(stream), "2024-06-01T10:00:00Z")
    assert told(state) < 1 << 18
    assert ["kept to the day" in warning for warning in state.told()] == [True]
    again = State(json.loads(json.dumps(state.value())), now=NOW)
    assert again.bookmark(stream, last) == "2024-06-01T00:00:00Z"
    assert again.bookmark(stream, one("00007".rjust(LONGEST_ID, "n"))) == "2024-05-01T00:00:00Z"
    assert again.bookmark(stream, one("unknown")) is None
    again.complete(Unit(stream, NOW, partition=last), Walk(stream), "2024-07-01T10:00:00Z")
    assert again.bookmark(stream, last) == "2024-07-01T00:00:00Z"


def test_keys_that_are_no_times_are_not_kept_by_the_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_PARTITIONS", 3)
    stream, state = partitioned(tmp_path, "{key: t, format: text}"), State({}, now=NOW)
    for number in range(5):
        state.complete(Unit(stream, NOW, partition=one(number)), Walk(stream), 1_700_000_000)
    assert [state.bookmark(stream, one(number)) for number in range(5)] == [None] * 5


def test_long_values_make_short_ids_that_differ() -> None:
    found = {one("x" * 1000 + str(number)).id for number in range(100)}
    assert len(found) == 100
    assert max(map(len, found)) == LONGEST_ID


@pytest.mark.parametrize(
    "entry",
    [{"partitions": []}, {"partitions": 7}, {"partitions": {"org/a": {"value": []}}}, {"days": "x"}, {"pass": 3}],
)
def test_what_is_not_understood_in_state_is_read_again(tmp_path: Path, entry: dict[str, Any]) -> None:
    with json_api(api) as server:
        result = run(tmp_path, server, REPOS, state={"bookmarks": {"issues": {"replication_key": "t", **entry}}})
    assert result.error is None
    assert ids(result) == every_issue()


def test_a_parent_is_read_once_for_all_its_children(tmp_path: Path) -> None:
    more = REPOS.replace("  issues:", "  more:") + REPOS.partition("primary_keys: [id]\n")[2]
    rows = [{**row, "t": "2024-01-01T00:00:00Z"} for row in api("/repos", {})]
    declaration = more.replace("    records: $\n", "    records: $\n    replication: {key: t}\n", 1)
    with json_api(lambda path, params: rows if path == "/repos" else api(path, params)) as server:
        first = run(tmp_path, server, declaration)
        assert sum("GET /repos " in seen for seen in server.seen) == 1
        again = run(tmp_path, server, declaration, state=first.states[-1])
        assert sum("GET /repos " in seen for seen in server.seen) == 1 + 2, "from its bookmark, and from its beginning"
    assert len(ids(again, "more")) == len(ids(again)) == 3


def test_start_date_hides_no_parent_from_its_children(tmp_path: Path) -> None:
    """A repository that has not changed for years has issues of today."""
    declaration = REPOS.replace(
        "    records: $\n",
        "    records: $\n    replication: {key: t, order: descending}\n    paginator: {type: page_number}\n",
        1,
    )
    times = {"org/a": "2026-01-01T00:00:00Z", "org/b": "2020-01-01T00:00:00Z", "org/c": "2019-01-01T00:00:00Z"}

    def by_page(path: str, params: dict[str, str]) -> Any:
        rows = [{**row, "t": times[row["full_name"]]} for row in api("/repos", {})]
        return rows[int(params["page"]) - 1 : int(params["page"])] if path == "/repos" else api(path, params)

    with json_api(by_page) as server:
        result = run(tmp_path, server, declaration, start_date="2024-05-02")
    assert [record["full_name"] for record in result.records("repos")] == ["org/a", "org/b"]
    assert {one.rpartition("-")[0] for one in ids(result)} == set(NAMES)
    assert min(record["t"] for record in result.records("issues")) == "2024-05-02T00:00:00Z"


def test_a_parent_that_arrives_late_within_the_lookback_has_its_children_read(tmp_path: Path) -> None:
    server_side = Pulls()
    declaration = PULLS.replace("{key: t, order: descending}", "{key: t, order: descending, lookback: 2d}")
    with json_api(server_side) as server:
        result = run(tmp_path, server, declaration)
        server_side.times["org/b", 9] = "2024-05-02T12:00:00Z"
        again = run(tmp_path, server, declaration, state=result.states[-1])
    assert reviews(("org/b", 9))[0] in ids(again, "reviews")


@pytest.mark.parametrize("again", ["304", "token"])
def test_a_parent_that_only_says_what_has_changed_keeps_all_its_children(tmp_path: Path, again: str) -> None:
    """Neither a 304 nor what a sync token brings is the list of all parents."""
    part = {
        "304": "    conditional: true\n",
        "token": "    paginator: {type: sync_token, path: next, param: page, token_path: sync, token_param: since}\n",
    }[again]
    declaration = REPOS.replace("    records: $\n", f"    records: items\n{part}", 1)
    tagged = json.dumps({"items": api("/repos", {}), "sync": "s1"}).encode()

    def changes(path: str, params: dict[str, str]) -> Any:
        if path != "/repos":
            return api(path, params)
        asked = server.seen[-1].lower()
        if 'if-none-match: "v1"' in asked:
            return response(b"", status="304 Not Modified", headers=['ETag: "v1"'])
        return {"items": [], "sync": "s2"} if "since" in params else response(tagged, headers=['ETag: "v1"'])

    with json_api(changes) as server:
        first = run(tmp_path, server, declaration)
        second = run(tmp_path, server, declaration, state=first.states[-1])
    assert (first.error, second.error) == (None, None)
    assert second.records("repos") == []
    assert ids(second) == [f"{name}-6" for name in NAMES]
    assert second.states[-1]["bookmarks"]["issues"] == first.states[-1]["bookmarks"]["issues"]


def test_a_page_in_flight_of_a_batch_is_left_when_it_has_other_members(tmp_path: Path) -> None:
    """The id of a batch is that of its last member."""
    things = ["a", "b", "d"]
    broken = [True]
    declaration = """
    streams:
      things: {path: /things, records: $, primary_keys: [id]}
      details:
        for_each: {stream: things, as: thing, batch: 3}
        path: /lookup
        params: {ids: "{thing.id}"}
        records: items
        primary_keys: [id]
        paginator: {type: cursor, path: next, param: cursor}
    """

    def answer(path: str, params: dict[str, str]) -> Any:
        if path == "/things":
            return [{"id": one} for one in things]
        wanted = params["ids"].split(",")
        if "cursor" not in params:
            return {"items": [{"id": one} for one in wanted[:2]], "next": "2"}
        return REFUSED if broken[0] else {"items": [{"id": one} for one in wanted[2:]]}

    with json_api(answer) as server:
        first = run(tmp_path, server, declaration)
        things[:], broken[0] = ["a", "c", "d"], False
        second = run(tmp_path, server, declaration, state=first.states[-1])
    assert ids(second, "details") == ["a", "c", "d"]


def test_days_are_those_of_the_key_and_of_the_partitions_that_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MOST_PARTITIONS", 1)

    def by_day(names: str, key: str = "t") -> str:
        more = f'for_each: {{items: [{names}], as: it}}\n        include: {{it: "{{it}}"}}'
        return windowed("start: 2027-01-01", more=more).replace("key: t", f"key: {key}")

    with json_api(by_time) as server:
        first = run(tmp_path, server, by_day("a, b, c"))
        fewer = run(tmp_path, server, by_day("a, b"), state=first.states[-1])
        other = run(tmp_path, server, by_day("a, b", "u"), state=first.states[-1])
    held = [len(memory.unpacked(one.states[-1]["bookmarks"]["rows"]["days"])) for one in (first, fewer)]
    assert held == [3, 2]
    assert ids(other, "rows") == [*range(200)] * 2
