"""README is true: its declarations load, its commands exist, and it names every component."""

from __future__ import annotations

import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import yaml

from daykeep.cli import main
from tap_rest.auth import auth
from tap_rest.formats import formats, records
from tap_rest.language import paginators
from tap_rest.language.declaration import load
from target_archive.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)


def test_the_declaration_in_readme_loads_and_is_short(tmp_path: Path) -> None:
    path = tmp_path / "github.yaml"
    path.write_text(BLOCKS[0])
    declaration = load(path)
    assert set(declaration.streams) == {"issues", "comments", "releases"}
    assert len(BLOCKS[0].splitlines()) <= 40


def test_a_typo_in_it_is_answered_as_readme_says(tmp_path: Path) -> None:
    path = tmp_path / "github.yaml"
    path.write_text(BLOCKS[0].replace("type: link_header", "type: link_heder"))
    command = [str(Path(sys.executable).parent / "tap-rest"), "--config", f'{{"declaration": "{path}"}}', "--discover"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    told = re.search(r"``github\.yaml:11: (.*?)``\n", README)
    assert told
    assert f"github.yaml:11: {told[1]}" in result.stderr


def test_the_other_yaml_blocks_are_yaml() -> None:
    assert all(yaml.safe_load(block) for block in BLOCKS)


@pytest.mark.parametrize("union", [paginators.Paginator, auth.Auth, records.Records, formats.Format])
def test_readme_names_every_component(union: object) -> None:
    for component in typing.get_args(union):
        assert (
            f"`{component.__struct_config__.tag}`" in README or f"type: {component.__struct_config__.tag}}}" in README
        )


def test_readme_names_every_command_and_setting() -> None:
    assert all(f"daykeep {name}" in README for name in main.commands)
    assert all(f"`{name}`" in README for name in Settings.__struct_fields__)


def test_every_linked_file_exists() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
