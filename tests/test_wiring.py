"""What a packaged API has besides its declaration: each test names what is missing."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml

import tap_declarations

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", tap_declarations.names())
def test_a_packaged_declaration_has_a_script_an_extractor_and_a_recording(name: str) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert f"tap-{name}" in scripts, f'pyproject.toml: tap-{name} = "tap_declarations:{name}"'
    extractors = yaml.safe_load((ROOT / "meltano.yml").read_text())["plugins"]["extractors"]
    assert f"tap-{name}" in [one["name"] for one in extractors], f"meltano.yml: an extractor tap-{name}"
    if name != "sample":  # its server comes along, and is asked by many tests
        recording = Path("tests", "apis", "golden", f"{name}.jsonl")
        assert (ROOT / recording).exists(), f"{recording}: what its streams give, from a model of the API"


def test_a_script_of_an_api_that_is_not_packaged_is_a_plain_error() -> None:
    with pytest.raises(AttributeError, match="acme"):
        tap_declarations.acme  # noqa: B018 - what a console script does
