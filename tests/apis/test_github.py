"""GitHub: the model server is as the vendor says, and `github.yaml` archives it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.apis.github import DAY, STAR, GitHub, Row, comment, event, repo
from tests.apis.model import NOW, Answer, Asked, Client, iso
from tests.apis.packaged import Clock, archived

from tap_rest.engine.engine import RunIncomplete
from tap_rest.errors import CredentialsRefused

HELLO = "/repos/octo-org/hello-world"


@pytest.fixture
def api() -> Iterator[GitHub]:
    with GitHub(starred=130) as server:
        yield server


def rows_of(ask: Client, path: str) -> list[Row]:
    """All pages, by their links."""
    answer = ask.get(path)
    rows: list[Row] = answer.json()
    while "next" in answer.links:
        answer = ask.get(answer.links["next"]["url"])
        rows += answer.json()
    return rows


def test_the_model_refuses_a_wrong_token_and_a_request_without_a_user_agent(ask: Client) -> None:
    assert ask.get("/user").json()["login"] == "octocat"
    assert ask.get("/user", {"Authorization": "Bearer ghp_other"}).status_code == 401
    assert ask.get("/user", {"User-Agent": ""}).status_code == 403
    assert ask.get("/user", {"X-GitHub-Api-Version": "2019-01-01"}).status_code == 400


def test_the_model_caps_its_pages_and_links_them(ask: Client) -> None:
    first = ask.get("/users/octocat/starred")
    assert len(first.json()) == 30
    assert set(first.links) == {"next", "last"}
    full = ask.get("/users/octocat/starred?per_page=500")
    assert (len(full.json()), "page=2" in full.links["next"]["url"]) == (100, True)
    assert set(ask.get("/users/octocat/starred?per_page=100&page=2").links) == {"prev", "first"}
    assert len(rows_of(ask, "/users/octocat/starred?per_page=100")) == 130
    assert [row["number"] for row in rows_of(ask, f"{HELLO}/issues?state=all&per_page=2")] == [5, 4, 3, 2, 1]


def test_the_model_sorts_and_filters_as_asked(ask: Client) -> None:
    assert [row["number"] for row in rows_of(ask, f"{HELLO}/issues")] == [5, 4, 2]
    since = rows_of(ask, f"{HELLO}/issues?state=all&sort=updated&direction=asc&since=2027-01-02T08:30:00Z")
    assert [row["number"] for row in since] == [2, 5, 4]
    names = [row["name"] for row in rows_of(ask, "/orgs/octo-org/repos?sort=updated&direction=desc")]
    assert names == ["hello-world", "spoon-knife", "no-issues", "empty-repo"]
    dates = [row["commit"]["committer"]["date"] for row in ask.get(f"{HELLO}/commits").json()]
    assert dates == sorted(dates, reverse=True)
    stars = ask.get(f"{HELLO}/stargazers", {"Accept": STAR}).json()
    assert [row["starred_at"] for row in stars] == ["2026-10-01T00:00:00Z", "2027-01-11T05:06:07Z"]
    assert "starred_at" not in ask.get(f"{HELLO}/stargazers").json()[0]


def test_the_model_says_409_for_an_empty_repository_and_404_for_what_is_off(ask: Client) -> None:
    assert ask.get("/repos/octo-org/empty-repo/commits").status_code == 409
    assert ask.get("/repos/octo-org/no-issues/issues").status_code == 404
    assert ask.get("/repos/octo-org/no-issues/pulls").json() == []
    assert ask.get("/repos/octo-org/other").status_code == 404


def test_the_model_counts_requests_but_not_304s(api: GitHub, ask: Client) -> None:
    first = ask.get("/user")
    assert (first.headers["x-ratelimit-remaining"], first.headers["x-ratelimit-reset"]) == (
        "4999",
        str(int(NOW) + 3600),
    )
    again = ask.get("/user", {"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["x-ratelimit-remaining"]) == (304, b"", "4999")
    assert ask.get("/rate_limit").json()["rate"]["remaining"] == 4999
    api.users["octocat"]["bio"] = "There once was"
    assert ask.get("/user", {"If-None-Match": first.headers["etag"]}).status_code == 200


def test_the_model_refuses_beyond_its_limits_until_the_reset() -> None:
    now = [NOW]
    with GitHub(clock=lambda: now[0], limit=2) as api, Client(api.url, api.auth) as ask:
        assert [ask.get("/user").status_code for _ in range(3)] == [200, 200, 403]
        api.refusal = 429
        refused = ask.get("/user")
        assert (refused.status_code, refused.headers["x-ratelimit-remaining"]) == (429, "0")
        now[0] = float(refused.headers["x-ratelimit-reset"])
        api.secondary = 1
        limited = ask.get("/user")
        assert (limited.status_code, limited.headers["retry-after"]) == (403, "90")
        assert "secondary rate limit" in limited.json()["message"]
        assert ask.get("/user").status_code == 200


def test_the_model_keeps_300_events_of_30_days(api: GitHub, ask: Client) -> None:
    name = "octo-org/hello-world"
    assert min(row["created_at"] for row in rows_of(ask, f"{HELLO}/events?per_page=100")) > iso(NOW - 30 * DAY)
    api.events[name] = [event(name, number, api.members[0], iso(NOW - 400 + number)) for number in range(350)]
    rows = rows_of(ask, f"{HELLO}/events?per_page=100")
    assert [len(rows), rows[0]["id"], rows[-1]["id"]] == [300, "45000000349", "45000000050"]
    assert ask.get(f"{HELLO}/events?per_page=100&page=4").status_code == 422
    assert ask.get(f"{HELLO}/events").headers["x-poll-interval"] == "60"


# --- github.yaml ------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(clock: Clock) -> Iterator[GitHub]:
    """The model, on the clock of the runs."""
    with GitHub(clock.now) as server:
        yield server


@pytest.mark.case("R002-26")
def test_repositories_are_read_until_the_bookmark_and_it_moves_at_the_end(
    world: GitHub, clock: Clock, tmp_path: Path
) -> None:
    world.repos += [repo(2000 + n, f"old-{n}", iso(NOW - n * DAY), iso(NOW - n * DAY)) for n in range(3, 253)]
    first = archived(tmp_path, world, clock, "repos")
    assert [first.error, len(first.records())] == [None, 254]
    newest = max(row["updated_at"] for row in world.repos)
    kept = [state["bookmarks"]["repos"].get("partitions", {}).get("octo-org") for state in first.states]
    assert [place if place == newest else sorted(place) for place in kept if place] == [
        ["page"],
        ["page"],
        newest,
        newest,
    ]
    world.forget()
    clock.wait(120)
    for changed in (world.repos[7], world.repos[99]):
        changed["updated_at"] = iso(clock.now() - 60)
    second = archived(tmp_path, world, clock, "repos", state=first.states[-1])
    assert [second.error, len(world.asked)] == [None, 1]
    assert [row["id"] for row in second.records()][:2] == [world.repos[99]["id"], world.repos[7]["id"]]


@pytest.mark.case("R002-26")
def test_an_exhausted_quota_is_waited_out_to_its_reset(clock: Clock, tmp_path: Path) -> None:
    with GitHub(clock.now, limit=3, starred=9) as world:
        ended = archived(tmp_path, world, clock, "starred", page_size=2, users="octocat")
        assert [ended.error, len(ended.records())] == [None, 9]
        assert len(world.asked) == 5  # none of them in vain
        assert 3500 < sum(clock.waits) <= 3700


@pytest.mark.parametrize(("said", "at_least"), [(90, 90), (5, 60), (None, 60)])
def test_a_secondary_limit_is_waited_out_for_a_minute_at_least(
    world: GitHub, clock: Clock, tmp_path: Path, said: int | None, at_least: int
) -> None:
    world.secondary, world.retry_after = 1, said
    ended = archived(tmp_path, world, clock, "gists", users="octocat")
    assert [ended.error, len(ended.records())] == [None, 3]
    assert at_least <= sum(clock.waits) < at_least + 10


def test_answers_that_have_not_changed_cost_nothing(world: GitHub, clock: Clock, tmp_path: Path) -> None:
    first = archived(tmp_path, world, clock, "releases", "events")
    used = world.core.used
    second = archived(tmp_path, world, clock, "releases", "events", state=first.states[-1])
    assert [second.error, second.records()] == [None, []]
    listed = world.paths()["/orgs/octo-org/repos"] // 2  # read anew for the sake of its children
    assert [world.core.used - used, world.free] == [listed, len(world.repos) * 2]
    world.releases["octo-org/hello-world"][0]["body"] = "Mended"
    third = archived(tmp_path, world, clock, "releases", state=second.states[-1])
    assert [row["tag_name"] for row in third.records()] == ["v3.0", "v2.0", "v1.0"]


def test_an_empty_repository_is_complete_and_what_is_switched_off_is_left_out(
    world: GitHub, clock: Clock, tmp_path: Path
) -> None:
    ended = archived(tmp_path, world, clock, "issues", "commits")
    assert ended.error is None
    claims = ended.states[-1]["claims"]
    counts = {name: claims[name][-1]["partitions"] for name in ("issues", "commits")}
    assert counts["issues"] == {"complete": 3, "skipped": 1, "failed": 0}
    assert counts["commits"] == {"complete": 4, "skipped": 0, "failed": 0}


def test_an_organisation_that_is_not_there_is_no_empty_one(world: GitHub, clock: Clock, tmp_path: Path) -> None:
    ended = archived(tmp_path, world, clock, "repos", "issues", organizations="octo-org,octo-orgg")
    assert isinstance(ended.error, RunIncomplete)
    assert len(ended.records("repos")) == 4  # the other one is read all the same
    assert ended.states[-1]["claims"]["repos"][-1]["partitions"]["failed"] == 1


def test_a_wrong_token_ends_the_run(world: GitHub, clock: Clock, tmp_path: Path) -> None:
    ended = archived(tmp_path, world, clock, token="ghp_wrong")
    assert isinstance(ended.error, CredentialsRefused)
    assert len(world.asked) <= 2


def test_a_comment_that_changes_while_pages_are_read_hides_no_other(clock: Clock, tmp_path: Path) -> None:
    name = "octo-org/hello-world"

    class Busy(GitHub):
        def answer(self, asked: Asked) -> Answer:
            found = super().answer(asked)
            if asked.path.endswith("hello-world/issues/comments") and asked.number("page", 1) == 1:
                self.comments[name][0]["updated_at"] = iso(NOW)  # the oldest moves to the front, and shifts the rest
            return found

    with Busy(clock.now) as world:
        times = [iso(NOW - number * DAY) for number in range(9, 0, -1)]
        mona = world.members[1]
        world.comments[name] = [comment(name, 1, mona, 100 + n, time, time) for n, time in enumerate(times)]
        first = archived(tmp_path, world, clock, "issue_comments", page_size=2)
        assert first.error is None
        assert {row["id"] for row in first.records()} >= {100 + n for n in range(1, 9)}
        clock.wait(60)
        second = archived(tmp_path, world, clock, "issue_comments", state=first.states[-1])
    assert 100 in [row["id"] for row in second.records()]


def test_events_that_github_no_longer_has_are_reported_lost(
    world: GitHub, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = archived(tmp_path, world, clock, "events")
    clock.wait(40 * DAY)
    world.events["octo-org/hello-world"].append(
        event("octo-org/hello-world", 99, world.members[0], iso(clock.now() - DAY))
    )
    second = archived(tmp_path, world, clock, "events", state=first.states[-1])
    assert [second.error, [row["id"] for row in second.records()]] == [None, ["45000000099"]]
    assert "beyond what the API keeps" in caplog.text
