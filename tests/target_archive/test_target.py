"""`target-archive` as a process: real pipes, real signals, real files."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from target_archive.archive import Archive, sources
from target_archive.settings import Settings

TARGET = [str(Path(sys.executable).parent / "target-archive")]
SCHEMA = {
    "type": "SCHEMA",
    "stream": "events",
    "schema": {"properties": {"id": {"type": "integer"}, "at": {"type": "string", "format": "date-time"}}},
    "key_properties": ["id"],
    "bookmark_properties": ["at"],
}


def record(number: int, day: int = 1, text: str = "") -> bytes:
    body = b'{"id":%d,"at":"2024-05-%02dT00:00:00Z","price":1.10,"big":12345678901234567890123,"t":"%s"}'
    return b'{"type":"RECORD","stream":"events","record":' + body % (number, day, text.encode()) + b"}"


def state(number: int) -> bytes:
    return json.dumps({"type": "STATE", "value": {"bookmarks": {"events": {"page": number}}}}).encode()


def run(
    lines: Iterable[bytes], root: Path, *, end: bytes = b"\n", env: dict[str, str] | None = None, **settings: object
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*TARGET, "--config", json.dumps({"root": str(root), **settings})],
        input=b"\n".join(lines) + end,
        capture_output=True,
        check=False,
        timeout=60,
        env={**os.environ, **(env or {})},
    )


def lines_of(root: Path, stream: str = "events", source: str = "default") -> list[bytes]:
    return list(Archive(root, source).lines(stream))


def last_words(result: subprocess.CompletedProcess[bytes]) -> str:
    return result.stderr.decode().strip().splitlines()[-1]


def test_lines_are_the_records_own_bytes_in_a_file_per_day(tmp_path: Path) -> None:
    spaced = (
        b'{"type": "RECORD", "stream": "events", "record": { "id" : 3,"at":"2024-05-02T03:02:03+02:00" , "x":1E5 }}'
    )
    result = run([json.dumps(SCHEMA).encode(), record(1), record(2), spaced, state(1)], tmp_path)
    assert result.returncode == 0
    assert result.stdout == b'{"bookmarks": {"events": {"page": 1}}}\n'
    day = gzip.decompress((tmp_path / "default/events/2024-05-01.jsonl.gz").read_bytes())
    assert day == record(1)[44:-1] + b"\n" + record(2)[44:-1] + b"\n"
    other = gzip.decompress((tmp_path / "default/events/2024-05-02.jsonl.gz").read_bytes())
    assert other == b'{ "id" : 3,"at":"2024-05-02T03:02:03+02:00" , "x":1E5 }\n'


@pytest.mark.case("R001-20")
def test_the_same_run_again_adds_no_line_and_tells_the_state_again(tmp_path: Path) -> None:
    messages = [json.dumps(SCHEMA).encode(), *(record(n, 1 + n % 3) for n in range(50)), state(1)]
    first, second = run(messages, tmp_path), run(messages, tmp_path)
    assert first.stdout == second.stdout != b""
    assert len(lines_of(tmp_path)) == 50
    assert "50 already held" in second.stderr.decode()


@pytest.mark.case("B10")
def test_a_return_to_an_older_version_is_a_new_line(tmp_path: Path) -> None:
    schema = json.dumps(SCHEMA).encode()
    for text in ("A", "B", "A", "A"):
        assert run([schema, record(1, text=text)], tmp_path).returncode == 0
    assert [json.loads(line)["t"] for line in lines_of(tmp_path)] == ["A", "B", "A"]


def test_compression_none_writes_plain_files_and_a_changed_setting_keeps_a_days_own_kind(tmp_path: Path) -> None:
    schema = json.dumps(SCHEMA).encode()
    run([schema, record(1, 1)], tmp_path, compression="none")
    run([schema, record(2, 1), record(3, 2)], tmp_path)
    assert sorted(path.name for path in (tmp_path / "default/events").iterdir()) == [
        "2024-05-01.jsonl",
        "2024-05-02.jsonl.gz",
    ]
    assert (tmp_path / "default/events/2024-05-01.jsonl").read_bytes().count(b"\n") == 2


@pytest.mark.parametrize(
    ("settings", "day"),
    [
        ({"day_field": "made"}, "2023-01-02"),
        ({"day_field": {"ev*": "made"}}, "2023-01-02"),
        ({"day_field": {"other": "made"}}, "2024-05-01"),
        ({"day_field": '{"ev*": "made"}'}, "2023-01-02"),
        ({"day_field": "made", "timezone": "America/New_York"}, "2023-01-01"),
        ({"day_field": "nested.made"}, "2022-02-02"),
        ({"day_field": "missing"}, "undated"),
    ],
)
def test_the_day_field_and_timezone_can_be_set(tmp_path: Path, settings: dict[str, Any], day: str) -> None:
    line = (
        b'{"type":"RECORD","stream":"events","record":{"id":1,"at":"2024-05-01T00:00:00Z",'
        b'"made":"2023-01-02T03:00:00Z","nested":{"made":"2022-02-02"}}}'
    )
    assert run([json.dumps(SCHEMA).encode(), line], tmp_path, **settings).returncode == 0
    assert [path.name for path in (tmp_path / "default/events").iterdir()] == [f"{day}.jsonl.gz"]


def test_a_stream_without_a_date_is_filed_by_the_day_of_reading(tmp_path: Path) -> None:
    schema = {"type": "SCHEMA", "stream": "s", "schema": {"properties": {"id": {}}}, "key_properties": []}
    line = b'{"type":"RECORD","stream":"s","record":{"id":1}}'
    for _ in range(2):
        run([json.dumps(schema).encode(), line, line], tmp_path)
    archive = Archive(tmp_path, "default")
    assert len(archive.days("s")) in {1, 2}  # two where midnight lies between the runs
    assert archive.count("s") == 2 * len(archive.days("s"))


def test_the_source_is_named_after_the_extractor_under_meltano(tmp_path: Path) -> None:
    run([json.dumps(SCHEMA).encode(), record(1)], tmp_path, env={"MELTANO_EXTRACTOR_NAME": "tap-x@acme"})
    assert sources(tmp_path) == ["tap-x@acme"]


@pytest.mark.case("B4")
@pytest.mark.case("B7")
@pytest.mark.case("B8")
def test_odd_lines_are_passed_over_or_kept_as_dead_letters(tmp_path: Path) -> None:
    result = run(
        [
            b"\xef\xbb\xbf" + json.dumps(SCHEMA).encode() + b"\r",
            b"",
            record(1) + b"\r",
            b"  ",
            b'{"type":"NEWS","value":1}',
            b'{"type":"ACTIVATE_VERSION","stream":"events","version":1}',
            b"Traceback (most recent call last):",
            b'{"type":"RECORD","stream":"events","record":{"id":2,"at":"2024-05-01T00:00:00Z","t":"\xff"}}',
            b'{"type":"RECORD","stream":"unknown","record":{"id":1}}',
            b'{"type":"RECORD","stream":"events","record":7}',
            b"\xff\xfe\x00",
        ],
        tmp_path,
        env={"LC_ALL": "C"},
    )
    assert result.returncode == 1
    archive = Archive(tmp_path, "default")
    letters = [json.loads(line) for line in archive.dead_letters()]
    assert [letter.get("line", letter.get("line_base64"))[:9] for letter in letters] == [
        "Traceback",
        '{"type":"',
        "//4A",
    ]
    assert b'"t":"\xff"' in b"".join(archive.lines("events", "2024-05-01"))
    assert list(archive.lines("events", "undated")) == [b"7"]
    assert "dead_letters" in last_words(result)
    assert not any(name.startswith("_") for name in archive.streams())
    assert len(list((tmp_path / "default/_meta/dead_letters").glob("*.jsonl.gz"))) == 1
    assert {path.name for path in (tmp_path / "default").iterdir()} == {"_meta", "events"}


@pytest.mark.case("B1")
@pytest.mark.case("B2")
def test_a_stream_cut_at_any_byte_keeps_every_whole_line_and_the_torn_one(tmp_path: Path) -> None:
    text = b"\n".join([json.dumps(SCHEMA).encode(), record(1), state(1), record(2), state(2)]) + b"\n"
    for cut in range(0, len(text), 23):
        root = tmp_path / str(cut)
        result = run([text[:cut]], root, end=b"")
        whole = text[:cut].count(b"\n") - 1
        archive = Archive(root, "default")
        assert len(list(archive.lines("events"))) == sum(part in {2, 4} for part in range(2, whole + 2))
        torn = text[:cut].rpartition(b"\n")[2]
        assert result.returncode == (1 if torn else 0)
        assert [json.loads(letter)["line"].encode() for letter in archive.dead_letters()] == ([torn] if torn else [])


@pytest.mark.case("B6")
def test_an_empty_state_never_takes_the_place_of_a_good_one(tmp_path: Path) -> None:
    empty = b'{"type":"STATE","value":{}}'
    result = run([json.dumps(SCHEMA).encode(), record(1), state(1), empty], tmp_path)
    assert result.stdout == b'{"bookmarks": {"events": {"page": 1}}}\n'


@pytest.mark.case("B12")
def test_a_batch_message_is_refused_and_kept(tmp_path: Path) -> None:
    batch = b'{"type":"BATCH","stream":"events","encoding":{},"manifest":["file:///x"]}'
    result = run([json.dumps(SCHEMA).encode(), batch], tmp_path)
    assert result.returncode == 1
    assert "batch_config" in result.stderr.decode()
    assert len(list(Archive(tmp_path, "default").dead_letters())) == 1


@pytest.mark.case("A25")
def test_a_schema_that_changes_in_mid_run_goes_on_in_the_same_files(tmp_path: Path) -> None:
    wider = {**SCHEMA, "schema": {"properties": {**SCHEMA["schema"]["properties"], "new": {}}}}  # type: ignore[index]
    run([json.dumps(SCHEMA).encode(), record(1), json.dumps(wider).encode(), record(1), record(2)], tmp_path)
    assert len(lines_of(tmp_path)) == 2
    assert "new" in Archive(tmp_path, "default").log.streams["events"].schema["properties"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('{"rot": "x"}', "did you mean `root`?"),
        ('{"commit_max_seconds": "soon"}', "commit_max_seconds"),
        ('{"commit_max_records": 0}', "commit_max_records"),
        ('{"compression": "rar"}', "compression"),
        ('{"timezone": "Mars/North"}', "not a time zone"),
        ('{"day_field": "{"}', "day_field"),
        ("{", "cannot be read"),
        ("[1]", "cannot be read"),
        ("/does/not/exist.json", "cannot be read"),
    ],
)
def test_wrong_settings_end_with_one_line_and_status_2(config: str, words: str) -> None:
    result = subprocess.run([*TARGET, "--config", config], input=b"", capture_output=True, check=False)
    assert result.returncode == 2
    assert len(result.stderr.decode().strip().splitlines()) == 1
    assert words in result.stderr.decode()


def test_settings_from_the_environment_are_taken_where_asked_for(tmp_path: Path) -> None:
    env = {**os.environ, "TARGET_ARCHIVE_ROOT": str(tmp_path), "TARGET_ARCHIVE_COMMIT_MAX_RECORDS": "1"}
    text = json.dumps(SCHEMA).encode() + b"\n" + record(1) + b"\n"
    subprocess.run([*TARGET, "--config", "ENV"], input=text, capture_output=True, check=True, env=env)
    assert len(lines_of(tmp_path)) == 1


@pytest.mark.case("A21")
def test_a_root_that_cannot_be_written_ends_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = run([json.dumps(SCHEMA).encode()], tmp_path / "file")
    assert result.returncode == 1
    assert len(result.stderr.decode().strip().splitlines()) == 1
    assert "a file stands where a folder" in result.stderr.decode()


@pytest.mark.case("X9")
def test_a_planted_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run([json.dumps(SCHEMA).encode()], tmp_path / "a")
    (tmp_path / "a/default/events").symlink_to(elsewhere)
    result = run([json.dumps(SCHEMA).encode(), record(1), state(1)], tmp_path / "a")
    assert result.returncode == 1
    assert list(elsewhere.iterdir()) == []
    assert b"page" in result.stdout, "the record is committed in its pack, only publishing failed"


@pytest.mark.case("A16")
@pytest.mark.case("A18")
def test_a_second_writer_is_told_who_holds_the_archive_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    command = [*TARGET, "--config", json.dumps({"root": str(tmp_path)})]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as holder:
        wait_for(tmp_path / "default/_meta/format.json")
        second = run([], tmp_path)
        assert second.returncode == 11
        assert f"pid {holder.pid}" in last_words(second)
        holder.kill()
    assert run([json.dumps(SCHEMA).encode(), record(1)], tmp_path).returncode == 0


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


@pytest.mark.case("A4")
@pytest.mark.case("B14")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_keeps_what_has_come_and_says_so(tmp_path: Path, number: signal.Signals, status: int) -> None:
    command = [*TARGET, "--config", json.dumps({"root": str(tmp_path)})]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as target:
        assert target.stdin
        assert target.stdout
        wait_for(tmp_path / "default/_meta/format.json")
        target.stdin.write(b"\n".join([json.dumps(SCHEMA).encode(), record(1), state(1), record(2)]) + b"\n")
        target.stdin.flush()
        time.sleep(0.3)
        target.send_signal(number)
        if number == signal.SIGINT:
            target.stdin.write(record(3) + b"\n")  # a tap that got the same signal still ends its page
            target.stdin.close()
        assert target.stdout.read() == b'{"bookmarks": {"events": {"page": 1}}}\n'
        assert target.wait(timeout=30) == status
    assert len(lines_of(tmp_path)) == (2 if number == signal.SIGTERM else 3)


@pytest.mark.case("A4")
def test_signals_at_many_moments_lose_nothing_and_never_look_like_success(tmp_path: Path) -> None:
    messages = [json.dumps(SCHEMA).encode()]
    for page in range(100):
        messages += [*(record(page * 20 + n, 1 + page % 28) for n in range(20)), state(page)]
    for moment in range(15):
        root = tmp_path / str(moment)
        settings = {"root": str(root), "commit_max_records": 100}
        command = [*TARGET, "--config", json.dumps(settings)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as target:
            assert target.stdin
            assert target.stdout
            wait_for(root / "default/_meta/format.json")
            for number, message in enumerate(messages):
                if number == 140 * (moment + 1):
                    target.send_signal(signal.SIGTERM)
                try:
                    target.stdin.write(message + b"\n")
                    target.stdin.flush()
                except BrokenPipeError:
                    break
            with contextlib.suppress(BrokenPipeError):
                target.stdin.close()
            told = target.stdout.read().splitlines()
            assert target.wait(timeout=30) == 143
        pages = json.loads(told[-1])["bookmarks"]["events"]["page"] + 1 if told else 0
        held = {json.loads(line)["id"] for line in lines_of(root)}
        assert held >= set(range(pages * 20))
        assert len(held) == len(lines_of(root))


@pytest.mark.case("B3")
def test_when_nobody_reads_the_state_the_data_is_kept_and_the_end_is_an_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [*TARGET, "--config", json.dumps({"root": str(tmp_path)})],
        input=b"\n".join([json.dumps(SCHEMA).encode(), record(1), state(1)]) + b"\n",
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert result.returncode == 1
    assert "nobody reads the STATE" in result.stderr.decode()
    assert len(lines_of(tmp_path)) == 1


@pytest.mark.case("A7")
@pytest.mark.case("A9")
def test_a_full_disk_is_told_in_one_line_and_the_next_run_completes(tmp_path: Path) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    noise = [os.urandom(400).hex() for _ in range(300)]
    messages = [json.dumps(SCHEMA).encode(), *(record(n, 1, text) for n, text in enumerate(noise)), state(1)]
    result = subprocess.run(
        [*TARGET, "--config", json.dumps({"root": str(tmp_path)})],
        input=b"\n".join(messages) + b"\n",
        capture_output=True,
        check=False,
        preexec_fn=limit,
    )
    assert result.returncode == 1
    assert result.stdout == b""
    assert "File too large" in last_words(result)
    assert run(messages, tmp_path).returncode == 0
    assert len(lines_of(tmp_path)) == 300


@pytest.mark.case("A15")
def test_a_day_that_somebody_edited_is_left_alone_and_the_others_go_on(tmp_path: Path) -> None:
    schema = json.dumps(SCHEMA).encode()
    run([schema, record(1, 1), record(2, 2)], tmp_path)
    edited = tmp_path / "default/events/2024-05-01.jsonl.gz"
    edited.write_bytes(gzip.compress(b"mine\n"))
    result = run([schema, record(3, 1), record(4, 2), state(1)], tmp_path, day_field="at")
    assert result.returncode == 1
    assert "2024-05-01.jsonl.gz" in result.stderr.decode()
    assert gzip.decompress(edited.read_bytes()) == b"mine\n"
    archive = Archive(tmp_path, "default")
    assert len(list(archive.lines("events", "2024-05-02"))) == 2
    assert [finding.path for finding in archive.verify()] == ["default/events/2024-05-01.jsonl.gz"]


@pytest.mark.case("A13")
@pytest.mark.case("A14")
def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    schema = json.dumps(SCHEMA).encode()
    run([schema, record(1, 1), record(2, 2), state(1)], tmp_path)
    files = [path for path in (tmp_path / "default").rglob("*") if path.is_file() and path.suffix in {".gz", ".json"}]
    commits = [path for path in files if path.parent.name == "commits"]
    days = [path for path in files if path.parent.name == "events"]
    assert len(commits) == 2
    assert len(days) == 2
    for path in commits + days:
        content = path.read_bytes()
        for position in range(0, len(content), 7):
            flipped = bytearray(content)
            flipped[position] ^= 1
            path.write_bytes(flipped)
            try:
                found = list(Archive(tmp_path, "default").verify())
            except Exception as error:  # noqa: BLE001 - the log itself refuses
                found = [error]  # type: ignore[list-item]
            assert found, f"byte {position} of {path}"
        path.write_bytes(content)
    assert list(Archive(tmp_path, "default").verify()) == []
    shutil.copy(days[0], days[0].with_name("2024-05-09.jsonl.gz"))
    assert len(list(Archive(tmp_path, "default").verify())) == 1
    commits[0].unlink()
    refused = run([schema, record(3)], tmp_path)
    assert refused.returncode == 1
    assert "commit record" in last_words(refused)


@pytest.mark.case("A23")
def test_ten_thousand_days_need_few_open_files(tmp_path: Path) -> None:
    lines = [json.dumps(SCHEMA).encode()]
    for year in range(2000, 2010):
        lines += [
            b'{"type":"RECORD","stream":"events","record":{"id":%d,"at":"%d-%02d-%02dT00:00:00Z"}}' % (n, year, m, d)
            for n, (m, d) in enumerate((m, d) for m in range(1, 13) for d in range(1, 29, 4))
        ]
    result = subprocess.run(
        [*TARGET, "--config", json.dumps({"root": str(tmp_path)})],
        input=b"\n".join(lines) + b"\n",
        capture_output=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    )
    assert result.returncode == 0, result.stderr
    assert len(Archive(tmp_path, "default").days("events")) == 840


def test_a_slow_tap_is_committed_by_the_clock_alone(tmp_path: Path) -> None:
    command = [*TARGET, "--config", json.dumps({"root": str(tmp_path), "commit_max_seconds": 0.3})]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as target:
        assert target.stdin
        assert target.stdout
        target.stdin.write(b"\n".join([json.dumps(SCHEMA).encode(), record(1), state(1), record(2)]) + b"\n")
        target.stdin.flush()
        assert json.loads(target.stdout.readline()) == {"bookmarks": {"events": {"page": 1}}}
        wait_for(tmp_path / "default/_meta/commits/00000002.json")
        target.kill()
    assert len(lines_of(tmp_path)) == 2, "also what came after the STATE"


def test_about_names_every_setting_with_its_description() -> None:
    result = subprocess.run([*TARGET, "--about", "--format", "json"], capture_output=True, check=True)
    settings = json.loads(result.stdout)["settings"]["properties"]
    assert set(settings) == set(Settings.__struct_fields__)
    assert all(setting["description"] for setting in settings.values())
