"""Partitions in the archive: a pass that is broken anywhere and gone on with holds each record once."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.end_to_end.pipeline import BIN
from tests.tap_rest.harness import json_api, run
from tests.tap_rest.test_partitions import REPOS, api

from target_archive.archive import Archive

KEYLESS = REPOS.replace("    primary_keys: [id]\n    include", "    include")


def archived(root: Path, messages: bytes) -> Any:
    """The last STATE that target-archive told for a tap's output."""
    settings = {"root": str(root), "source": "tap-test", "commit_max_records": 1}
    done = subprocess.run(
        [str(BIN / "target-archive"), "--config", json.dumps(settings)], input=messages, capture_output=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def records(messages: bytes) -> Counter[bytes]:
    found = [line for line in messages.splitlines() if line.startswith(b'{"type":"RECORD","stream":"issues"')]
    return Counter(line.partition(b'"record":')[2].rpartition(b',"time_extracted"')[0] for line in found)


@pytest.mark.case("A1")
@pytest.mark.case("B11")
@pytest.mark.parametrize("declaration", [REPOS, KEYLESS], ids=["keyed", "keyless"])
def test_a_broken_pass_over_partitions_is_archived_once(tmp_path: Path, declaration: str) -> None:
    with json_api(api) as server:
        whole = run(tmp_path, server, declaration)
        start = b'{"type":"STATE","value":{"bookmarks":{}}}\n'  # what the tap prints first
        lines = whole.output.splitlines(keepends=True)
        places = [number for number, line in enumerate(lines) if line.startswith(b'{"type":"STATE"')]
        for place in places[::3]:
            root = tmp_path / f"archive{place}"
            state = archived(root, start + b"".join(lines[: place + 3]))
            told = json.dumps({"type": "STATE", "value": state}).encode() + b"\n"
            again = run(tmp_path, server, declaration, state=state)
            archived(root, told + again.output)
            found = Counter(Archive(root, "tap-test").lines("issues"))
            assert found == records(whole.output), place
