"""Each fault happens on the wire as the table in `tap_sample.faults` says, so that a client can notice it."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from tests.tap_sample.client import Get, always, head_and_body, raw

from tap_sample.endpoints import answer
from tap_sample.faults import KINDS, Faults
from tap_sample.server import SampleServer
from tap_sample.tables import table

PATHS = ["/v1/weather", "/v1/planes?offset=500", "/v1/airports?page=2", "/v1/airlines", "/v1/me"]


@pytest.fixture(scope="module")
def faulty() -> Iterator[SampleServer]:
    """One server whose `faults` each test sets anew."""
    with SampleServer() as running:
        yield running


def spoilt(server: SampleServer, faults: Faults, path: str, *headers: str) -> tuple[dict[str, str], bytes]:
    server.faults = faults
    answer = head_and_body(raw(server, path, *headers))
    assert server.log[-1].fault in faults.kinds
    return answer


def rows(body: bytes) -> list[dict[str, Any]]:
    page = json.loads(body)
    return list(page if isinstance(page, list) else page.get("data") or page.get("items"))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("seed", range(3))
def test_a_cut_body_is_shorter_than_its_content_length(faulty: SampleServer, path: str, seed: int) -> None:
    headers, body = spoilt(faulty, always("cut", seed), path)
    assert headers[":status"] == "200"
    assert 0 < len(body) < int(headers["content-length"])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_a_cut_chunked_body_has_no_last_chunk(faulty: SampleServer, path: str, encoding: str) -> None:
    headers, body = spoilt(faulty, always("chunked_cut"), path, f"Accept-Encoding: {encoding}")
    assert (headers["transfer-encoding"], headers.get("content-length")) == ("chunked", None)
    size, _, chunk = body.partition(b"\r\n")
    assert len(chunk) == int(size, 16) + 2
    assert not body.endswith(b"0\r\n\r\n")


@pytest.mark.case("C4")
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("seed", range(3))
def test_a_short_gzip_body_has_its_content_length_but_no_end(faulty: SampleServer, path: str, seed: int) -> None:
    headers, body = spoilt(faulty, always("short_gzip", seed), path, "Accept-Encoding: gzip")
    assert 0 < len(body) == int(headers["content-length"])
    inflate = zlib.decompressobj(wbits=31)
    inflate.decompress(body)
    assert not inflate.eof


def test_a_short_gzip_body_is_not_for_a_client_that_takes_no_gzip(get: Get) -> None:
    with SampleServer(faults=always("short_gzip")) as server:
        assert get(server, "/v1/me", headers={"Accept-Encoding": "identity"}).json() == {"account": "sample"}


@pytest.mark.parametrize("seed", range(8))
def test_a_server_error_has_a_5xx_status(faulty: SampleServer, seed: int) -> None:
    headers, body = spoilt(faulty, always("server_error", seed), "/v1/planes")
    assert headers[":status"] in {"500", "502", "503"}
    assert json.loads(body)["error"]["code"] == "server_error"


def test_a_slow_body_comes_whole_in_the_end(faulty: SampleServer) -> None:
    slow, body = spoilt(faulty, always("slow"), "/v1/weather")
    faulty.faults = Faults(0.0)
    assert body == head_and_body(raw(faulty, "/v1/weather"))[1]
    assert int(slow["content-length"]) == len(body)


@pytest.mark.case("C1")
@pytest.mark.parametrize("path", PATHS)
def test_a_200_without_the_records_does_not_have_their_path(faulty: SampleServer, path: str) -> None:
    headers, body = spoilt(faulty, always("error_in_200"), path)
    assert (headers[":status"], list(json.loads(body))) == ("200", ["error"])
    headers, body = spoilt(faulty, always("empty_body"), path, "Accept-Encoding: gzip")
    assert (headers[":status"], headers["content-length"], body) == ("200", "0", b"")
    headers, body = spoilt(faulty, always("html_200"), path)
    assert (headers[":status"], headers["content-type"]) == ("200", "text/html; charset=utf-8")
    assert body.startswith(b"<!doctype html>")


def test_a_burst_of_429_takes_in_one_to_three_more_requests(get: Get) -> None:
    with SampleServer(faults=Faults(0.05, 1, ["rate_limit"])) as server:
        answers = [get(server, "/v1/planes", limit=1, offset=n) for n in range(1000)]
    limited = [answer for answer in answers if answer.status_code == 429]
    bursts = "".join("x" if answer.status_code == 429 else " " for answer in answers).split()
    assert {answer.headers["Retry-After"] for answer in limited} == {"0", "1"}
    assert {len(burst) for burst in bursts[:-1]} >= {2, 3, 4}
    assert min(len(burst) for burst in bursts[:-1]) == 2


WALKS = [
    ("weather", {"limit": 100}),
    ("planes", {"limit": 100, "offset": 300}),
    ("airports", {"per_page": 100, "page": 4}),
]


@pytest.mark.parametrize(("name", "params"), WALKS)
def test_a_duplicate_has_the_rows_of_the_page_before_and_the_way_on_of_one_of_both(
    get: Get, faulty: SampleServer, name: str, params: dict[str, Any]
) -> None:
    faulty.faults = Faults(0.0)
    for _ in range(3 if name == "weather" else 0):
        params = {**params, "cursor": get(faulty, "/v1/weather", **params).json()["next_cursor"]}
    this = get(faulty, f"/v1/{name}", **params)
    ways = set()
    for seed in range(8):
        faulty.faults = always("duplicate", seed)
        page = get(faulty, f"/v1/{name}", **params)
        assert rows(page.content) == [json.loads(line) for line in table(name).lines[200:300]]
        ways.add(way_on(page) == way_on(this))
        if way_on(page) != way_on(this):
            assert way_on(page) == str(list(params.values())[-1]), "the request just made"
    assert ways == ({True} if name == "planes" else {True, False})


def way_on(page: Any) -> str:
    if "next" in page.links:
        return str(page.links["next"]["url"].rpartition("page=")[2])
    return str(page.json().get("next_cursor")) if isinstance(page.json(), dict) else ""


@pytest.mark.parametrize(
    "path", ["/v1/weather", "/v1/planes", "/v1/airports", "/v1/airlines", "/v1/me", "/v1/planes?limit=9&offset=8"]
)
def test_there_is_no_duplicate_where_there_is_no_page_before(faulty: SampleServer, path: str) -> None:
    faulty.faults = always("duplicate")
    raw(faulty, path)
    assert faulty.log[-1].fault is None


@pytest.mark.parametrize("offset", [0, 1, 700, 3000, 3321])
def test_shifted_rows_start_one_to_five_rows_away(get: Get, faulty: SampleServer, offset: int) -> None:
    planes, shifts = [json.loads(line) for line in table("planes").lines], Counter[int]()
    for seed in range(20):
        faulty.faults = always("shifted", seed)
        found = get(faulty, "/v1/planes", offset=offset).json()
        assert found["total"] == 3_322
        start = planes.index(found["items"][0]) if found["items"] else 3_322
        assert found["items"] == planes[start : start + 500]
        shifts[start - offset] += 1
    assert 0 not in shifts
    assert min(shifts) >= -min(5, offset)
    assert (min(shifts) < 0) == (offset > 0)
    assert 0 < max(shifts) <= 5


def test_a_walk_over_shifted_pages_has_fewer_keys_than_the_total(get: Get, faulty: SampleServer) -> None:
    """Unless it lost nothing: a shift can also only repeat rows, at the end."""
    noticed = 0
    for seed in range(20):
        faulty.faults = Faults(0.3, seed, ["shifted", "duplicate"])
        keys: list[str] = []
        while (page := get(faulty, "/v1/planes", offset=len(keys)).json())["items"]:
            keys += [row["tailnum"] for row in page["items"]]
        lost = {json.loads(line)["tailnum"] for line in table("planes").lines} - set(keys)
        assert bool(lost) == (len(set(keys)) < page["total"])
        noticed += bool(lost)
    assert noticed > 10


def test_only_pages_by_offset_are_shifted() -> None:
    with SampleServer(faults=always("shifted")) as server:
        for path in ("/v1/weather", "/v1/airports?page=2", "/v1/airlines", "/v1/me", "/v1/planes?offset=3322"):
            raw(server, path)
        assert {served.fault for served in server.log} == {None}


@pytest.mark.parametrize("kind", [*KINDS, "all"])
def test_the_same_request_gets_through_at_the_fourth_time(get: Get, kind: str) -> None:
    faults = Faults(1.0, 3, KINDS if kind == "all" else [kind], slow_seconds=0)
    with SampleServer(faults=faults) as server:
        for _ in range(8):
            raw(server, "/v1/planes?offset=500", "Accept-Encoding: gzip")
        hits = [served.fault is not None for served in server.log]
    assert hits == [True, True, True, False] * 2


def test_what_would_not_have_been_a_200_is_never_hit(get: Get) -> None:
    with SampleServer() as calm:
        etag = get(calm, "/v1/planes").headers["ETag"]
    with SampleServer(faults=Faults(1.0, 3)) as server:
        assert get(server, "/v1/planes", token="wrong").status_code == 401
        assert get(server, "/v1/nowhere").status_code == 404
        assert get(server, "/v1/planes", limit=0).status_code == 400
        assert get(server, "/v1/planes", headers={"If-None-Match": etag}).status_code == 304
        assert {served.fault for served in server.log} == {None}


def test_a_spoilt_answer_carries_no_etag(faulty: SampleServer) -> None:
    for kind in KINDS:
        headers, _ = spoilt(faulty, always(kind, slow_seconds=0), "/v1/planes?offset=500", "Accept-Encoding: gzip")
        assert "etag" not in headers


def drawn(faults: Faults) -> Sequence[str | None]:
    found = []
    for offset in range(0, 3_000, 2):
        page = answer("/v1/planes", {"limit": "2", "offset": str(offset)}, origin="")
        found.append(hit[1] if (hit := faults.spoil(str(offset), page, gzip=True)) else None)
    return found


def test_the_same_seed_draws_the_same_faults_and_another_seed_others() -> None:
    assert drawn(Faults(0.3, 7)) == drawn(Faults(0.3, 7)) != drawn(Faults(0.3, 8))


def test_the_same_seed_sends_the_same_bytes() -> None:
    sent = []
    for _ in range(2):
        with SampleServer(faults=Faults(0.7, 7, slow_seconds=0)) as server:
            answers = [head_and_body(raw(server, path, "Accept-Encoding: gzip")) for path in PATHS * 6]
            sent.append([(headers[":status"], body) for headers, body in answers])
    assert sent[0] == sent[1]


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5])
def test_the_rate_is_the_share_of_requests_that_are_hit(rate: float) -> None:
    hits = [fault for fault in drawn(Faults(rate, 1, set(KINDS) - {"rate_limit"})) if fault]
    assert len(hits) == pytest.approx(1_500 * rate, rel=0.2)
    assert len(set(hits)) == (10 if rate else 0)


@pytest.mark.parametrize(("spec", "rate", "seed"), [("0.1:7", 0.1, 7), (".25", 0.25, 0), ("1", 1.0, 0), ("0", 0.0, 0)])
def test_a_spec_is_a_rate_and_a_seed(spec: str, rate: float, seed: int) -> None:
    faults = Faults.parse(spec)
    assert (faults.rate, faults.seed, faults.kinds) == (rate, seed, KINDS)


@pytest.mark.parametrize("spec", ["", "10%", "1.5", "-0.1", "nan", "0.1:", "0.1:x", "0.1:7:8", "0,1"])
def test_a_bad_spec_is_refused_with_an_example(spec: str) -> None:
    with pytest.raises(ValueError, match=r"such as 0\.1:7, not "):
        Faults.parse(spec)


def test_kinds_can_be_chosen_by_name() -> None:
    assert Faults.parse("1", "cut,slow").kinds == ["cut", "slow"]
    with pytest.raises(ValueError, match=r"no such kind of fault: slwo; there is server_error, "):
        Faults.parse("1", "cut,slwo")
