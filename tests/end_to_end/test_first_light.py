"""The main job on the sample API: complete, byte for byte, whatever goes wrong on the way."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest
from tests.end_to_end.pipeline import SOURCE, Pipeline, expected, held, kill_and_restart

from target_archive.archive import Archive


@pytest.mark.case("R001-10")
@pytest.mark.case("R001-20")
def test_a_year_of_weather_in_364_day_files_and_a_second_run_adds_no_line(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    first = Pipeline(root)
    assert first.wait() == (0, 0)
    files = sorted((root / SOURCE / "weather").iterdir())
    assert len(files) == 364
    assert held(root) == expected()
    text = b"".join(gzip.decompress(file.read_bytes()) for file in files)
    assert text.count(b"\n") == 26_115
    for from_state in (first.told(), None):
        again = Pipeline(root, from_state)
        assert again.wait() == (0, 0)
        assert b"".join(gzip.decompress(file.read_bytes()) for file in files) == text
    assert held(root) == expected()
    assert list(Archive(root, SOURCE).verify()) == []


def test_the_day_files_of_weather_are_days_in_utc(tmp_path: Path) -> None:
    Pipeline(tmp_path / "archive").wait()
    archive = Archive(tmp_path / "archive", SOURCE)
    for day in ("2013-01-01", "2013-07-04", "2013-12-30"):
        assert all(b'"time_hour":"%s' % day.encode() in line for line in archive.lines("weather", day))
    statuses = archive.statuses("weather")
    assert statuses["2014-07-04"] == "empty", "proved, not merely absent"
    gaps = [(gap.status, gap.first, gap.last) for gap in archive.gaps("weather")]
    assert gaps == [("empty_suspect", "2013-12-31", "2014-01-27")], "a stream that ends is told for four weeks"


@pytest.mark.case("C2")
@pytest.mark.case("C13")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_with_faults_in_a_tenth_of_the_requests_the_archive_is_the_same(seed: int, tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path / "archive", config={"faults": f"0.1:{seed}"})
    assert pipeline.wait(300) == (0, 0), pipeline.tap_words[-800:]
    assert held(tmp_path / "archive") == expected()


@pytest.mark.case("A1")
@pytest.mark.case("B1")
@pytest.mark.case("B3")
@pytest.mark.parametrize("from_archive", [True, False], ids=["archive-state", "told-state"])
def test_killed_at_random_moments_and_restarted_the_archive_is_the_same(from_archive: bool, tmp_path: Path) -> None:
    rng = random.Random(from_archive)
    kill_and_restart(tmp_path / "archive", 6, rng, from_archive=from_archive)
    assert held(tmp_path / "archive") == expected()
    assert list(Archive(tmp_path / "archive", SOURCE).verify()) == []
