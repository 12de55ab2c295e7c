"""README is true: its declarations load, its commands exist. The reference page has every word of the language."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from tests.reference import PAGE, Reference

from daykeep.cli import main
from tap_rest.language.declaration import load
from tap_rest.language.schema import language_schema
from target_archive.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
REFERENCE = Reference(language_schema())
BLOCKS = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)


def test_the_declaration_in_readme_loads_and_is_short(tmp_path: Path) -> None:
    path = tmp_path / "github.yaml"
    path.write_text(BLOCKS[0])
    declaration = load(path)
    assert set(declaration.streams) == {"issues", "comments", "releases"}
    assert len(BLOCKS[0].splitlines()) <= 40


def test_a_typo_in_it_is_answered_as_readme_says(tmp_path: Path) -> None:
    path = tmp_path / "github.yaml"
    path.write_text(BLOCKS[0].replace("type: link_header", "type: link_heder"))
    command = [str(Path(sys.executable).parent / "tap-rest"), "--config", f'{{"declaration": "{path}"}}', "--discover"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    told = re.search(r"``github\.yaml:11: (.*?)``\n", README)
    assert told
    assert f"github.yaml:11: {told[1]}" in result.stderr


def test_the_other_yaml_blocks_are_yaml() -> None:
    assert all(yaml.safe_load(block) for block in BLOCKS)


def test_readme_names_every_command_and_setting() -> None:
    assert all(f"daykeep {name}" in README for name in main.commands)
    assert all(f"`{name}`" in README for name in Settings.__struct_fields__)


def test_every_link_leads_to_a_file_and_a_heading_in_it() -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]+)(?:#([^)]*))?\)", README):
        assert (ROOT / target).exists(), target
        assert not anchor or anchor in anchors((ROOT / target).read_text()), anchor
    page = REFERENCE.text()
    assert set(re.findall(r"\]\(#(.+?)\)", page)) <= set(anchors(page))


def anchors(page: str) -> list[str]:
    """What the headings of a page are linked by."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    found = [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]
    assert len(set(found)) == len(found)
    return found


def test_the_reference_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == REFERENCE.text(), "run `python -m tests.reference`"


def test_the_declaration_at_its_head_loads(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(re.findall(r"```yaml\n(.*?)```", REFERENCE.text(), re.DOTALL)[0])
    assert set(load(tmp_path / "x.yaml").streams) == {"items"}


def words(shape: Any) -> Iterator[str]:
    """Every word of the language: options, kinds, values that are words, and how patterned texts look."""
    if isinstance(shape, dict):
        yield from shape.get("properties", ())
        yield from shape.get("enum", ())
        yield from shape.get("examples", ())
        shape = [*shape.values()]
    for inner in shape if isinstance(shape, list) else ():
        yield from words(inner)


def test_the_reference_page_has_every_word() -> None:
    page = REFERENCE.text()
    known = set(words(language_schema()))
    assert {"sync_token", "authorization_code", "x-ratelimit", "skip_partition", "epoch_ms", "for_each", "csv"} < known
    assert [word for word in sorted(known) if not re.search(rf"`([\w.]+: )?{re.escape(word)}`", page)] == []


WANTED = {
    # What a declaration must be able to say, and how it says it: a component, an option, or `option=value`.
    "no credentials": ["auth.none"],
    "an API key in header, query or cookie": [f"auth.api_key.in={place}" for place in ("header", "query", "cookie")],
    "user name and password": ["auth.basic"],
    "a bearer token": ["auth.bearer"],
    "OAuth 2.0 for a client": ["auth.oauth2.grant=client_credentials"],
    "rotating refresh tokens": ["auth.oauth2.grant=refresh_token", "auth.oauth2.refresh_path"],
    "a browser log-in with PKCE": ["auth.oauth2.grant=authorization_code", "auth.oauth2.authorize_url"],
    "a log-in by a code": ["auth.oauth2.grant=device_code", "auth.oauth2.device_url"],
    "OAuth 2.0 by password": ["auth.oauth2.grant=password"],
    "client auth as form, JSON or basic": [f"auth.oauth2.client_auth={way}" for way in ("form", "json", "basic")],
    "service accounts": ["auth.oauth2.grant=jwt_bearer", "auth.oauth2.assertion"],
    "signed claims": [f"auth.jwt.algorithm={name}" for name in ("RS256", "ES256", "HS256")],
    "OAuth 1.0a": ["auth.oauth1a"],
    "AWS signatures": ["auth.aws_sigv4"],
    "a template of what is signed": ["auth.hmac.message"],
    "a log-in request with a lifetime": ["auth.session.login_url", "auth.session.lifetime"],
    "several credentials, rotated by what is left": ["auth.pool.of"],
    "lists in the query": [f"lists={how}" for how in ("repeat", "comma", "brackets")],
    "bodies": ["body", "body_as=json", "body_as=form"],
    "explicit fields, in chunks": ["params", "lists=comma", "streams.for_each.items"],
    "GET and POST": ["method=GET", "method=POST", "params", "headers", "body"],
    "timeouts": ["timeouts.connect", "timeouts.read", "timeouts.total"],
    "one page": ["paginator.single_page"],
    "offsets": ["paginator.offset"],
    "page numbers": ["paginator.page_number"],
    "cursors, from body or header": ["paginator.cursor.path", "paginator.cursor.header"],
    "cursors, into anything": [f"paginator.cursor.{to}" for to in ("param", "into_body", "into_header", "next_path")],
    "the last record's field": ["paginator.keyset.field", "paginator.keyset.unique"],
    "link headers": ["paginator.link_header"],
    "the next page's URL": ["paginator.next_url"],
    "sync tokens": ["paginator.sync_token.expired"],
    "time windows around any paginator": ["replication.window"],
    "a cap of results, split": ["paginator.offset.result_cap"],
    "pages side by side": ["paginator.offset.stable", "limits.concurrency"],
    "overlapping offsets": ["paginator.offset.overlap"],
    "a flag that ends": ["paginator.cursor.has_more"],
    "a declared total": ["paginator.offset.total", "paginator.page_number.total_pages"],
    "a short page that ends": ["paginator.offset.short_page_ends"],
    "the reached bookmark": ["replication.order=descending"],
    "a cap of pages": ["paginator.offset.max_pages"],
    "records at a path": ["records.path.path"],
    "one object": ["records.single"],
    "objects by id": ["records.object_map"],
    "maps keyed by date": ["records.path.key_as"],
    "a root array": ["records.root"],
    "bare values": ["records.path.value_as"],
    "tables and columns": ["records.table", "records.columns"],
    "formats": ["format.json", "format.jsonl", "format.csv", "format.xml"],
    "files of a zip": ["format.json.member"],
    "predicates": [f"errors.when.{test}" for test in ("status", "header", "body", "content_type", "contains")],
    "verdicts": [f"errors.then={word}" for word in ("ok", "empty", "retry", "wait", "reauth", "skip_record")],
    "verdicts of failure": [f"errors.then={word}" for word in ("skip_partition", "fail_stream", "abort")],
    "when to ask again": ["errors.until.header", "errors.until.body"],
    "quotas, several windows and weights": ["limits.quota", "limits.window", "limits.match.weight"],
    "limits by path and method": ["limits.match.path", "limits.match.method"],
    "header families": [f"limits.headers={name}" for name in ("x-ratelimit", "ratelimit", "zendesk", "strava", "meta")],
    "a share for others": ["limits.reserve"],
    "for each of a parent, a list, a setting": [f"streams.for_each.{of}" for of in ("stream", "items", "setting")],
    "look-ups in batches": ["streams.for_each.batch"],
    "reports that have to be prepared": [f"streams.job.{word}" for word in ("id", "poll", "status", "running", "done")],
    "their result, a file or pages": ["streams.job.url", "streams.job.origins", "streams.job.result"],
    "their failures": ["streams.job.failed", "streams.job.timeout", "streams.job.tries"],
    "cleaning up after them": ["streams.job.delete"],
    "children of changed parents": ["streams.for_each.only=changed"],
    "order": ["replication.order=ascending", "replication.order=none", "replication.inclusive"],
    "late records": ["replication.lookback", "replication.lag"],
    "times as the API has them": ["replication.param", "replication.format", "replication.timezone"],
    "formats of times": [f"replication.format={how}" for how in ("iso", "date", "epoch_s", "epoch_ms", "epoch_us")],
    "steps of time": ["replication.granularity"],
    "where time begins and ends": ["replication.start", "replication.until_param", "replication.retention"],
    "filtering on this side": ["replication.client_side"],
    "conditional requests": ["streams.conditional"],
    "days": ["day.field", "day.tz"],
    "how the archive treats a stream": ["mode", "volatile", "include"],
    "a schema, inline or in a file of its own": ["streams.schema"],
    "a request that proves the credentials": ["check"],
}


def says() -> Iterator[str]:
    """Everything that can be said, as WANTED writes it."""
    defs = language_schema()["$defs"]
    for key, name in [("", "Declaration"), *(pair for part in REFERENCE.parts for pair in part.named())]:
        yield key
        for option, shape in defs[name]["properties"].items():
            path = f"{key}.{option}".lstrip(".")
            yield path
            shapes = [shape, *shape.get("anyOf", ())]
            yield from (
                f"{path}={word}" for one in shapes for kind in ("enum", "examples") for word in one.get(kind, ())
            )


def test_what_is_wanted_can_be_said() -> None:
    known = set(says())
    assert {
        wish: absent for wish, found in WANTED.items() if (absent := [one for one in found if one not in known])
    } == {}
