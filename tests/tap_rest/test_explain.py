"""Looking at a stream: what would be asked for, and a few of its records."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import yaml
from tests.tap_rest.command_line import config, declared, messages, sample_config, status_of
from tests.tap_rest.harness import json_api
from tests.tap_rest.rows import ASCENDING, CURSOR, ROWS, bookmarked, by_cursor

from tap_sample.server import SampleServer

AUTHS = {
    "bearer": '{type: bearer, token: "{settings.key}"}',
    "basic": '{type: basic, username: me, password: "{settings.key}"}',
    "query": '{type: api_key, in: query, name: k, key: "{settings.key}"}',
    "oauth2": '{type: oauth2, grant: client_credentials, token_url: "http://127.0.0.1:9/t", client_id: me, '
    'client_secret: "{settings.key}"}',
}
POSTED = """
settings: {key: {sensitive: true}}
headers: {X-Version: "2"}
auth: AUTH
paginator: {type: cursor, path: next, param: cursor, page_size: 5, size_param: limit}
streams:
  rows: {path: /rows, method: POST, body: {all: "it's"}, records: items, primary_keys: [id]}
"""


@pytest.mark.case("R000-22")
@pytest.mark.parametrize("auth", AUTHS)
def test_a_stream_is_explained_without_network_and_without_credentials(
    auth: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = declared(tmp_path, "http://127.0.0.1:9/v1", POSTED.replace("AUTH", AUTHS[auth]))
    for settings in ({"key": "canary-1"}, {}):  # also where there is none yet
        assert status_of(config(declaration=file, **settings), "--explain", "rows") == 0
        text, _, command = capsys.readouterr().out.rpartition("\n\n")
        merged = yaml.safe_load(text)
        assert merged["streams"]["rows"]["paginator"]["page_size"] == 5
        assert merged["streams"]["rows"]["headers"] == {"X-Version": "2"}
        words = shlex.split(command)
        assert words[0] == "curl"
        assert "X-Version: 2" in words
        assert words[words.index("--data-raw") + 1] == '{"all":"it\'s"}'
        assert words[-1].startswith("http://127.0.0.1:9/v1/rows?limit=5")
        assert "***" in command
        assert "canary" not in text + command


def test_a_secret_written_into_the_declaration_is_masked_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = declared(
        tmp_path, "http://127.0.0.1:9", "headers: {X-Key: canary-2}\nauth: {type: bearer, token: canary-2}\n" + CURSOR
    )
    assert status_of(config(declaration=file), "--explain", "rows") == 0
    assert "canary" not in capsys.readouterr().out


def test_the_explained_request_begins_at_the_bookmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = declared(tmp_path, "http://127.0.0.1:9", ASCENDING)
    (tmp_path / "state.json").write_text(json.dumps(bookmarked("2024-01-01T00:00:07Z")))
    assert status_of(config(declaration=file), "--state", str(tmp_path / "state.json"), "--explain", "rows") == 0
    assert "since=2024-01-01T00:00:07" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--stream", "--explain"])
def test_a_stream_that_is_not_there_is_answered_with_one_that_is(
    option: str, sample: SampleServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(sample_config(sample), option, "wether") == 2
    captured = capsys.readouterr()
    assert "did you mean `weather`?" in captured.err
    assert captured.out == ""
    assert not sample.requests


@pytest.mark.case("R002-11")
def test_a_quick_look_takes_the_first_records_of_the_named_streams(
    sample: SampleServer, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--stream", "weather", "--stream", "airlines", "--limit", "3"]
    assert status_of(sample_config(sample), *args) == 0
    found = messages(capsys.readouterr().out)
    streams = [message["stream"] for message in found if message["type"] == "RECORD"]
    assert sorted(streams) == ["airlines"] * 3 + ["weather"] * 3
    assert sum(sample.requests.values()) == 2


@pytest.mark.parametrize("limit", [1, 10, 25, len(ROWS), len(ROWS) + 1])
def test_a_quick_look_moves_no_bookmark_and_proves_nothing(
    limit: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = bookmarked("2024-01-01T00:00:07Z")
    (tmp_path / "state.json").write_text(json.dumps(given))
    with json_api(by_cursor) as server:
        file = declared(tmp_path, server.url, ASCENDING)
        state = str(tmp_path / "state.json")
        assert status_of(config(declaration=file), "--state", state, "--limit", str(limit)) == 0
        assert len(server.seen) == min(10, -(-limit // 10))
    found = messages(capsys.readouterr().out)
    last = found[-1]["value"]
    assert [message["record"] for message in found if message["type"] == "RECORD"] == ROWS[:limit]
    assert last["bookmarks"] == given["bookmarks"]
    (claim,) = last["claims"]["rows"]
    assert claim["status"] == "partial"
    assert claim["evidence"]["records"] == claim["evidence"]["unique_keys"] == min(limit, len(ROWS))
