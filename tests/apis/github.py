"""GitHub's REST API (2022-11-28) as docs.github.com describes it: an organisation, four repositories and a user.

Enforced: token, User-Agent and API version; 30 rows a page unless asked, 100 at most; `Link`, by page number or, for
issues, by cursor; 5,000 requests an hour with the headers that tell; secondary limits; ETags, whose 304 costs nothing;
409 for an empty repository, 404 for what is switched off; 300 events of 30 days, and 422 for pages beyond.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar

from tests.apis.model import NOW, Answer, Asked, Model, Refused, Window, iso, mark, seconds_of

TOKEN = "ghp_Th3Tok3nOfTheOctocatForTheModelServer0"
DOCS = "https://docs.github.com/rest"
DAY = 86400.0
STAR = "application/vnd.github.star+json"

Row = dict[str, Any]


class GitHub(Model):
    """The server.

    Attributes:
        cap: Rows that a page has at most, whatever is asked for.
        core: The hourly limit.
        secondary: The next so many requests run into a secondary limit,
        retry_after: which says so many seconds, or nothing at all with None.
        refusal: Status with which the hourly limit refuses: 403 and 429 are documented.
        free: Requests that an ETag answered.
        issues: By repository, as all that belongs to one; oldest first.
        gists: By login, as all that belongs to a user.
    """

    name = "github"
    settings: ClassVar = {"token": TOKEN, "organizations": "octo-org", "users": "octocat, mona"}
    auth: ClassVar = {"Authorization": f"Bearer {TOKEN}"}

    organisation: Row
    repos: list[Row]
    members: list[Row]
    users: dict[str, Row]
    issues: dict[str, list[Row]]
    comments: dict[str, list[Row]]
    pulls: dict[str, list[Row]]
    commits: dict[str, list[Row]]
    releases: dict[str, list[Row]]
    events: dict[str, list[Row]]
    stargazers: dict[str, list[Row]]
    gists: dict[str, list[Row]]
    followers: dict[str, list[Row]]
    starred: dict[str, list[Row]]

    def __init__(
        self, clock: Callable[[], float] = lambda: NOW, *, cap: int = 100, limit: int = 5000, starred: int = 5
    ) -> None:
        super().__init__(clock)
        self.cap, self.core = cap, Window(limit, 3600, clock)
        self.secondary, self.refusal = 0, 403
        self.retry_after: int | None = 90
        self.free = 0
        world(self, starred)

    def answer(self, asked: Asked) -> Answer:
        if not asked.headers.get("user-agent"):
            raise Refused(403, "Request forbidden by administrative rules: there is no User-Agent")
        if asked.path == "/rate_limit":
            return Answer({"resources": {"core": self._quota()}, "rate": self._quota()})
        self._authenticate(asked)
        if self.secondary:
            self.secondary -= 1
            wait = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
            raise Refused(403, _said("You have exceeded a secondary rate limit.", "overview"), {**wait, **self._told()})
        if not self.core.left:
            raise Refused(
                self.refusal, _said("API rate limit exceeded for user ID 583231.", "rate-limit"), self._told()
            )
        try:
            answer = self._answer(asked)
        except Refused as refused:
            self.core.take()
            refused.answer.headers.update(self._told())
            raise
        etag = f'W/"{mark(answer.text, answer.headers.get("Link"))}"'
        if etag in asked.headers.get("if-none-match", ""):
            self.free += 1
            return Answer(None, 304, {"ETag": etag, **self._told()})
        self.core.take()
        return Answer(answer.body, answer.status, {"ETag": etag, **answer.headers, **self._told()})

    def _authenticate(self, asked: Asked) -> None:
        if asked.headers.get("authorization") not in (f"Bearer {TOKEN}", f"token {TOKEN}"):
            raise Refused(401, _said("Bad credentials", ""))
        version = asked.headers.get("x-github-api-version", "2022-11-28")
        if version != "2022-11-28":
            raise Refused(400, _said(f"{version} is not a supported version.", "overview"))

    def _quota(self) -> dict[str, int]:
        left = self.core.left
        return {
            "limit": self.core.limit,
            "remaining": left,
            "reset": int(self.core.reset),
            "used": self.core.limit - left,
        }

    def _told(self) -> dict[str, str]:
        return {f"x-ratelimit-{name}": str(value) for name, value in self._quota().items()} | {
            "x-ratelimit-resource": "core"
        }

    def _answer(self, asked: Asked) -> Answer:
        match asked.path.strip("/").split("/"):
            case ["user"]:
                return Answer(self.users["octocat"])
            case ["users", login, *rest] if login in self.users:
                return self._of_user(asked, login, "/".join(rest))
            case ["orgs", "octo-org"]:
                return Answer(self.organisation)
            case ["orgs", "octo-org", "members"]:
                return self._page(asked, self.members)
            case ["orgs", "octo-org", "repos"]:
                return self._page(asked, _sorted(asked, self.repos))
            case ["repos", owner, name, *rest]:
                repo = next((one for one in self.repos if one["full_name"] == f"{owner}/{name}"), None)
                if repo is not None:
                    return self._in_repo(asked, repo, "/".join(rest))
        raise _not_found()

    def _of_user(self, asked: Asked, login: str, what: str) -> Answer:
        match what:
            case "":
                return Answer(self.users[login])
            case "gists":
                return self._page(asked, _since(asked, self.gists[login]))
            case "followers":
                return self._page(asked, self.followers[login])
            case "starred":
                newest = sorted(self.starred[login], key=lambda star: str(star["starred_at"]), reverse=True)
                return self._page(asked, newest if _starring(asked) else [star["repo"] for star in newest])
        raise _not_found()

    def _in_repo(self, asked: Asked, repo: Row, what: str) -> Answer:
        name = repo["full_name"]
        if what.startswith("issues") and not repo["has_issues"]:
            raise _not_found()
        match what:
            case "":
                return Answer(repo)
            case "issues":
                rows = _state(asked, _since(asked, self.issues[name]))
                return self._page(asked, _sorted(asked, rows), cursor=True)
            case "issues/comments":
                rows = _since(asked, self.comments[name])
                return self._page(asked, _sorted(asked, rows, "asc") if "sort" in asked.params else rows)
            case "pulls":
                usual = "desc" if asked.params.get("sort", "created") == "created" else "asc"
                return self._page(asked, _sorted(asked, _state(asked, self.pulls[name]), usual))
            case "commits":
                return self._page(asked, self._history(asked, name))
            case "releases":
                return self._page(asked, self.releases[name][::-1])
            case "stargazers":
                rows = self.stargazers[name]
                return self._page(asked, rows if _starring(asked) else [row["user"] for row in rows])
            case "events":
                return self._feed(asked, name)
        raise _not_found()

    def _history(self, asked: Asked, name: str) -> list[Row]:
        if not self.commits[name]:
            raise Refused(409, _said("Git Repository is empty.", "commits/commits#list-commits"))
        since = seconds_of(asked.params.get("since", "1970-01-01T00:00:00Z"))
        until = seconds_of(asked.params.get("until", "9999-12-31T23:59:59Z"))
        rows = [row for row in self.commits[name] if since <= _committed(row) <= until]
        return sorted(rows, key=_committed, reverse=True)

    def _feed(self, asked: Asked, name: str) -> Answer:
        if (asked.number("page", 1) - 1) * min(asked.number("per_page", 30), 100) >= 300:
            raise Refused(422, _said("In order to keep the API fast for everyone, pagination is limited", ""))
        kept = [row for row in self.events[name] if seconds_of(row["created_at"]) > self.clock() - 30 * DAY]
        answer = self._page(asked, kept[-300:][::-1])
        return Answer(answer.body, 200, {**answer.headers, "X-Poll-Interval": "60"})

    def _page(self, asked: Asked, rows: list[Row], *, cursor: bool = False) -> Answer:
        size = min(asked.number("per_page", 30), 100, self.cap)
        if cursor:
            at = int(asked.params.get("after", "c0").removeprefix("c"))
            links = {"next": asked.url(self.url, after=f"c{at + size}")} if at + size < len(rows) else {}
        else:
            page, last = asked.number("page", 1), max(1, -(-len(rows) // size))
            at = (page - 1) * size
            back, on = {"prev": page - 1, "first": 1}, {"next": page + 1, "last": last}
            pages = {**(back if page > 1 else {}), **(on if page < last else {})}
            links = {rel: asked.url(self.url, page=to) for rel, to in pages.items()}
        header = ", ".join(f'<{url}>; rel="{rel}"' for rel, url in links.items())
        return Answer(rows[at : at + size], 200, {"Link": header} if header else {})


def _said(message: str, page: str) -> Row:
    return {"message": message, "documentation_url": f"{DOCS}/{page}"}


def _not_found() -> Refused:
    return Refused(404, {**_said("Not Found", ""), "status": "404"})


def _starring(asked: Asked) -> bool:
    return STAR in asked.headers.get("accept", "")


def _since(asked: Asked, rows: list[Row]) -> list[Row]:
    text = asked.params.get("since", "")
    if text and not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text):
        raise Refused(422, _said("Validation Failed", ""))
    return [row for row in rows if row["updated_at"] >= text]


def _state(asked: Asked, rows: list[Row]) -> list[Row]:
    wanted = asked.params.get("state", "open")
    return [row for row in rows if wanted in ("all", row["state"])]


def _sorted(asked: Asked, rows: list[Row], usual: str = "desc") -> list[Row]:
    """As `sort` and `direction` ask; what is not known counts as not said."""
    fields = {"created": "created_at", "updated": "updated_at", "pushed": "pushed_at", "full_name": "full_name"}
    sort = asked.params.get("sort", "")
    usual = "asc" if sort == "full_name" else usual
    ordered = sorted(rows, key=lambda row: (row[fields.get(sort, "created_at")] or "", row["id"]))
    return ordered[::-1] if asked.params.get("direction", usual) == "desc" else ordered


def _committed(row: Row) -> float:
    return seconds_of(row["commit"]["committer"]["date"])


# --- the world --------------------------------------------------------------------------------------------------------

ROOT = "https://api.github.com"


def world(api: GitHub, starred: int) -> None:
    """Fills the server: `hello-world` has something of everything, `spoon-knife` little, the others are odd."""
    api.organisation = {
        **account("octo-org", 6811672, kind="Organization"),
        "description": "Where the octocats work",
        "blog": None,
        "public_repos": 4,
        "created_at": "2014-02-28T21:46:58Z",
        "updated_at": "2027-01-10T09:00:00Z",
    }
    octocat, mona, bot = account("octocat", 583231), account("mona", 9919), account("dependabot[bot]", 49699333, "Bot")
    api.users = {"octocat": {**octocat, **_profile("octocat")}, "mona": {**mona, **_profile("mona")}}
    api.members = [octocat, mona]
    hello, spoon = "octo-org/hello-world", "octo-org/spoon-knife"
    api.repos = [
        repo(1296269, "hello-world", "2011-01-26T19:01:12Z", "2027-01-14T22:10:00Z"),
        repo(1300192, "spoon-knife", "2011-01-27T19:30:43Z", "2026-12-01T08:00:00Z"),
        repo(912345678, "empty-repo", "2026-11-02T10:00:00Z", "2026-11-02T10:00:00Z", language=None, pushed_at=None),
        repo(912345999, "no-issues", "2026-11-03T10:00:00Z", "2026-11-20T10:00:00Z", has_issues=False, archived=True),
    ]
    for kind in ("issues", "comments", "pulls", "commits", "releases", "events", "stargazers"):
        setattr(api, kind, {one["full_name"]: [] for one in api.repos})
    api.issues[hello] = [
        issue(hello, 1, mona, "2026-09-01T10:00:00Z", "2026-09-03T12:00:00Z", state="closed"),
        issue(hello, 2, octocat, "2026-10-05T10:00:00Z", "2027-01-02T08:30:00Z", body=None),
        issue(hello, 3, mona, "2026-10-09T11:00:00Z", "2026-10-12T00:00:00Z", pull=True, state="closed"),
        issue(hello, 4, bot, "2026-12-24T23:59:59Z", "2027-01-14T22:00:00Z", pull=True),
        issue(hello, 5, octocat, "2027-01-13T07:00:00Z", "2027-01-13T07:00:00Z", body='Größe: 3 µm "quoted" 🐙'),
    ]
    api.issues[spoon] = [issue(spoon, 1, mona, "2026-08-08T08:08:08Z", "2026-08-09T08:08:08Z")]
    api.comments[hello] = [
        comment(hello, 1, mona, 3_700_000_001, "2026-09-02T10:00:00Z", "2026-09-02T10:00:00Z"),
        comment(hello, 1, octocat, 3_700_000_002, "2026-09-03T12:00:00Z", "2026-12-30T12:00:00Z"),
        comment(hello, 2, bot, 3_700_000_003, "2027-01-02T08:30:00Z", "2027-01-02T08:30:00Z"),
    ]
    api.pulls[hello] = [pull(hello, row) for row in api.issues[hello] if "pull_request" in row]
    api.commits[hello] = [
        commit(hello, f"Change {number}", mona if number % 2 else octocat, f"2026-1{number % 3}-0{number}T10:00:00Z")
        for number in (3, 6, 1, 4, 7, 2, 5)
    ]
    api.commits[spoon] = [commit(spoon, "Sharpen", None, "2026-07-01T10:00:00Z")]
    api.releases[hello] = [
        release(hello, number, mona, created, published)
        for number, created, published in (
            (1, "2026-09-03T12:00:00Z", "2026-09-03T13:00:00Z"),
            (2, "2026-12-01T12:00:00Z", "2026-12-02T07:00:00Z"),
            (3, "2027-01-14T12:00:00Z", None),
        )
    ]
    api.events[hello] = [
        event(hello, number, mona if number % 2 else bot, iso(NOW - 40 * DAY + number * 4 * DAY))
        for number in range(10)
    ]
    api.stargazers[hello] = [
        {"starred_at": "2026-10-01T00:00:00Z", "user": mona},
        {"starred_at": "2027-01-11T05:06:07Z", "user": octocat},
    ]
    api.gists = {"mona": [], "octocat": [gist(octocat, number) for number in range(3)]}
    api.followers = {"mona": [octocat], "octocat": [mona, bot]}
    api.starred = {
        "mona": [{"starred_at": "2026-01-01T00:00:00Z", "repo": api.repos[1]}],
        "octocat": [
            {
                "starred_at": iso(NOW - (starred - number) * DAY),
                "repo": repo(500 + number, f"star-{number}", "2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            }
            for number in range(starred)
        ],
    }


def account(login: str, number: int, kind: str = "User") -> Row:
    return {
        "login": login,
        "id": number,
        "node_id": f"U_{mark(login)[:12]}",
        "avatar_url": f"https://avatars.githubusercontent.com/u/{number}?v=4",
        "gravatar_id": "",
        "url": f"{ROOT}/users/{login}",
        "html_url": f"https://github.com/{login}",
        "type": kind,
        "site_admin": False,
    }


def _profile(login: str) -> Row:
    return {
        "name": f"The {login}",
        "company": "@github",
        "email": None,
        "hireable": None,
        "bio": None,
        "public_repos": 8,
        "followers": 2,
        "created_at": "2011-01-25T18:44:36Z",
        "updated_at": "2026-12-22T11:22:33Z",
    }


def repo(number: int, name: str, created: str, updated: str, **other: Any) -> Row:
    return {
        "id": number,
        "node_id": f"R_{mark(name)[:12]}",
        "name": name,
        "full_name": f"octo-org/{name}",
        "private": False,
        "owner": account("octo-org", 6811672, "Organization"),
        "description": None,
        "fork": False,
        "url": f"{ROOT}/repos/octo-org/{name}",
        "created_at": created,
        "updated_at": updated,
        "pushed_at": updated,
        "homepage": "",
        "size": 108,
        "stargazers_count": 80,
        "language": "C",
        "has_issues": True,
        "has_wiki": False,
        "archived": False,
        "license": {"key": "mit", "name": "MIT License", "spdx_id": "MIT", "url": None},
        "topics": ["octocat", "atom"],
        "visibility": "public",
        "default_branch": "main",
        "permissions": {"admin": False, "push": False, "pull": True},
        **other,
    }


def issue(name: str, number: int, author: Row, created: str, updated: str, *, pull: bool = False, **other: Any) -> Row:
    url = f"{ROOT}/repos/{name}"
    row = {
        "id": 2_400_000_000 + int(mark(name)[:4], 16) * 100 + number,
        "node_id": f"I_{mark(name, number)[:12]}",
        "url": f"{url}/issues/{number}",
        "repository_url": url,
        "number": number,
        "title": f"Found a bug, number {number}",
        "user": author,
        "labels": [{"id": 208045946, "node_id": "LA_1", "name": "bug", "color": "f29513", "default": True}],
        "state": "open",
        "locked": False,
        "assignee": None,
        "assignees": [],
        "milestone": None,
        "comments": 0,
        "created_at": created,
        "updated_at": updated,
        "closed_at": updated if other.get("state") == "closed" else None,
        "author_association": "CONTRIBUTOR",
        "body": "I'm having a problem with this.",
        "reactions": {"url": f"{url}/issues/{number}/reactions", "total_count": 0, "+1": 0, "-1": 0},
        "state_reason": None,
        **other,
    }
    if pull:
        row["pull_request"] = {"url": f"{url}/pulls/{number}", "merged_at": None}
    return row


def pull(name: str, of: Row) -> Row:
    shared = ("number", "state", "title", "user", "body", "created_at", "updated_at", "closed_at", "labels")
    return {
        "id": of["id"] - 1_000_000_000,
        "node_id": f"PR_{mark(name, of['number'])[:12]}",
        "url": of["pull_request"]["url"],
        **{field: of[field] for field in shared},
        "merged_at": of["closed_at"],
        "merge_commit_sha": mark(name, of["number"]) * 2 + "00000000",
        "draft": False,
        "head": {"label": f"mona:fix-{of['number']}", "ref": f"fix-{of['number']}", "repo": None},
        "base": {"label": "octo-org:main", "ref": "main", "repo": {"id": 1296269, "full_name": name}},
        "auto_merge": None,
    }


def comment(name: str, number: int, author: Row, key: int, created: str, updated: str) -> Row:
    return {
        "id": key,
        "node_id": f"IC_{mark(key)[:12]}",
        "url": f"{ROOT}/repos/{name}/issues/comments/{key}",
        "issue_url": f"{ROOT}/repos/{name}/issues/{number}",
        "user": author,
        "created_at": created,
        "updated_at": updated,
        "author_association": "NONE",
        "body": "Me too\r\n",
        "reactions": {"total_count": 1, "+1": 1, "-1": 0},
        "performed_via_github_app": None,
    }


def commit(name: str, message: str, author: Row | None, time: str) -> Row:
    sha = (mark(name, message) * 3)[:40]
    person = {"name": "Monalisa Octocat", "email": "support@github.com", "date": time}
    return {
        "sha": sha,
        "node_id": f"C_{sha[:20]}",
        "url": f"{ROOT}/repos/{name}/commits/{sha}",
        "commit": {
            "author": person,
            "committer": person,
            "message": message,
            "tree": {"sha": sha[::-1], "url": f"{ROOT}/repos/{name}/git/trees/{sha[::-1]}"},
            "comment_count": 0,
            "verification": {"verified": False, "reason": "unsigned", "signature": None, "payload": None},
        },
        "author": author,
        "committer": author,
        "parents": [],
    }


def release(name: str, number: int, author: Row, created: str, published: str | None) -> Row:
    return {
        "id": 190_000_000 + number,
        "node_id": f"RE_{number}",
        "url": f"{ROOT}/repos/{name}/releases/{190_000_000 + number}",
        "tag_name": f"v{number}.0",
        "target_commitish": "main",
        "name": None if published is None else f"v{number}.0",
        "draft": published is None,
        "prerelease": False,
        "created_at": created,
        "published_at": published,
        "author": author,
        "assets": [{"id": 7, "name": "example.zip", "size": 1024, "download_count": 42, "label": None}],
        "body": "What has changed",
    }


def event(name: str, number: int, actor: Row, created: str) -> Row:
    return {
        "id": str(45_000_000_000 + number),
        "type": "WatchEvent" if number % 2 else "PushEvent",
        "actor": {"id": actor["id"], "login": actor["login"], "display_login": actor["login"], "gravatar_id": ""},
        "repo": {"id": 1296269, "name": name, "url": f"{ROOT}/repos/{name}"},
        "payload": {"action": "started"} if number % 2 else {"push_id": 22_000_000_000 + number, "commits": []},
        "public": True,
        "created_at": created,
    }


def gist(owner: Row, number: int) -> Row:
    key = mark("gist", number) * 2
    return {
        "url": f"{ROOT}/gists/{key}",
        "id": key,
        "node_id": f"G_{key[:12]}",
        "files": {f"hello_{number}.rb": {"type": "application/x-ruby", "language": "Ruby", "size": 167}},
        "public": True,
        "created_at": f"2026-0{number + 1}-14T02:53:55Z",
        "updated_at": f"2026-1{number}-20T18:32:39Z",
        "description": "",
        "comments": 0,
        "user": None,
        "owner": owner,
        "truncated": False,
    }
