"""The command line: what it prints, how it ends, and what is left when it is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.tap_rest.command_line import config, declared, messages, sample_config, started, status_of
from tests.tap_rest.harness import json_api
from tests.tap_rest.hostile import Hostile, response
from tests.tap_rest.rows import CURSOR, ROWS, also, by_cursor

from tap_rest.errors import DeclarationError
from tap_rest.tap import declared_tap
from tap_sample.faults import Faults
from tap_sample.server import TOKEN, SampleServer


def test_the_sample_api_is_read_whole(sample: SampleServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(sample_config(sample)) == 0
    found = messages(capsys.readouterr().out)
    counts = Counter(message["stream"] for message in found if message["type"] == "RECORD")
    assert counts == {"weather": 26115, "planes": 3322, "airports": 1458, "airlines": 16}
    assert found[-1]["value"]["bookmarks"] == {
        "weather": {"replication_key": "time_hour", "replication_key_value": "2013-12-30T23:00:00Z"}
    }


@pytest.mark.parametrize("seed", [1, 2])
def test_a_faulty_api_gives_the_same_records(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    with SampleServer() as server:
        assert status_of(sample_config(server)) == 0
    wanted = {
        line.partition(',"time_extracted')[0] for line in capsys.readouterr().out.splitlines() if '"RECORD"' in line
    }
    with SampleServer(faults=Faults(0.1, seed, slow_seconds=0.1)) as server:
        assert status_of(sample_config(server)) == 0
    found = [
        line.partition(',"time_extracted')[0] for line in capsys.readouterr().out.splitlines() if '"RECORD"' in line
    ]
    assert set(found) == wanted


def test_the_catalog_selects_streams(sample: SampleServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(sample_config(sample), "--discover") == 0
    catalog = json.loads(capsys.readouterr().out)
    assert {stream["tap_stream_id"] for stream in catalog["streams"]} == {"weather", "planes", "airports", "airlines"}
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            if entry["breadcrumb"] == []:
                entry["metadata"]["selected"] = stream["tap_stream_id"] == "airlines"
    (tmp_path / "catalog.json").write_text(json.dumps(catalog))
    assert status_of(sample_config(sample), "--catalog", str(tmp_path / "catalog.json")) == 0
    captured = capsys.readouterr()
    assert {message["stream"] for message in messages(captured.out) if message["type"] == "RECORD"} == {"airlines"}
    assert "raw lane" in captured.err


def test_the_state_that_a_run_starts_from_is_printed_unchanged_before_anything_else(
    sample: SampleServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {
        "bookmarks": {"weather": {"replication_key": "time_hour", "replication_key_value": "2013-12-30T22:00:00Z"}}
    }
    (tmp_path / "state.json").write_text(json.dumps(given))
    assert status_of(sample_config(sample), "--state", str(tmp_path / "state.json")) == 0
    found = messages(capsys.readouterr().out)
    assert found[0] == {"type": "STATE", "value": given}
    assert sum(message.get("stream") == "weather" and message["type"] == "RECORD" for message in found) == 6
    (tmp_path / "state.json").write_text("{}")
    assert status_of(sample_config(sample), "--state", str(tmp_path / "state.json")) == 0
    assert messages(capsys.readouterr().out)[0] == {"type": "STATE", "value": {"bookmarks": {}}}


def test_try_out_writes_one_record_of_each_stream(sample: SampleServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(sample_config(sample), "--test") == 0
    captured = capsys.readouterr()
    assert [message["type"] for message in messages(captured.out)] == ["SCHEMA", "RECORD"] * 4
    assert sample.requests["/v1/me"] == 1
    assert sum(sample.requests.values()) == 5
    assert "ERROR" not in captured.err


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["--about"], ["--about", "--format=json"], ["--test=schema"]]
)
@pytest.mark.case("trap:3.13")
def test_what_needs_no_request_makes_none(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    def never(_: Any) -> Any:
        raise AssertionError

    tap = declared_tap(
        "sample", start=never, extra_settings={"faults": {"type": "string", "description": "Share of spoilt answers"}}
    )
    with pytest.raises(SystemExit) as ended:
        tap.cli.main(args)
    assert not ended.value.code
    out = capsys.readouterr().out
    assert {"--help": "--catalog", "--version": "tap-sample v"}.get(
        args[0], "weather" if "schema" in args[0] else "faults"
    ) in out


def test_an_api_is_started_when_a_sync_begins_and_the_config_wins(
    sample: SampleServer, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []

    def start(given: Any) -> dict[str, Any]:
        seen.append(dict(given))
        return {"base_url": sample.base_url, "token": "wrong"}

    tap = declared_tap("sample", start=start, extra_settings={"faults": {"type": "string"}})
    with pytest.raises(SystemExit) as ended:
        tap.cli.main([config(token=TOKEN, faults="x"), "--test"])
    assert ended.value.code in (0, None)
    assert seen == [{"token": TOKEN, "faults": "x", "max_wait": 3600, "request_log": False, "trust_env": False}]
    assert len(capsys.readouterr().out.splitlines()) == 8


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (["--bogus"], 2, "No such option"),
        ([], 2, "no declaration is given"),
        (["--config", "{bad"], 2, "is not JSON"),
        (["--config", "/no/such/file"], 2, "No such file"),
        (["--config", "[1]"], 2, "No such file"),
        ([config(declaration="sampel")], 2, "did you mean `sample`?"),
        ([config(declaration="no.yaml")], 2, "no.yaml"),
        ([config(declaration=1)], 2, "is not a text"),
        ([config(declaration="sample", tokn="x")], 2, "unknown setting 'tokn', did you mean `token`?"),
        ([config(declaration="sample", token=["canary"])], 2, "setting 'token' must have type"),
        ([config(declaration="sample")], 2, "base_url"),
        ([config(declaration="sample", base_url="ftp://x", token="x")], 2, "base_url"),
        (
            [config(declaration="sample", base_url="http://x", token="x", start_date="tomorrow")],
            2,
            "`start_date` is not",
        ),
        ([config(declaration="sample"), "--state", "/no/such"], 2, "No such file"),
    ],
)
def test_a_mistake_is_one_clear_line_and_its_status(
    args: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(*args) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    last = captured.err.splitlines()[-1]
    assert words in last
    assert "Traceback" not in captured.err
    assert "canary" not in captured.err


@pytest.mark.parametrize("text", ["[]", "{", "3"])
def test_a_state_that_is_no_object_is_a_mistake(
    text: str, tmp_path: Path, sample: SampleServer, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state.json").write_text(text)
    assert status_of(sample_config(sample), "--state", str(tmp_path / "state.json")) == 2
    assert "STATE" in capsys.readouterr().err


def test_every_mistake_of_a_declaration_is_a_line_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = declared(
        tmp_path, "http://x", CURSOR.replace("path: next, param", "path: next, parm").replace("records", "recrds")
    )
    assert status_of(config(declaration=file)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert all("api.yaml" in line for line in lines)
    with pytest.raises(DeclarationError):
        declared_tap(file)


def test_a_wrong_token_is_told_once(sample: SampleServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(sample_config(sample, token="wrong-canary")) == 1
    captured = capsys.readouterr()
    assert "credentials were refused (401)" in captured.err.splitlines()[-1]
    assert "canary" not in captured.err
    assert sum(sample.requests.values()) == 1


@pytest.mark.case("X4")
@pytest.mark.case("trap:2.log-keeps-authorization")
@pytest.mark.case("trap:3.14")
def test_no_log_shows_a_credential(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at level DEBUG, where HTTP libraries log whole URLs."""
    monkeypatch.setenv("LOGLEVEL", "DEBUG")
    auth = 'settings: {key: {sensitive: true}}\nauth: {type: api_key, in: query, name: k, key: "{settings.key}"}\n'
    with json_api(by_cursor) as server:
        assert status_of(config(declaration=declared(tmp_path, server.url, auth + CURSOR), key="canary-9")) == 0
    captured = capsys.readouterr()
    assert "k=canary-9" in server.seen[0]
    assert "canary" not in captured.err + captured.out


@pytest.mark.case("C30")
def test_a_failing_stream_makes_the_run_partial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(path: str, params: dict[str, str]) -> Any:
        return by_cursor(path, params) if path == "/rows" else response(b"{}", status="404 Not Found")

    streams = CURSOR + also("gone")
    with json_api(answer) as server:
        assert status_of(config(declaration=declared(tmp_path, server.url, streams))) == 3
    captured = capsys.readouterr()
    assert "1 of 2 streams failed: gone" in captured.err.splitlines()[-1]
    assert sum(message["type"] == "RECORD" for message in messages(captured.out)) == len(ROWS)


def test_a_rate_limit_beyond_max_wait_postpones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Hostile(lambda _: [response(b"{}", status="429 Slow", headers=["Retry-After: 60"])]) as server:
        assert status_of(config(declaration=declared(tmp_path, server.url), max_wait=5)) == 75
    assert "run again later" in capsys.readouterr().err.splitlines()[-1]


# --- as a process -----------------------------------------------------------------------------------------------------


def lines_until(process: subprocess.Popen[bytes], count: int) -> bytes:
    assert process.stdout is not None
    return b"".join(process.stdout.readline() for _ in range(count))


def ended(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """The rest of stdout and all of stderr; unlike communicate() it knows what readline() has read ahead."""
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        out, err = process.stdout.read(), process.stderr.read()
    process.wait(timeout=20)
    return out, err


@pytest.mark.case("C21")
def test_an_unreachable_host_is_told_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    streams = CURSOR + also("more")
    process = started(config(declaration=declared(tmp_path, f"http://127.0.0.1:{port}", streams)))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"refused the connection" in err.splitlines()[-1]
    assert b"Traceback" not in err


@pytest.mark.case("A4")
@pytest.mark.case("B14")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.case("trap:3.1")
@pytest.mark.case("R000-25")
def test_a_signal_ends_the_run_after_a_whole_page(signum: int, sample: SampleServer, tmp_path: Path) -> None:
    """Also while a write is blocked, since nobody reads until the signal is there."""
    process = started(sample_config(sample))
    head = lines_until(process, 5000)
    process.send_signal(signum)
    out, err = ended(process)
    assert process.returncode == 128 + signum
    assert b"Traceback" not in err
    found = messages((head + out).decode())
    assert found[-1]["type"] == "STATE"
    (tmp_path / "state.json").write_text(json.dumps(found[-1]["value"]))
    rest = started(sample_config(sample), "--state", str(tmp_path / "state.json"))
    more, _ = rest.communicate(timeout=60)
    weather = [m["record"] for m in found + messages(more.decode()) if m.get("stream") == "weather" and "record" in m]
    assert len(weather) == 26115


@pytest.mark.case("A4")
def test_a_signal_ends_a_wait(tmp_path: Path) -> None:
    with Hostile(lambda _: [response(b"{}", status="429 Slow", headers=["Retry-After: 600"])]) as server:
        process = started(config(declaration=declared(tmp_path, server.url)))
        while not server.seen:
            time.sleep(0.01)
        time.sleep(0.3)
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 143


@pytest.mark.case("A5")
def test_a_second_signal_ends_at_once(sample: SampleServer) -> None:
    process = started(sample_config(sample))
    lines_until(process, 2000)
    time.sleep(1)  # by now a write waits for a reader, so that the first signal cannot end the run
    process.terminate()
    time.sleep(0.3)
    assert process.poll() is None
    process.terminate()
    assert process.wait(timeout=5) == 143
    ended(process)
    assert process.returncode == 143


@pytest.mark.case("B3")
@pytest.mark.parametrize("waiting", [False, True])
@pytest.mark.case("trap:2.write-errors-only-logged")
def test_a_target_that_went_away_ends_the_run_in_time(tmp_path: Path, *, waiting: bool) -> None:
    """While it writes, and while it waits for a limit."""

    def answer(path: str, params: dict[str, str]) -> Any:
        if waiting and params.get("cursor") == "50":
            return response(b"{}", status="429 Slow", headers=["Retry-After: 600"])
        return by_cursor(path, params) | (
            {} if waiting else {"next": f"{len(server.seen)}", "items": [{"id": len(server.seen)}]}
        )

    with json_api(answer) as server:
        process = started(config(declaration=declared(tmp_path, server.url)))
        lines_until(process, 12)
        assert process.stdout is not None
        process.stdout.close()
        began = time.monotonic()
        assert process.stderr is not None
        err = process.stderr.read()
        process.stderr.close()
        assert process.wait(timeout=20) == 1
    assert time.monotonic() - began < 5
    assert b"nobody reads" in err.splitlines()[-1]
    assert b"Traceback" not in err


@pytest.mark.case("B13")
@pytest.mark.case("R000-14")
def test_nothing_else_gets_on_stdout(sample: SampleServer) -> None:
    """Prints of Python and of C land on stderr while a sync runs."""
    code = f"""
        import os, threading, time
        from tap_rest.engine import engine
        from tap_rest.tap import main
        def noise():
            while True:
                print("noise", flush=True); os.write(1, b"noise"); time.sleep(0.001)
        class Noisy(engine.Engine):
            def run(self, streams, **how):
                threading.Thread(target=noise, daemon=True).start()
                time.sleep(0.05)
                super().run(streams, **how)
                os._exit(0)
        from tap_rest.engine import running
        running.Engine = Noisy
        main([{sample_config(sample)!r}])
    """
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, check=True, timeout=60)
    assert all(line.startswith(b'{"type":"') for line in process.stdout.splitlines())
    assert b"noise" in process.stderr


@pytest.mark.case("A1")
@pytest.mark.case("P9")
@pytest.mark.case("R004-1")
def test_a_killed_run_repeats_at_most_a_page(sample: SampleServer, tmp_path: Path) -> None:
    """SIGKILL at random moments, over and over, each time restarted from the last whole STATE line."""
    seed = int(os.environ.get("SEED", "7"))
    rng, records, state, kills = random.Random(seed), [], None, 0
    while True:
        args: list[str] = [] if state is None else ["--state", str(tmp_path / "state.json")]
        with (tmp_path / "out").open("wb") as out:
            process = started(sample_config(sample), *args, stdout=out)
            if kills < 6:
                size = rng.randrange(200_000, 2_500_000)
                while process.poll() is None and (tmp_path / "out").stat().st_size < size:
                    time.sleep(0.001)
                process.kill()
            process.communicate()
        text = (tmp_path / "out").read_bytes()
        found = messages(text[: text.rfind(b"\n") + 1].decode())
        records += [
            message["record"] for message in found if message.get("stream") == "weather" and "record" in message
        ]
        state = next((message["value"] for message in reversed(found) if message["type"] == "STATE"), state)
        (tmp_path / "state.json").write_text(json.dumps(state))
        if process.returncode == 0:
            break
        kills += 1
    distinct = {(record["origin"], record["time_hour"]) for record in records}
    assert len(distinct) == 26115
    assert len(records) - len(distinct) <= kills * 500, f"seed {seed}"
