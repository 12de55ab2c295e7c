"""What a run tells about its requests: the stream `requests`, log lines, sums, and the list of what was given up."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from singer_sdk.plugin_base import JSONSchemaValidator
from tests.tap_rest.command_line import config, declared, messages, started, status_of
from tests.tap_rest.harness import FAST, json_api, params_of, run
from tests.tap_rest.hostile import Hostile, response
from tests.tap_rest.rows import CURSOR, OFFSET, ROWS, also, by_cursor, by_offset

from tap_rest.engine.attempts import REQUESTS, Times
from tap_rest.engine.evidence import Evidence
from tap_rest.engine.logs import Masking
from tap_rest.redaction import Redactor

WAYS = """
limits: [{quota: 1000/s, concurrency: 4}]
streams:
  things:
    path: /things/{thing}
    records: items
    for_each: {items: [one, two, lost, gone], as: thing}
    primary_keys: [id]
    errors:
      - {when: {status: 404}, then: skip_partition}
"""


def faulty(request: str, number: int) -> bytes:
    """The answer to a request: the second one is too many, the third answer is cut, the fourth an error."""
    quota = ["X-RateLimit-Remaining: 7", "X-RateLimit-Reset: 100", "X-Vendor-Request-Id: served-1"]
    whole = response(json.dumps(by_cursor("", params_of(request))).encode(), headers=quota)
    slow = response(b"{}", status="429 Slow", headers=["Retry-After: 1"])
    return {2: slow, 3: whole[:-5], 4: response(b"{}", status="503 Down")}.get(number, whole)


def logged(output: str) -> list[dict[str, Any]]:
    found = messages(output)
    return [m["record"] for m in found if m["type"] == "RECORD" and m["stream"] == REQUESTS.name]


@pytest.mark.case("R003-25")
@pytest.mark.case("R002-13")
def test_every_request_is_a_record_tries_included(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = count(1)
    with Hostile(lambda request: [faulty(request, next(numbers))]) as server:
        assert status_of(config(declaration=declared(tmp_path, server.url, FAST + CURSOR), request_log=True)) == 0
        sent = len(server.seen)
    captured = capsys.readouterr()
    (schema,) = (m for m in messages(captured.out) if m["type"] == "SCHEMA" and m["stream"] == REQUESTS.name)
    assert schema["key_properties"] == ["id"]
    rows = logged(captured.out)
    closed = JSONSchemaValidator({**schema["schema"], "additionalProperties": False})
    assert [list(closed.iter_errors(row)) for row in rows] == [[]] * len(rows)
    assert all(row.keys() == schema["schema"]["properties"].keys() for row in rows)
    assert len({row["id"] for row in rows}) == len(rows) == sent == 13
    assert [row["outcome"] for row in rows[:5]] == ["ok", "wait", "no_answer", "retry", "ok"]
    assert [row["retried"] for row in rows[:5]] == [False, True, True, True, False]
    assert [row["page"] for row in rows[:6]] == [1, 2, 2, 2, 2, 3]
    assert [row["status"] for row in rows[:5]] == [200, 429, None, 503, 200]
    assert rows[1]["reason"] == "rate limited (429)"
    assert rows[2]["reason"] == "closed the connection before the answer was whole"
    first = rows[0]
    assert (first["method"], first["url"], first["records"]) == ("GET", f"{server.url}/rows", 10)
    assert (first["quota_left"], first["server_id"], first["stream"]) == (7, "served-1", "rows")
    assert first["bytes"] == len(json.dumps(by_cursor("", {})))
    assert rows[2]["waited"] >= 1 > rows[-1]["waited"]
    summary = captured.err.splitlines()[-1]
    assert f"{sent} requests, 3 retries, 1 rate-limited" in summary


def test_a_state_comes_after_the_requests_that_it_speaks_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with json_api(by_offset) as server:
        assert status_of(config(declaration=declared(tmp_path, server.url, FAST + OFFSET), request_log=True)) == 0
    known = told = 0
    for message in messages(capsys.readouterr().out)[1:]:
        known += message.get("stream") == REQUESTS.name and message["type"] == "RECORD"
        if message["type"] == "STATE":
            place = message["value"]["bookmarks"].get("rows", {}).get("page")
            told = (place or message["value"]["claims"]["rows"][0])["evidence"]["requests"]
            assert known == told
    assert told == 10


def test_requests_of_many_threads_are_all_written_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole lines, each once, with its partition, and the claim counts the same."""
    things = WAYS.replace("[one, two, lost, gone]", str(list(range(40))))
    with json_api(lambda path, _: {"items": [{"id": path}]}) as server:
        assert status_of(config(declaration=declared(tmp_path, server.url, things), request_log=True)) == 0
    captured = capsys.readouterr()
    rows = logged(captured.out)
    assert Counter(row["partition"] for row in rows) == Counter(map(str, range(40)))
    assert len({row["id"] for row in rows}) == 40
    assert messages(captured.out)[-1]["value"]["claims"]["things"][0]["evidence"]["requests"] == 40


@pytest.mark.case("X4")
@pytest.mark.case("R000-10")
def test_neither_requests_nor_logs_show_a_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where the server repeats it in a link, a header or an error, and a token request is told without its body."""
    monkeypatch.setenv("LOGLEVEL", "DEBUG")
    monkeypatch.setenv("LOG_FORMAT", "json")

    def answer(request: str) -> list[bytes]:
        if request.startswith("POST /token"):
            return [response(b'{"access_token": "canary-token", "token_type": "Bearer"}')]
        if "page=2" in request:
            return [response(b'{"error": "canary-token and canary-secret"}', status="400 canary-token")]
        url = f"{server.url}/rows?page=2&again=canary-token"
        return [response(b'[{"id": 1}]', headers=[f'Link: <{url}>; rel="next"', "X-Request-Id: canary-token"])]

    streams = """
settings: {secret: {sensitive: true}}
auth: {type: oauth2, grant: client_credentials, token_url: 'TOKEN', client_id: me, client_secret: "{settings.secret}"}
streams:
  rows: {path: /rows, records: $, paginator: {type: link_header}, primary_keys: [id]}
"""
    with Hostile(answer) as server:
        file = declared(tmp_path, server.url, streams.replace("TOKEN", f"{server.url}/token"))
        settings = {"declaration": file, "secret": "canary-secret", "request_log": True}
        assert status_of(config(**settings, capture=str(tmp_path / "kept")), f"--har={tmp_path / 'out.har'}") == 1
    captured = capsys.readouterr()
    assert "canary" not in captured.out + captured.err + (tmp_path / "out.har").read_text()
    rows = logged(captured.out)
    assert [rows[0]["outcome"], rows[0]["url"], rows[0]["stream"]] == ["token", f"{server.url}/token", None]
    assert [rows[-1]["outcome"], rows[-1]["retried"], rows[-1]["status"]] == ["fail_stream", False, 400]
    assert all("again=***" in row["url"] for row in rows[2:])
    given_up = messages(captured.out)[-1]["value"]["claims"]["rows"][0]["evidence"]["given_up"]
    assert [(one["url"], one["status"]) for one in given_up] == [(f"{server.url}/rows?page=2&again=***", 400)]


@pytest.mark.case("X4")
def test_a_secret_that_names_a_partition_is_masked_there_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where an API lists its own keys."""
    monkeypatch.setenv("LOG_FORMAT", "json")
    streams = """
settings: {secret: {sensitive: true}}
auth: {type: bearer, token: "{settings.secret}"}
streams:
  keys: {path: /keys, records: $, primary_keys: [id]}
  uses: {for_each: {stream: keys, as: key}, path: "/keys/{key.id}", records: $, primary_keys: [id]}
"""

    def answer(path: str, _: Any) -> Any:
        return [{"id": "canary-secret"}] if path == "/keys" else response(b"{}", status="403 canary-secret")

    with json_api(answer) as server:
        settings = {"declaration": declared(tmp_path, server.url, FAST + streams), "secret": "canary-secret"}
        assert status_of(config(**settings, capture=str(tmp_path / "kept"))) == 3
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {line["extra"]["partition"] for line in told if "partition" in line["extra"]} == {"***"}
    assert "canary" not in str(told) + "".join(file.read_text() for file in tmp_path.glob("kept/*.jsonl"))


@pytest.mark.case("R000-14")
@pytest.mark.case("R004-15")
def test_all_lines_of_a_request_are_found_by_its_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_FORMAT", "json")

    down = iter([response(b"{}", status="503 Down")])

    def answer(path: str, _: Any) -> Any:
        lost, once = path.endswith("lost"), next(down, None) if path.endswith("two") else None
        return response(b"{}", status="403 No") if lost else once or {"items": [{"id": path}]}

    with json_api(answer) as server:
        assert status_of(config(declaration=declared(tmp_path, server.url, WAYS), request_log=True)) == 1
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.err.splitlines()]
    assert lines[-1]["level"] == "error"
    (again,) = (line for line in lines if "again in" in line["message"])
    (down_row,) = (row for row in logged(captured.out) if row["status"] == 503)
    known = {"partition": "two", "page": 1, "request": down_row["id"]}
    assert known.items() <= again["extra"].items()
    (row,) = (row for row in logged(captured.out) if row["status"] == 403)
    found = [line for line in lines if line["extra"].get("request") == row["id"]]
    assert {line["message"].partition(":")[0] for line in found} == {"things (lost)", "things"}
    for line in found:
        assert (line["stream_name"], line["extra"]["partition"], line["extra"]["page"]) == ("things", "lost", 1)
        assert (line["level"], line["extra"]["status"]) == ("error", 403)


@pytest.mark.case("R000-14")
def test_the_sdks_own_log_config_is_kept_to(tmp_path: Path) -> None:
    """As Meltano gives it: the end of the run is in its format too, and no secret in its file."""
    setup = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "singer_sdk.logging.StructuredFormatter"}},
        "handlers": {"err": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "root": {"handlers": ["err"], "level": "DEBUG"},
    }
    (tmp_path / "log.yaml").write_text(json.dumps(setup))
    auth = 'settings: {key: {sensitive: true}}\nauth: {type: api_key, in: query, name: k, key: "{settings.key}"}\n'
    with json_api(lambda *_: response(b"canary-9", status="400 Bad")) as server:
        file = declared(tmp_path, server.url, auth + CURSOR)
        process = started(
            config(declaration=file, key="canary-9"),
            env={**os.environ, "SINGER_SDK_LOG_CONFIG": str(tmp_path / "log.yaml")},
        )
        _, said = process.communicate(timeout=60)
    lines = [json.loads(line) for line in said.splitlines()]
    assert [line["level"] for line in lines[-1:]] == ["error"]
    assert any("the server says ***" in line["message"] for line in lines)
    assert b"canary" not in said


def test_a_reader_that_goes_away_ends_a_logged_run_as_any_other(tmp_path: Path) -> None:
    with json_api(lambda *_: {"items": [{"id": "x" * 10_000}] * 100, "next": str(time.monotonic_ns())}) as server:
        file = declared(tmp_path, server.url, FAST + CURSOR)
        with started(config(declaration=file, request_log=True)) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            said = process.stderr.read()
            assert process.wait(timeout=60) == 1
    assert b"nobody reads the output any more" in said.splitlines()[-1]
    assert b"Traceback" not in said


@pytest.mark.case("R000-14")
@pytest.mark.parametrize(
    "args", [["--bogus"], ["--config={}"], ["--config={bad"], [config(declaration="sampel")], [config(declaration="F")]]
)
def test_a_failure_before_the_first_request_is_json_too(
    args: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_FORMAT", "json")
    monkeypatch.chdir(tmp_path)
    Path("F").write_text("name: x\nstreams: {}\n")
    assert status_of(*args) == 2
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines[-1]["level"] == "error"
    assert lines[-1]["message"]


def test_no_log_call_can_leak(caplog: pytest.LogCaptureFixture) -> None:
    """Neither in its arguments nor in a traceback, and not where the arguments do not fit."""
    masking = Masking()
    masking.redactor = Redactor(["canary"])
    caplog.handler.addFilter(masking)
    try:
        {"canary": 1}["canary-2"]
    except KeyError:
        logging.getLogger("foreign").exception("saw %s", {"k": "canary"})
    for misfit, argument in (("%d of %s", "canary"), ("%(of)s", {"in": "canary"})):
        logging.getLogger("foreign").warning(misfit, argument)
    caplog.handler.removeFilter(masking)
    assert "canary" not in caplog.text
    assert "saw {'k': '***'}" in caplog.text
    assert "KeyError: '***-2'" in caplog.text
    assert "%d of %s" in caplog.text
    assert "%(of)s {'in': '***'}" in caplog.text


def test_the_stream_is_there_when_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with json_api(by_cursor) as server:
        file = declared(tmp_path, server.url, FAST + CURSOR)
        for wanted in (False, True):
            assert status_of(config(declaration=file, request_log=wanted), "--discover") == 0
            catalog = json.loads(capsys.readouterr().out)
            assert {one["tap_stream_id"] for one in catalog["streams"]} == {
                "rows",
                *([REQUESTS.name] if wanted else []),
            }
        (own_entry,) = (one for one in catalog["streams"] if one["tap_stream_id"] == REQUESTS.name)
        for entry in own_entry["metadata"]:
            entry["metadata"]["selected"] = False
        (tmp_path / "catalog.json").write_text(json.dumps(catalog))
        args = [config(declaration=file, request_log=True), "--catalog", str(tmp_path / "catalog.json")]
        assert status_of(*args) == 0
        assert {m.get("stream") for m in messages(capsys.readouterr().out)} == {"rows", None}
        assert status_of(config(declaration=file, request_log=True), "--stream", REQUESTS.name) == 2
        assert "there is no stream 'requests'" in capsys.readouterr().err
        own = declared(tmp_path, server.url, FAST + CURSOR.replace("rows:", "requests:"))
        assert status_of(config(declaration=own, request_log=True)) == 2
        assert "the API has one of that name" in capsys.readouterr().err
        assert status_of(config(declaration=own)) == 0


def test_the_sdk_lane_writes_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maps = {REQUESTS.name: {"answer": "status"}}
    with json_api(by_cursor) as server:
        assert (
            status_of(
                config(declaration=declared(tmp_path, server.url, FAST + CURSOR), request_log=True, stream_maps=maps)
            )
            == 0
        )
    captured = capsys.readouterr()
    assert "SDK lane" in captured.err
    assert [row["answer"] for row in logged(captured.out)] == [200] * 10
    assert sum(m["type"] == "RECORD" and m["stream"] == "rows" for m in messages(captured.out)) == len(ROWS)


def test_a_quick_look_and_a_trial_write_no_requests_without_their_schema(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with json_api(by_cursor) as server:
        settings = config(declaration=declared(tmp_path, server.url, FAST + CURSOR), request_log=True)
        assert status_of(settings, "--test") == 0
        assert {m["stream"] for m in messages(capsys.readouterr().out)} == {"rows"}
        assert status_of(settings, "--limit", "3") == 0
        assert len(logged(capsys.readouterr().out)) == 1


@pytest.mark.case("R003-23")
@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=300), st.sampled_from([0.01, 0.5, 0.95, 1.0]))
def test_a_quantile_is_within_5_percent(times: list[float], share: float) -> None:
    found = Times()
    for ms in times:
        found.add(ms)
    exact = sorted(times)[math.ceil(share * len(times)) - 1]
    assert exact / 1.05 <= found.at(share) <= exact * 1.05
    assert found.longest == max(times)


@pytest.mark.case("R003-23")
def test_a_run_of_several_streams_has_a_line_for_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    streams = CURSOR + also("others")
    with json_api(by_cursor) as server:
        assert status_of(config(declaration=declared(tmp_path, server.url, FAST + streams))) == 0
    ends = [line.rpartition("| ")[2] for line in capsys.readouterr().err.splitlines()[-3:]]
    assert [end.partition(" requests")[0] for end in ends[:2]] == ["rows: 10", "others: 10"]
    assert ends[2].startswith("2 of 2 streams complete, 200 records, 20 requests, 0 retries")


@pytest.mark.case("R004-3")
@pytest.mark.case("R000-13")
def test_what_was_given_up_can_be_asked_for_again(tmp_path: Path) -> None:
    """A partition that failed, and one that a rule leaves out, each with all that its request was made of."""

    def answer(path: str, _: Any) -> Any:
        status = {"/things/lost": "403 No", "/things/gone": "404 Not Found"}.get(path)
        return response(b"{}", status=status) if status else {"items": [{"id": path}]}

    with json_api(answer) as server:
        result = run(tmp_path, server, WAYS)
    lost, gone = sorted(result.claim("things")["evidence"]["given_up"], key=lambda one: -one["url"].endswith("lost"))
    whole = {"request", "method", "url", "reason", "status", "partition"}
    assert set(lost) == set(gone) == whole
    assert (lost["url"], lost["status"], lost["partition"]) == (f"{server.url}/things/lost", 403, {"thing": "lost"})
    assert (gone["url"], gone["status"], gone["partition"]) == (f"{server.url}/things/gone", 404, {"thing": "gone"})


@pytest.mark.case("R004-3")
def test_a_window_that_was_given_up_says_from_when_to_when(tmp_path: Path) -> None:
    windows = """
        streams:
          rows:
            path: /rows
            records: items
            primary_keys: [id]
            replication: {key: t, param: since, until_param: until, window: 1d, order: none}
    """

    def answer(_: str, params: dict[str, str]) -> Any:
        return response(b"{}", status="410 Gone") if params["since"] > "2027-01-13" else {"items": []}

    with json_api(answer) as server:
        result = run(tmp_path, server, windows, start_date="2027-01-12T00:00:00Z", end_date="2027-01-15T00:00:00Z")
    claims = result.states[-1]["claims"]["rows"]
    assert [claim["status"] for claim in claims] == ["complete", "partial"]
    (lost,) = claims[1]["evidence"]["given_up"]
    assert (lost["start"], lost["until"], lost["status"]) == ("2027-01-13T00:00:00Z", "2027-01-14T00:00:00Z", 410)
    assert msgspec.convert(claims[1]["evidence"], Evidence).given_up[0].until == lost["until"]


def test_at_most_a_hundred_are_named(tmp_path: Path) -> None:
    things = WAYS.replace("[one, two, lost, gone]", str(list(range(150))))
    with json_api(lambda *_: response(b"{}", status="404 Not Found")) as server:
        result = run(tmp_path, server, things)
    assert len(result.claim("things")["evidence"]["given_up"]) == 100
