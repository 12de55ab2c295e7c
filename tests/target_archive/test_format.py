"""FORMAT.md is enough to read an archive: `stranger.py` follows it, and what it reads is what we read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.target_archive import stranger
from tests.target_archive.golden import make

from target_archive import writer as writing
from target_archive.archive import Archive
from target_archive.errors import NotHeld


def check(root: Path) -> int:
    """The stranger's views, as of each commit, each time and now, against ours; how many there are."""
    ours, theirs = Archive(root, make.SOURCE), stranger.read(root / make.SOURCE)
    views = 0
    assert theirs.state == json.loads(bytes(ours.log.state or b"null"))
    assert set(theirs.streams) - {"_dead_letters"} == set(ours.streams())
    for stream in ours.streams():
        for day in [*ours.days(stream), "undated"]:
            assert stranger.view(theirs, stream, day) == ours.view(stream, day)
            for seq in range(1, ours.log.seq + 1):
                try:
                    expected = ours.view(stream, day, as_of=seq)
                except NotHeld:
                    with pytest.raises(AssertionError):
                        stranger.view(theirs, stream, day, seq)
                    continue
                assert stranger.view(theirs, stream, day, seq) == expected, (stream, day, seq)
                views += 1
            at = ours.log.times[-1]
            assert stranger.view(theirs, stream, day, at) == ours.view(stream, day, as_of=at)
    return views


@pytest.mark.parametrize("name", ["format-1", "format-2"])
def test_a_stranger_reads_the_golden_archives_as_we_do(name: str) -> None:
    assert check(make.HERE / name) > 40


def test_a_stranger_reads_a_fresh_archive_as_we_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "CHECKPOINT_EVERY", 5)  # `make` sets them
    monkeypatch.setattr(writing, "PART_SIZE", 120)
    make.make(tmp_path)
    assert check(tmp_path) > 40


def test_a_stranger_sees_the_state_and_what_was_claimed() -> None:
    found = stranger.read(make.HERE / "format-2" / make.SOURCE)
    log = Archive(make.HERE / "format-2", make.SOURCE).log
    assert found.state is not None
    assert found.state["bookmarks"]["visits"] == {"read": 7}
    for stream, claims in log.claims.items():
        told = [(one["status"], one["from"], one["to"], one["evidence"]["records"]) for one in found.claims[stream]]
        assert told == [(one.status, one.start, one.end, one.records) for one in claims]


def test_the_stranger_is_one() -> None:
    lines = [line for line in Path(stranger.__file__).read_text().splitlines() if line and "import " not in line]
    assert len(lines) <= 60
    assert not any("target_archive" in line or "msgspec" in line for line in lines)
