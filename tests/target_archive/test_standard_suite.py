"""Singer's own standard tests of a target; they look at nothing that was archived, so that is done here."""

from __future__ import annotations

import importlib.resources
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from singer_sdk.testing import get_target_test_class, target_test_streams
from singer_sdk.testing.suites import SingerTestSuite, target_tests
from singer_sdk.testing.target_tests import TargetRecordMissingKeyProperty
from tests.target_archive.test_target import run

from target_archive.archive import Archive
from target_archive.messages import decode
from target_archive.sdk import TargetArchive

# The suite wants a record without its key refused. The archive keeps it, since the first job is to retain: see below.
BYPASSED = {TargetRecordMissingKeyProperty}
ROOT = Path(tempfile.mkdtemp(prefix="daykeep-standard-suite-"))

TestStandardSuite = get_target_test_class(
    TargetArchive,
    config={"root": str(ROOT)},
    include_target_tests=False,
    custom_suites=[SingerTestSuite("target", [test for test in target_tests.tests if test not in BYPASSED])],
)

FILES = sorted(
    (path for path in importlib.resources.files(target_test_streams).iterdir() if path.name.endswith(".singer")),
    key=lambda path: path.name,
)


@pytest.fixture(scope="module", autouse=True)
def _clean_root() -> Iterator[None]:
    yield
    shutil.rmtree(ROOT)


def test_no_test_of_the_suite_was_passed_over_unsaid() -> None:
    assert len(BYPASSED) == 1
    assert len(target_tests.tests) - len(BYPASSED) == 15


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_record_of_the_suites_files_is_held_as_it_came_or_is_a_dead_letter(path: Path, tmp_path: Path) -> None:
    lines = path.read_bytes().splitlines()
    schema_is_refused = path.name == "invalid_schema.singer"
    result = run(lines, tmp_path)
    assert (result.returncode != 0) == (path.name in {"invalid_schema.singer", "record_before_schema.singer"})
    sent: Counter[bytes] = Counter()
    for line in lines:
        message = decode(line)
        if message.type == "RECORD":
            sent[bytes(message.record)] += 1
    archive = Archive(tmp_path, "default")
    held = Counter(line for stream in archive.streams() for line in archive.lines(stream))
    for letter in archive.dead_letters():
        held[bytes(decode(json.loads(letter)["line"].encode()).record)] += 1
    assert held == sent or schema_is_refused
    assert "Traceback" not in result.stderr.decode()
