"""docs/takeout.md has every key of an entry, its examples are taken; meltano.yml says what the tap says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tap_file.files import Export
from tap_file.tap import FileTap
from tap_rest.errors import ConfigError
from tap_rest.language.vocabulary import Defaults

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/takeout.md").read_text()


def test_the_page_has_every_key() -> None:
    rows = [row.partition("|")[0] for row in re.findall(r"^\| (`.*)$", PAGE, re.MULTILINE)]
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(Export.__struct_fields__)


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_its_examples_are_taken(block: str) -> None:
    tap = FileTap(config=yaml.safe_load(block))
    (stream,) = tap.streams.values()
    assert stream.primary_keys == ["id"]


def test_an_examples_mistake_is_not_taken() -> None:
    with pytest.raises(ConfigError, match="memory"):
        FileTap(config={"files": [{"path": "x", "stream": "x", "memory": "y"}]}).streams  # noqa: B018 - reads the config


def test_meltano_knows_the_settings() -> None:
    extractors = yaml.safe_load((ROOT / "meltano.yml").read_text())["plugins"]["extractors"]
    plugin = next(one for one in extractors if one["name"] == "tap-file")
    told = {setting["name"]: setting["description"] for setting in plugin["settings"]}
    known = FileTap.config_jsonschema["properties"]
    assert told == {name: known[name]["description"] for name in ("files", "declaration")}
    assert plugin["capabilities"] == [one.value for one in FileTap.capabilities]


def test_modes_are_those_of_a_declaration() -> None:
    assert Export.__annotations__["mode"] == Defaults.__annotations__["mode"]
