"""Our `meltano.yml`: it runs without the Hub, and says of every setting what the programs themselves say."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from tests.daykeep.command import BIN, daykeep, environment

import tap_declarations
from target_archive.archive import Archive
from target_archive.settings import Settings

PROJECT = Path(__file__).parents[2] / "meltano.yml"
SDK_SETTINGS = ("stream_map", "flattening_", "faker_config", "batch_config")


def plugins() -> dict[str, dict[str, Any]]:
    declared = yaml.safe_load(PROJECT.read_text())
    return {one["name"]: one for kind in declared["plugins"].values() for one in kind}


def described(plugin: dict[str, Any]) -> dict[str, str]:
    return {setting["name"]: setting["description"] for setting in plugin["settings"]}


def about(command: str) -> dict[str, Any]:
    ended = subprocess.run(
        [BIN / command, "--about", "--format=json"], capture_output=True, check=True, env=environment(), timeout=60
    )
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_nothing_is_asked_of_the_hub_and_nothing_is_told() -> None:
    declared = yaml.safe_load(PROJECT.read_text())
    assert declared["send_anonymous_usage_stats"] is False
    assert "version" not in declared
    for plugin in plugins().values():
        assert plugin["namespace"]
        assert plugin["executable"] == plugin["name"]
        assert "pip_url" not in plugin


def test_the_loaders_settings_are_those_of_the_target() -> None:
    schema = next(iter(msgspec.json.schema(Settings)["$defs"].values()))["properties"]
    plugin = plugins()["target-archive"]
    assert described(plugin) == {name: one["description"] for name, one in schema.items()}
    kinds = {"integer": "integer", "number": "decimal"}
    for setting in plugin["settings"]:
        declared = schema[setting["name"]]
        if "enum" in declared:
            assert setting["kind"] == "options"
            assert sorted(one["value"] for one in setting["options"]) == sorted(declared["enum"])
        else:
            assert setting["kind"] == kinds.get(declared.get("type"), "string")


@pytest.mark.parametrize("tap", ["tap-rest", *(f"tap-{name}" for name in tap_declarations.names())])
def test_an_extractors_settings_are_those_of_the_tap(tap: str) -> None:
    told = about(tap)
    plugin = plugins()[tap]
    settings = {name: one for name, one in told["settings"]["properties"].items() if not name.startswith(SDK_SETTINGS)}
    assert described(plugin) == {name: one["description"] for name, one in settings.items()}
    assert plugin["capabilities"] == told["capabilities"]
    secret = {name for name, one in settings.items() if one.get("secret")}
    assert {setting["name"] for setting in plugin["settings"] if setting.get("sensitive")} == secret


def test_meltano_runs_the_sample_into_an_archive_and_a_second_run_adds_nothing(tmp_path: Path) -> None:
    shutil.copy(PROJECT, tmp_path)
    env = environment(MELTANO_PROJECT_ROOT=str(tmp_path), MELTANO_CLI_DISABLE_VERSION_CHECK="true", NO_COLOR="1")
    counts = []
    for _ in range(2):
        ended = subprocess.run(
            [BIN / "meltano", "run", "tap-sample", "target-archive"],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        archive = Archive(tmp_path / "archive", "tap-sample")
        counts.append({stream: archive.count(stream) for stream in archive.streams()})
    assert counts[0].pop("requests") < counts[1].pop("requests")
    assert counts[0] == counts[1]
    assert not archive.gaps("requests")
    assert counts[0]["weather"] == 26_115
    assert len(archive.days("weather")) == 364
    assert "not recorded" in daykeep("status", cwd=tmp_path).stdout
    ended = daykeep("run", "tap-sample", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert Archive(tmp_path / "archive", "tap-sample").count("weather") == 26_115
