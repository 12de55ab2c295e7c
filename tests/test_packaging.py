"""What is installed: the built wheel, its scripts, and who provides the shared module names."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = {"tap_declarations", "tap_file", "tap_rest", "tap_sample", "target_archive", "daykeep"}
TOP_LEVEL = {
    "pyproject.toml",
    "taps",
    "targets",
    "tests",
    "meltano.yml",
    "README.md",
    "docs",
    "CHANGELOG.md",
    "LICENSE",
    "SECURITY.md",
}


def test_backoff_is_the_maintained_continuation() -> None:
    """Two distributions install the folder `backoff`; only this one is kept."""
    assert importlib.metadata.packages_distributions()["backoff"] == ["python-backoff"]


def test_the_top_level_holds_what_was_agreed() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not listed:
        pytest.skip("not a git checkout")
    found = {name.split("/")[0] for name in listed}
    assert {name for name in found if not name.startswith(".")} <= TOP_LEVEL


def test_the_wheel_holds_our_packages_and_their_data_and_nothing_else(tmp_path: Path) -> None:
    uv = os.environ.get("UV") or shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    if not Path(uv).exists():
        pytest.skip("needs uv to build the wheel")
    subprocess.run([uv, "build", "--wheel", "-q", "-o", str(tmp_path), str(ROOT)], check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        scripts = wheel.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == PACKAGES
    for data in ("tap_declarations/sample.yaml", "tap_sample/data/weather.csv.gz", "target_archive/FORMAT.md"):
        assert data in names
    for script in ("tap-rest", "tap-sample", "target-archive", "daykeep"):
        assert f"{script} = " in scripts


@pytest.mark.parametrize("option", ["--help", "--version"])
@pytest.mark.parametrize("script", PROJECT["scripts"])
def test_every_script_answers_help_and_version(script: str, option: str) -> None:
    command = [str(Path(sys.executable).parent / script), option]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout
    assert option != "--version" or PROJECT["version"] in result.stdout
