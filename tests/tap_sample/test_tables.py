"""The records are the CSV files, value by value."""

from __future__ import annotations

import csv
import gzip
import json
from importlib.resources import files

import pytest

from tap_sample.tables import NAMES, table, tables

ROWS = {"weather": 26_115, "planes": 3_322, "airports": 1_458, "airlines": 16}


@pytest.mark.parametrize("name", NAMES)
def test_every_value_has_the_text_that_it_has_in_the_file(name: str) -> None:
    text = gzip.decompress(files("tap_sample").joinpath("data", f"{name}.csv.gz").read_bytes()).decode()
    rows = [tuple(row.items()) for row in csv.DictReader(text.splitlines())]
    read = [
        tuple(
            (key, "NA" if value is None else value)
            for key, value in json.loads(line, parse_int=str, parse_float=str).items()
        )
        for line in table(name).lines
    ]
    assert len(read) == ROWS[name]
    assert sorted(read) == sorted(rows)


def test_a_number_is_a_json_number_and_a_name_stays_a_string() -> None:
    first = table("weather").lines[0]
    assert b'"wind_speed":10.357019999999999,"wind_gust":null,"precip":0,' in first
    assert any(b'"pressure":1e3,' in line for line in table("weather").lines)
    assert any(b'"model":"150"' in line for line in table("planes").lines)
    assert any(b'"faa":"369"' in line for line in table("airports").lines)


def test_lines_are_compact_json() -> None:
    for each in tables().values():
        assert each.lines[0] == json.dumps(json.loads(each.lines[0]), separators=(",", ":")).encode()
        assert not any(b"\n" in line for line in each.lines)


def test_weather_is_in_order_of_time_then_origin_and_covers_364_utc_days() -> None:
    weather = table("weather")
    keys = [(row["time_hour"], row["origin"]) for row in map(json.loads, weather.lines)]
    assert keys == sorted(set(keys))
    assert len({time[:10] for time, _ in keys}) == 364
    assert [time.strftime("%Y-%m-%dT%H:%M:%SZ") for time in weather.times] == [time for time, _ in keys]
