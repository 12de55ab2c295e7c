"""What each family of headers says, with the figures that vendors publish."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_rest.limits.quota_headers import FAMILIES, LONGEST_WAIT, Reading, backoff, readings, retry_after

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT, 800 s into a quarter of an hour and 80,000 s into the day

EXAMPLES: list[tuple[str, dict[str, str], list[tuple[float, float, float | None]]]] = [
    (
        "x-ratelimit",
        {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1700000030"},
        [(0, 30, 5000)],
    ),
    ("x-ratelimit", {"x-ratelimit-remaining": "7", "x-ratelimit-reset": "1700000030500"}, [(7, 30.5, None)]),
    ("x-ratelimit", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}, [(0, 30, None)]),
    ("x-ratelimit", {"x-ratelimit-remaining": "587.0", "x-ratelimit-reset": "123"}, [(587, 123, None)]),
    ("x-ratelimit", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2023-11-14T22:13Z"}, [(0, 0, None)]),
    ("x-ratelimit", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2023-11-14T22:14Z"}, [(0, 40, None)]),
    ("x-ratelimit", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2023-11-14T23:13:50+01:00"}, [(0, 30, None)]),
    (
        "x-ratelimit",
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "Tue, 14 Nov 2023 22:13:50 GMT"},
        [(0, 30, None)],
    ),
    (
        "x-ratelimit",
        {"x-rate-limit-limit": "180", "x-rate-limit-remaining": "0", "x-rate-limit-reset": "1700000900"},
        [(0, 900, 180)],
    ),
    ("x-ratelimit", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "later"}, []),
    ("x-ratelimit", {"x-ratelimit-remaining": "0"}, []),
    ("x-ratelimit", {"x-ratelimit-remaining": "none", "x-ratelimit-reset": "30"}, []),
    ("x-ratelimit", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "-3"}, [(0, 0, None)]),
    (
        "x-ratelimit",
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "999999999999999999"},
        [(0, LONGEST_WAIT, None)],
    ),
    (
        "x-ratelimit",
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1700000030", "date": "Tue, 14 Nov 2023 22:13:40 GMT"},
        [(0, 10, None)],
    ),
    ("ratelimit", {"ratelimit-limit": "700", "ratelimit-remaining": "0", "ratelimit-reset": "41"}, [(0, 41, 700)]),
    (
        "ratelimit",
        {"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "9", "ratelimit-reset": "41"},
        [(9, 41, 100)],
    ),
    ("ratelimit", {"ratelimit": "limit=100, remaining=0, reset=30"}, [(0, 30, 100)]),
    ("ratelimit", {"ratelimit": "limit=100, remaining=3", "ratelimit-policy": "100;w=10"}, [(3, 10, 100)]),
    ("ratelimit", {"ratelimit": '"default";r=0;t=30'}, [(0, 30, None)]),
    ("ratelimit", {"ratelimit": '"default";r=0', "ratelimit-policy": '"default";q=100;w=30'}, [(0, 30, 100)]),
    (
        "ratelimit",
        {"ratelimit": '"burst";r=5, "day";r=0;t=9', "ratelimit-policy": '"burst";q=10;w=1, "day";q=99;w=86400'},
        [(5, 1, 10), (0, 9, 99)],
    ),
    ("ratelimit", {"ratelimit": "unlimited"}, []),
    ("ratelimit", {"ratelimit": '"default";r=99999999999999999999'}, []),
    ("zendesk", {"zendesk-ratelimit-tickets-index": "total=100; remaining=0; resets=41"}, [(0, 41, 100)]),
    ("zendesk", {"x-rate-limit": "700", "x-rate-limit-remaining": "699"}, [(699, 60, 700)]),
    ("strava", {"x-ratelimit-limit": "200,2000", "x-ratelimit-usage": "200,1200"}, [(0, 100, 200), (800, 6400, 2000)]),
    (
        "strava",
        {"x-readratelimit-limit": "100,1000", "x-readratelimit-usage": "3,1000"},
        [(97, 100, 100), (0, 6400, 1000)],
    ),
    ("strava", {"x-ratelimit-limit": "200", "x-ratelimit-usage": "200"}, []),
    ("meta", {"x-app-usage": '{"call_count":28,"total_time":25,"total_cputime":100}'}, [(0, 300, 100)]),
    ("meta", {"x-ad-account-usage": '{"acc_id_util_pct":9.5,"reset_time_duration":100}'}, [(90.5, 100, 100)]),
    (
        "meta",
        {
            "x-business-use-case-usage": '{"66782684":[{"type":"ads_management","call_count":95,"total_cputime":20,'
            '"total_time":20,"estimated_time_to_regain_access":19}], "7":[{"call_count":1}]}'
        },
        [(0, 1140, 100), (99, 300, 100)],
    ),
    ("meta", {"x-app-usage": '{"call_count":1e300,"reset_time_duration":1e300}'}, [(100 - 1e300, LONGEST_WAIT, 100)]),
    *(
        ("meta", {"x-app-usage": text}, [])
        for text in ("", "28", "{", '{"a":[1,null]}', '{"call_count":true}', "[" * 5000)
    ),
]


@pytest.mark.case("R003-4")
@pytest.mark.parametrize(("family", "headers", "said"), EXAMPLES)
@pytest.mark.case("trap:3.5")
def test_a_family_is_read_as_its_vendors_write_it(family: Any, headers: dict[str, str], said: list[Any]) -> None:
    assert readings(headers, family, now=NOW) == [Reading(*each) for each in said]
    assert set(readings(headers, "auto", now=NOW)) >= {Reading(*each) for each in said}
    assert readings(headers, "none", now=NOW) == []


def test_every_family_has_examples() -> None:
    assert {family for family, _, said in EXAMPLES if said} == set(FAMILIES)


NAMES = sorted({name for _, headers, _ in EXAMPLES for name in headers})
TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(sorted({text for _, headers, _ in EXAMPLES for text in headers.values()})),
    st.floats().map(str),
    st.recursive(st.floats() | st.booleans(), lambda inner: st.dictionaries(st.text(max_size=3), inner)).map(
        json.dumps
    ),
)


@given(st.dictionaries(st.sampled_from([*NAMES, "retry-after", "backoff"]), TEXTS))
@pytest.mark.case("trap:4.11")
def test_whatever_a_server_says_stays_within_bounds(headers: dict[str, str]) -> None:
    assert all(0.0 <= found.reset <= LONGEST_WAIT for found in readings(headers, "auto", now=NOW))
    for asked in (retry_after(headers, now=NOW), backoff(headers, now=NOW)):
        assert asked is None or 0.0 <= asked <= LONGEST_WAIT


def test_a_number_larger_than_any_float_is_just_too_much() -> None:
    (found,) = readings({"x-app-usage": '{"call_count":%s}' % ("1" * 400)}, "auto", now=NOW)
    assert found.left < 0
