"""The SDK lane: stream maps, flattening and deselected properties, through the same engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.tap_rest.command_line import messages, sample_config, status_of

from tap_sample.server import SampleServer


def test_stream_maps_ask_for_the_sdk_lane(sample: SampleServer, capsys: pytest.CaptureFixture[str]) -> None:
    maps = {"airlines": {"carrier": "record['carrier'].lower()", "__filter__": "record['carrier'] != '9E'"}}
    assert status_of(sample_config(sample, stream_maps=maps)) == 0
    captured = capsys.readouterr()
    assert "SDK lane, for stream_maps" in captured.err
    found = messages(captured.out)
    carriers = [m["record"]["carrier"] for m in found if m.get("stream") == "airlines" and m["type"] == "RECORD"]
    assert len(carriers) == 15
    assert all(carrier == carrier.lower() for carrier in carriers)
    assert sum(m["type"] == "RECORD" for m in found) == 15 + 1458 + 3322 + 26115
    assert found[-1]["value"]["claims"]["airlines"][0]["evidence"]["records"] == 16
    assert found[-1]["value"]["bookmarks"]["weather"]["replication_key_value"] == "2013-12-30T23:00:00Z"


def test_deselected_properties_ask_for_the_sdk_lane(
    sample: SampleServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status_of(sample_config(sample), "--discover")
    catalog = json.loads(capsys.readouterr().out)
    stream: dict[str, Any] = next(s for s in catalog["streams"] if s["tap_stream_id"] == "airlines")
    stream["schema"]["properties"]["name"] = {"type": ["string", "null"]}
    stream["metadata"].append({"breadcrumb": ["properties", "name"], "metadata": {"selected": False}})
    (tmp_path / "catalog.json").write_text(json.dumps({"streams": [stream]}))
    assert status_of(sample_config(sample), "--catalog", str(tmp_path / "catalog.json")) == 0
    captured = capsys.readouterr()
    assert "SDK lane, for deselected properties of airlines" in captured.err


def test_flattening_asks_for_the_sdk_lane(sample: SampleServer, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"flattening_enabled": True, "flattening_max_depth": 1}
    assert status_of(sample_config(sample, **settings), "--stream", "airlines") == 0
    captured = capsys.readouterr()
    assert "SDK lane, for flattening_enabled" in captured.err
    assert sum(m["type"] == "RECORD" for m in messages(captured.out)) == 16
