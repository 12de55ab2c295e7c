"""Singer is the seam: other people's targets take our taps, and other people's taps feed our archive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from tests.benchmarks.server import pages, serve

from tap_sample.tables import tables
from target_archive.archive import Archive

BIN = Path(sys.executable).parent
TAP_OF_OTHERS = Path(__file__).parent.parent / "benchmarks/peer_singer_sdk.py"


@pytest.fixture(scope="module")
def target_jsonl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PyPI's target-jsonl, which needs an old jsonschema and so an environment of its own."""
    folder = tmp_path_factory.mktemp("target-jsonl")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [str(folder / "bin/pip"), "install", "-q", "target-jsonl==0.1.4", "setuptools<81"]
    if subprocess.run(install, check=False, capture_output=True).returncode:
        pytest.skip("target-jsonl cannot be installed here")
    return folder / "bin/target-jsonl"


def test_our_tap_feeds_target_jsonl(target_jsonl: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"destination_path": str(tmp_path)}))
    with subprocess.Popen([str(BIN / "tap-sample")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as tap:
        command = [str(target_jsonl), "--config", str(config)]
        target = subprocess.run(command, stdin=tap.stdout, capture_output=True, check=False)
    assert (tap.returncode, target.returncode) == (0, 0), target.stderr[-500:]
    for name, table in tables().items():
        files = sorted(tmp_path.glob(f"{name}-*.jsonl"))
        written = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        assert written == [json.loads(line) for line in table.lines]
    assert "bookmarks" in json.loads(target.stdout.splitlines()[-1])


def test_a_plain_singer_sdk_tap_feeds_our_archive_twice_and_adds_nothing(tmp_path: Path) -> None:
    bodies = pages(3000)
    server = serve(bodies)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env = {**os.environ, "BENCH_URL": f"http://127.0.0.1:{server.server_address[1]}"}
    config = json.dumps({"root": str(tmp_path / "archive")})
    try:
        for _ in range(2):
            tap = subprocess.run([sys.executable, str(TAP_OF_OTHERS)], capture_output=True, check=True, env=env)
            command = [str(BIN / "target-archive"), "--config", config]
            target = subprocess.run(command, input=tap.stdout, capture_output=True, check=False)
            assert target.returncode == 0, target.stderr
    finally:
        server.shutdown()
        server.server_close()
    sent = Counter(
        json.dumps(json.loads(line)["record"], sort_keys=True)
        for line in tap.stdout.splitlines()
        if b'"RECORD"' in line
    )
    archive = Archive(tmp_path / "archive", "default")
    assert Counter(json.dumps(json.loads(line), sort_keys=True) for line in archive.lines("events")) == sent
    assert len(archive.days("events")) == 365
    state = json.loads(target.stdout.splitlines()[-1])
    assert state["bookmarks"]["events"]["replication_key_value"] == "2024-12-30T21:04:48Z"
