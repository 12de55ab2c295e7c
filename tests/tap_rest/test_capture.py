"""Captured runs: every answer is kept, no credential is, and a replay without a network gives the same bytes."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.tap_rest.command_line import config, declared, messages, status_of
from tests.tap_rest.harness import json_api, params_of
from tests.tap_rest.hostile import Hostile, head, response
from tests.tap_rest.oauth_servers import npm_server
from tests.tap_rest.rows import ASCENDING, CURSOR, OFFSET, ROWS, by_cursor, by_offset

from tap_rest.engine.capture import ReplayClock
from tap_rest.engine.har import LARGEST


def run(capsys: pytest.CaptureFixture[str], *args: str, status: int = 0) -> str:
    capsys.readouterr()
    assert status_of(*args) == status
    return capsys.readouterr().out


def kept(folder: Path, kind: str) -> list[Path]:
    return sorted(folder.glob(f"*/*/*/*{kind}"))


@pytest.mark.parametrize(
    ("streams", "answer"),
    [(CURSOR, by_cursor), (OFFSET, by_offset), (ASCENDING, by_cursor)],
    ids=["cursor", "offset", "incremental"],
)
@pytest.mark.case("R002-16")
@pytest.mark.case("R002-25")
def test_a_replay_gives_the_same_bytes_without_a_network(
    streams: str, answer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kept"
    with json_api(answer) as server:
        file = declared(tmp_path, server.url, streams)
        wanted = run(capsys, config(declaration=file, capture=str(folder)))
    monkeypatch.setattr(socket.socket, "connect", None)
    assert sum(message["type"] == "RECORD" for message in messages(wanted)) == len(ROWS)
    assert run(capsys, config(declaration=file, replay=str(folder))) == wanted
    (one,) = folder.glob("run-*.jsonl")
    assert run(capsys, config(declaration=file, replay=str(one))) == wanted


@pytest.mark.case("R004-9")
@pytest.mark.case("02-3.6")
def test_bodies_are_kept_verbatim_and_metadata_beside_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = b'{ "items" : [ {"id": 1.10} ],\r\n "next":null}\n'
    with Hostile(lambda _: [response(body, headers=["X-Total: 1"])]) as server:
        file = declared(tmp_path, server.url)
        run(capsys, config(declaration=file, capture=str(tmp_path / "kept")))
        run(capsys, config(declaration=file, capture=str(tmp_path / "kept")))
    bodies, metas = kept(tmp_path / "kept", ".json.gz"), kept(tmp_path / "kept", ".meta.json")
    assert len(bodies) == len(metas) == len(list((tmp_path / "kept").glob("run-*.jsonl"))) == 2
    assert all(gzip.decompress(path.read_bytes()) == body for path in bodies)
    assert bodies[0].relative_to(tmp_path / "kept").parts[0] == "rows"
    meta = json.loads(metas[0].read_text())
    assert meta["request"]["url"] == f"{server.url}/rows"
    assert (meta["status"], meta["headers"]["x-total"], meta["masked"]) == (200, "1", False)
    assert not list((tmp_path / "kept").rglob("*.tmp"))


def test_what_went_wrong_goes_wrong_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut answer, a 503 and a 429 with a wait, each asked again; the claim's count of requests shows it."""
    whole = response(b'{"items":[{"id":1}],"next":null}')
    answers = iter(
        [
            whole[:-5],
            response(b"{}", status="503 Slow"),
            response(b"{}", status="429 Slow", headers=["Retry-After: 1"]),
            whole,
        ]
    )
    with Hostile(lambda _: [next(answers)]) as server:
        file = declared(tmp_path, server.url)
        wanted = run(capsys, config(declaration=file, capture=str(tmp_path / "kept")))
    waits: list[float] = []
    passed = ReplayClock.wait

    def noted(clock: ReplayClock, seconds: float) -> None:
        waits.append(seconds)
        passed(clock, seconds)

    monkeypatch.setattr(ReplayClock, "wait", noted)
    assert run(capsys, config(declaration=file, replay=str(tmp_path / "kept"))) == wanted
    assert messages(wanted)[-1]["value"]["claims"]["rows"][0]["evidence"]["requests"] == 4
    assert len(waits) >= 3


@pytest.mark.parametrize("asked", ["path: /rows/{row}", "path: /rows\n            headers: {X-Row: '{row}'}"])
def test_answers_that_come_at_the_same_time_are_kept_in_one_run(
    asked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where they are alike, to requests that differ by a header alone, so that they have one file."""
    streams = f"""
        limits: [{{quota: 10000/s, concurrency: 8}}]
        streams:
          rows:
            {asked}
            records: items
            for_each: {{items: [1, 2, 3, 4, 5, 6, 7, 8], as: row}}
            primary_keys: [id]
    """
    together = threading.Barrier(8)

    def answer(path: str, _: Any) -> Any:
        together.wait(timeout=30)
        return {"items": [{"id": path}]}

    with json_api(answer) as server:
        file = declared(tmp_path, server.url, streams)
        for _ in range(5):
            run(capsys, config(declaration=file, capture=str(tmp_path / "kept")))
    runs = [one.read_text().splitlines() for one in (tmp_path / "kept").glob("run-*.jsonl")]
    found = [sorted(json.loads(line).get("partition", "") for line in lines) for lines in runs]
    assert found == [["", *"12345678"]] * 5


def test_a_replay_gives_each_partition_its_own_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where only a header tells their requests apart, and the last one was answered first."""
    streams = """
        limits: [{quota: 10000/s, concurrency: 2}]
        streams:
          rows:
            path: /rows
            headers: {X-Row: "{row}"}
            records: items
            for_each: {items: [one, two], as: row}
            primary_keys: [id]
            include: {row: "{row}"}
    """

    def answer(request: str) -> list[bytes]:
        row = "one" if "X-Row: one" in request else "two"
        while row == "one" and not any(file.read_text().count("\n") > 1 for file in folder.glob("run-*.jsonl")):
            time.sleep(0.01)
        return [response(json.dumps({"items": [{"id": row}]}).encode())]

    folder = tmp_path / "kept"
    with Hostile(answer) as server:
        file = declared(tmp_path, server.url, streams)
        captured = run(capsys, config(declaration=file, capture=str(folder)))
    replayed = run(capsys, config(declaration=file, replay=str(folder)))
    for output in (captured, replayed):
        records = [message["record"] for message in messages(output) if message["type"] == "RECORD"]
        assert sorted((one["row"], one["id"]) for one in records) == [("one", "one"), ("two", "two")]


def test_a_request_that_was_not_captured_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with json_api(by_cursor) as server:
        file = declared(tmp_path, server.url)
        run(capsys, config(declaration=file, capture=str(tmp_path / "kept")))
        file = declared(tmp_path, server.url, CURSOR.replace("path: /rows", "path: /others"))
    assert status_of(config(declaration=file, replay=str(tmp_path / "kept"))) == 1
    assert f"is not in the capture: GET {server.url}/others" in capsys.readouterr().err


def test_a_damaged_or_missing_body_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with json_api(by_cursor) as server:
        file = declared(tmp_path, server.url)
        run(capsys, config(declaration=file, capture=str(tmp_path / "kept")))
    for body in kept(tmp_path / "kept", ".json.gz"):
        body.write_bytes(body.read_bytes()[:-9])
    for har in ([], ["--har", str(tmp_path / "out.har")]):
        assert status_of(config(declaration=file, replay=str(tmp_path / "kept")), *har) == 1
        said = capsys.readouterr().err
        assert "is damaged or gone in the capture" in said
        assert "unexpected" not in said


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"replay": "/no/such"}, "there is no captured run at /no/such"),
        ({"replay": "api.yaml"}, "is not the file of a captured run"),
        ({"replay": "x", "capture": "y"}, "exclude each other"),
    ],
)
def test_what_cannot_be_replayed_is_a_mistake_of_the_config(
    settings: dict[str, str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert status_of(config(declaration=declared(tmp_path, "http://127.0.0.1:9"), **settings)) == 2
    assert words in capsys.readouterr().err


@pytest.mark.case("X4")
@pytest.mark.parametrize("place", ["in: header, name: X-Key", "in: query, name: k"])
def test_no_captured_file_holds_a_secret(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even where the server repeats it, in a body, a header and the link to the next page."""
    secret = "canary+9/x"

    def answer(request: str) -> list[bytes]:
        last = "page=2" in request
        url = f"{server.url}/rows?page=2&k=canary%2B9%2Fx"
        link = [] if last else [f'Link: <{url}>; rel="next"']
        body = json.dumps([{"id": 2 if last else 1, "echo": secret, "url": url}]).encode()
        return [response(body, headers=[f"X-Echo: {secret}", f"Set-Cookie: s={secret}", *link])]

    streams = f"""
settings: {{key: {{sensitive: true}}}}
auth: {{type: api_key, {place}, key: "{{settings.key}}"}}
streams:
  rows: {{path: /rows, records: $, paginator: {{type: link_header}}, primary_keys: [id]}}
"""
    with Hostile(answer) as server:
        file = declared(tmp_path, server.url, streams)
        run(capsys, config(declaration=file, capture=str(tmp_path / "kept"), key=secret))
    files = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert len(files) == 5
    for path in files:
        content = path.read_bytes()
        assert b"canary" not in (gzip.decompress(content) if path.suffix == ".gz" else content), path
        assert "canary" not in str(path)
    again = run(capsys, config(declaration=file, replay=str(tmp_path / "kept"), key="another"))
    assert [message["record"]["id"] for message in messages(again) if message["type"] == "RECORD"] == [1, 2]


def test_token_requests_are_not_kept_and_not_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where a token is refused before its time, so that a page is asked for twice."""
    tokens = iter(["canary-one", "canary-two"])

    def answer(request: str) -> list[bytes]:
        if request.startswith("POST /token"):
            return [response(json.dumps({"access_token": next(tokens), "token_type": "Bearer"}).encode())]
        if "canary-one" in request and "cursor=50" in request:
            return [response(b"{}", status="401 No")]
        return [response(json.dumps(by_cursor("", params_of(request))).encode())]

    with Hostile(answer) as server:
        auth = f"{{type: oauth2, grant: client_credentials, token_url: '{server.url}/token', client_id: me, "
        auth = f"auth: {auth} client_secret: canary-three}}\n"
        file = declared(tmp_path, server.url, auth + CURSOR)
        wanted = run(capsys, config(declaration=file, capture=str(tmp_path / "kept")))
    assert run(capsys, config(declaration=file, replay=str(tmp_path / "kept"))) == wanted
    assert len(messages(wanted)) > len(ROWS)
    for path in (tmp_path / "kept").rglob("*.*"):
        content = path.read_bytes() if path.is_file() else b""
        assert b"canary" not in (gzip.decompress(content) if path.suffix == ".gz" else content), path


HAR_VALIDATOR = """
import { readFileSync } from 'node:fs';
import validator from 'har-validator';
const har = JSON.parse(readFileSync('out.har', 'utf8'));
validator.har(har).then(() => console.log('valid'), error => console.log(JSON.stringify(error.errors)));
"""


@pytest.mark.case("R000-22")
def test_a_capture_becomes_a_har_file_with_an_entry_for_each_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tries, a fault, a body that is no text and one too large included; a replay gives the same file."""
    whole = response(b'{"items":[{"id":1}],"next":"2 3"}', headers=["X-Twice: 1", "X-Twice: 2"])
    large = response(b'{"items":[{"id":2,"t":"%s"}],"next":null}' % (b"x" * LARGEST))
    answers = iter(
        [whole[:-5], response(b"\xff\xfe", status="503 Slow"), response(b"", status="599 Odd"), whole, large]
    )
    args = ["--har", str(tmp_path / "out.har")]
    with Hostile(lambda _: [next(answers)]) as server:
        file = declared(
            tmp_path, server.url, CURSOR.replace("path: /rows", "path: /rows\n    params: {a: 'b c', d: ''}")
        )
        wanted = run(capsys, config(declaration=file, capture=str(tmp_path / "kept")), *args)
    found = json.loads((tmp_path / "out.har").read_text())
    entries = found["log"]["entries"]
    assert [entry["response"]["status"] for entry in entries] == [0, 503, 599, 200, 200]
    assert entries[0]["response"]["_error"] == "closed the connection before the answer was whole"
    assert (
        entries[1]["response"]["content"] | {"text": "//4=", "encoding": "base64"} == entries[1]["response"]["content"]
    )
    assert entries[3]["response"]["content"]["text"] == '{"items":[{"id":1}],"next":"2 3"}'
    assert "text" not in entries[4]["response"]["content"]
    asked = [{"name": "a", "value": "b c"}, {"name": "d", "value": ""}, {"name": "cursor", "value": "2 3"}]
    assert entries[4]["request"]["queryString"] == asked
    assert [entry["_page"] for entry in entries] == [1, 1, 1, 1, 2]
    assert len({entry["_id"] for entry in entries}) == 5
    assert run(capsys, config(declaration=file, replay=str(tmp_path / "kept")), *args) == wanted
    assert json.loads((tmp_path / "out.har").read_text()) == found
    with npm_server(tmp_path, "har-validator", HAR_VALIDATOR) as said:
        assert said == "valid"


def test_a_har_file_is_made_of_what_was_captured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A POST with its body; of a run that asked for nothing it has no entry; without a capture there is none."""
    streams = CURSOR.replace("path: /rows", "path: /rows\n    method: POST\n    body: {a: é}")
    args = ["--har", str(tmp_path / "out.har")]
    with json_api(lambda *_: {"items": [], "next": None}) as server:
        file = declared(tmp_path, server.url, streams)
        run(capsys, config(declaration=file, capture=str(tmp_path / "kept")), *args)
        (entry,) = json.loads((tmp_path / "out.har").read_text())["log"]["entries"]
        assert entry["request"]["postData"] == {"mimeType": "application/json", "text": '{"a":"é"}'}
        assert entry["request"]["bodySize"] == 10
        assert status_of(config(declaration=file), *args) == 2
        assert "--har needs the setting `capture` or `replay`" in capsys.readouterr().err
    nothing = streams.replace(
        "primary_keys: [id]", "primary_keys: [id]\n    replication: {key: t, param: s, until_param: u}"
    )
    file = declared(tmp_path, "http://127.0.0.1:9", nothing)
    dates = {"start_date": "2024-01-02T00:00:00Z", "end_date": "2024-01-01T00:00:00Z"}
    run(capsys, config(declaration=file, capture=str(tmp_path / "kept"), **dates), *args)
    assert json.loads((tmp_path / "out.har").read_text())["log"]["entries"] == []


def replayed_alike(folder: Path, capsys: pytest.CaptureFixture[str], answer: Any, streams: str, **settings: str) -> str:
    """What a captured run writes, once its replay has written the same."""
    with Hostile(answer) as server:
        file = declared(folder, server.url, streams)
        wanted = run(capsys, config(declaration=file, capture=str(folder / "kept"), **settings))
    assert run(capsys, config(declaration=file, replay=str(folder / "kept"), **settings)) == wanted
    return wanted


def test_a_replay_leaves_out_as_many_credentials_as_were_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    streams = """
        settings: {tokens: {sensitive: true}}
        auth: {type: pool, of: {type: bearer, token: "{settings.tokens}"}}
        streams: {rows: {path: /rows, records: $}}
    """

    def answer(request: str) -> list[bytes]:
        dead = "t0ken-c" not in request
        return [response(b"{}", status="401 No") if dead else response(b'[{"id":1}]')]

    wanted = replayed_alike(tmp_path, capsys, answer, streams, tokens="t0ken-a,t0ken-b,t0ken-c")
    assert sum(message["type"] == "RECORD" for message in messages(wanted)) == 1


def test_a_replay_knows_that_nothing_said_where_an_answer_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    streams = "streams: {rows: {path: /rows, records: $, format: {type: csv}}}"
    wanted = replayed_alike(tmp_path, capsys, lambda _: [head() + b"id,a\n1,2\n"], streams)
    assert "nothing says where an answer ends" in wanted


def test_a_cursor_in_a_header_is_kept_though_its_name_is_that_of_a_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(request: str) -> list[bytes]:
        last = "t=abcdefgh" in request
        return [response(b'[{"id":%d}]' % (1 + last), headers=[] if last else ["X-Next-Token: abcdefgh"])]

    streams = "streams: {rows: {path: /r, records: $, paginator: {type: cursor, header: X-Next-Token, param: t}}}"
    wanted = replayed_alike(tmp_path, capsys, answer, streams)
    assert sum(message["type"] == "RECORD" for message in messages(wanted)) == 2
