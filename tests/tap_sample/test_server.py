"""The sample API as a client meets it, over real HTTP."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from tests.tap_sample.client import Get, connect, head_and_body, raw

from tap_sample.server import Quota, SampleServer
from tap_sample.tables import table


def weather_pages(get: Get, server: SampleServer, **params: Any) -> Iterator[bytes]:
    """The bodies of a whole walk, each cut down to its rows."""
    while True:
        page = get(server, "/v1/weather", **params)
        page.raise_for_status()
        yield page.content.removeprefix(b'{"data":[').rpartition(b'],"next_cursor":')[0]
        if (cursor := page.json()["next_cursor"]) is None:
            return
        params["cursor"] = cursor


@pytest.mark.parametrize("limit", [None, 333, 1000])
def test_weather_pages_tile_the_table_byte_for_byte(get: Get, server: SampleServer, limit: int | None) -> None:
    pages = list(weather_pages(get, server, limit=limit))
    assert len(pages) == -(-26_115 // (limit or 500))
    assert b",".join(pages) == b",".join(table("weather").lines)


def test_a_full_last_page_has_no_cursor(get: Get, server: SampleServer) -> None:
    pages = list(weather_pages(get, server, since="2013-02-08", until="2013-02-09", limit=36))
    assert [page.count(b"{") for page in pages] == [36, 36]


@pytest.mark.parametrize("limit", [500, 151])
def test_planes_pages_tile_the_table_byte_for_byte(get: Get, server: SampleServer, limit: int) -> None:
    rows = []
    for offset in range(0, 3_322, limit):
        body = get(server, "/v1/planes", limit=limit, offset=offset).content
        assert body.startswith(b'{"total":3322,"items":[')
        rows.append(body.removeprefix(b'{"total":3322,"items":[').removesuffix(b"]}"))
    assert b",".join(rows) == b",".join(table("planes").lines)
    assert get(server, "/v1/planes", offset=3_322).json() == {"total": 3_322, "items": []}


@pytest.mark.parametrize("per_page", [500, 81])
def test_airports_link_from_page_to_page_until_the_table_is_whole(
    get: Get, server: SampleServer, per_page: int
) -> None:
    page, rows = get(server, "/v1/airports", per_page=per_page), []
    with requests.Session() as session:
        session.headers.update(page.request.headers)
        while True:
            rows.append(page.content[1:-1])
            assert f"page={-(-1_458 // per_page)}" in page.links["last"]["url"]
            if "next" not in page.links:
                break
            page = session.get(page.links["next"]["url"], timeout=10)
    assert b",".join(rows) == b",".join(table("airports").lines)
    assert "prev" in page.links


def test_links_lead_back_to_the_host_that_was_asked(server: SampleServer) -> None:
    headers, _ = head_and_body(raw(server, "/v1/airports"))
    assert headers["link"].startswith("<http://sample/v1/airports?per_page=500&page=")


def test_airlines_and_me_are_single_pages(get: Get, server: SampleServer) -> None:
    assert get(server, "/v1/airlines").content == b'{"airlines":[' + b",".join(table("airlines").lines) + b"]}"
    assert get(server, "/v1/me").content == b'{"account":"sample"}'


@pytest.mark.parametrize(
    ("since", "until", "rows"),
    [
        ("2013-02-08T00:00:00Z", "2013-02-09T00:00:00Z", 72),
        ("2013-02-08", "2013-02-09", 72),
        ("2013-02-07T19:00:00-05:00", "2013-02-09T00:00:00.000000Z", 72),
        ("2013-02-08T00:00:00Z", "2013-02-08T01:00:00Z", 3),
        ("2013-02-08T00:00:00.1Z", "2013-02-08T01:00:00.1Z", 3),
        ("2013-02-08T01:00:00Z", "2013-02-08T01:00:00Z", 0),
        ("2013-02-09T00:00:00Z", "2013-02-08T00:00:00Z", 0),
        ("2013-12-30T23:00:00Z", None, 3),
        ("2014-01-01", None, 0),
        (None, "2013-01-01T07:00:00Z", 3),
        ("", "2013-01-01T06:00:00Z", 0),
        ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", 26_115),
    ],
)
def test_since_is_inclusive_and_until_exclusive(
    get: Get, server: SampleServer, since: str | None, until: str | None, rows: int
) -> None:
    found = b",".join(page for page in weather_pages(get, server, since=since, until=until, limit=1000) if page)
    assert len(json.loads(b"[" + found + b"]")) == rows
    assert found in b",".join(table("weather").lines)


def test_a_cursor_knows_its_since_and_until_and_does_not_serve_others(get: Get, server: SampleServer) -> None:
    bounds = {"since": "2013-02-08", "until": "2013-02-09"}
    cursor = get(server, "/v1/weather", limit=50, **bounds).json()["next_cursor"]
    alone, together = (get(server, "/v1/weather", limit=50, cursor=cursor, **more) for more in ({}, bounds))
    assert alone.json() == together.json()
    assert (len(alone.json()["data"]), alone.json()["next_cursor"]) == (22, None)
    assert get(server, "/v1/weather", cursor=cursor, since="2013-02-07").status_code == 400


@pytest.mark.parametrize(
    ("path", "params", "said"),
    [
        ("weather", {"limit": 1001}, "from 1 to 1000, not '1001'"),
        ("weather", {"limit": 0}, "limit"),
        ("planes", {"limit": "ten"}, "limit"),
        ("planes", {"limit": ""}, "limit"),
        ("planes", {"limit": "١٢"}, "limit"),
        ("planes", {"limit": "1_0"}, "limit"),
        ("planes", {"offset": -1}, "offset"),
        ("planes", {"offset": "9" * 5000}, "offset"),
        ("planes", {"ofset": 1}, "does not know ofset; it takes limit, offset"),
        ("planes", {"offset": [1, 2]}, "once"),
        ("airports", {"page": 0}, "page"),
        ("airports", {"per_page": 1001}, "per_page"),
        ("airlines", {"page": 1}, "no parameter"),
        ("weather", {"since": "yesterday"}, "since must be an ISO 8601"),
        ("weather", {"until": "2013-02-30"}, "until must be"),
        ("weather", {"cursor": "garbage"}, "cursor is not one that this API gave"),
        ("weather", {"cursor": "WyIi!LCIiLDJd"}, "cursor is not one"),  # ["","",2] and a strange character
        ("weather", {"cursor": "WyIiLCIiLC01XQ=="}, "cursor is not one"),  # ["","",-5]
        ("weather", {"cursor": "WyIiLCIiLDI2MTE1XQ=="}, "cursor is not one"),  # ["","",26115]
        ("weather", {"cursor": "WyIiLCIiLG51bGxd"}, "cursor is not one"),  # ["","",null]
        ("weather", {"cursor": "WyJ4IiwiIiw1MDBd"}, "since must be"),  # ["x","",500]
    ],
)
def test_a_bad_parameter_is_refused_by_name(
    get: Get, server: SampleServer, path: str, params: dict[str, Any], said: str
) -> None:
    refused = get(server, f"/v1/{path}", **params)
    assert refused.status_code == 400
    assert said in refused.json()["error"]["message"]


def test_an_unknown_path_is_404_and_names_the_known_ones(get: Get, server: SampleServer) -> None:
    for path in ("/", "/v1/flights", "/v1/weather/", "/v2/weather"):
        missing = get(server, path)
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
        assert "/v1/planes" in missing.json()["error"]["message"]


@pytest.mark.parametrize(
    "value", [None, "", "Bearer", "Bearer wrong", "Basic daykeep-sample", "daykeep-sample", "Bearer é"]
)
def test_without_the_token_there_is_no_answer(server: SampleServer, value: str | None) -> None:
    headers = {} if value is None else {"Authorization": value.encode()}
    refused = requests.get(f"{server.base_url}/v1/planes", headers=headers, timeout=10)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthorized")
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert "x-ratelimit-limit" not in refused.headers


def test_another_token_may_be_set(get: Get) -> None:
    with SampleServer(token="mine") as server:
        assert get(server, "/v1/me", token="mine").ok
        assert get(server, "/v1/me").status_code == 401


def test_the_rate_limit_is_told_and_enforced_until_the_window_ends(get: Get) -> None:
    now = 1000.25
    with SampleServer(quota=Quota(3, 10), clock=lambda: now) as server:
        answers = [get(server, "/v1/me") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0", "0"]
        assert {answer.headers["x-ratelimit-limit"] for answer in answers} == {"3"}
        assert {answer.headers["x-ratelimit-reset"] for answer in answers} == {"1011"}
        now = 1003.0
        late = get(server, "/v1/me")
        assert (late.headers["Retry-After"], late.json()["error"]["code"]) == ("8", "rate_limited")
        now += 8
        assert get(server, "/v1/me").ok
        assert get(server, "/v1/nowhere").headers["x-ratelimit-remaining"] == "1"


def test_an_unchanged_answer_is_304_without_a_body(get: Get, server: SampleServer) -> None:
    etag = get(server, "/v1/airports", page=2).headers["ETag"]
    same = get(server, "/v1/airports", page=2, headers={"If-None-Match": f'"other", {etag}'})
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", etag)
    assert "Content-Length" not in same.headers
    assert get(server, "/v1/airports", page=1, headers={"If-None-Match": etag}).status_code == 200
    assert get(server, "/v1/me").ok, "the connection is still in step"


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("br, GZip;q=0.5", True),
        ("*", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
    ],
)
def test_a_body_is_packed_only_for_a_client_that_accepts_gzip(
    server: SampleServer, accepted: str, packed: bool
) -> None:
    headers, body = head_and_body(raw(server, "/v1/airlines", f"Accept-Encoding: {accepted}"))
    assert headers.get("content-encoding") == ("gzip" if packed else None)
    assert headers["vary"] == "Accept-Encoding"
    assert int(headers["content-length"]) == len(body)
    assert len(json.loads(gzip.decompress(body) if packed else body)["airlines"]) == 16


def test_one_connection_carries_many_requests(server: SampleServer) -> None:
    request = f"GET /v1/me HTTP/1.1\r\nAuthorization: Bearer {server.token}\r\n\r\n"
    answer = raw(server, "", head=request * 3 + "GET /v1/airlines HTTP/1.1")
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    assert answer.endswith(b"]}")


def test_a_body_that_nobody_reads_is_not_taken_for_a_request(server: SampleServer) -> None:
    smuggled = "GET /v1/me HTTP/1.1\r\nContent-Length: 20\r\n\r\nGET /v1/x HTTP/1.1"
    assert raw(server, "", head=smuggled).count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        ("POST /v1/me HTTP/1.1", "501", "not_implemented"),
        ("GET /v1/me HTTP/9.9", "505", "http_version_not_supported"),
        ("nonsense", "400", "bad_request"),
        (f"GET /{'x' * 70_000} HTTP/1.1", "414", "request_uri_too_long"),
    ],
)
def test_what_is_not_a_get_is_refused_in_json(server: SampleServer, head: str, status: str, code: str) -> None:
    answer = raw(server, "", head=head)
    headers, body = head_and_body(answer) if answer.startswith(b"HTTP/") else ({":status": status}, answer)
    assert headers[":status"] == status
    assert json.loads(body)["error"]["code"] == code


def test_the_server_remembers_what_it_was_asked(get: Get) -> None:
    with SampleServer(quota=Quota(3, 60)) as server:
        get(server, "/v1/planes", limit=2, offset=4)
        get(server, "/v1/planes", limit=0)
        get(server, "/v1/me", token="wrong")
        get(server, "/v1/me")
        get(server, "/v1/me")
    assert server.requests == {"/v1/planes": 2, "/v1/me": 3}
    assert [(served.path, served.status, served.fault) for served in server.log] == [
        ("/v1/planes", 200, None),
        ("/v1/planes", 400, None),
        ("/v1/me", 401, None),
        ("/v1/me", 200, None),
        ("/v1/me", 429, None),
    ]
    assert server.log[0].params == {"limit": "2", "offset": "4"}
    assert server.most_in_flight == 1


def test_requests_are_answered_side_by_side() -> None:
    """The clock lets nobody pass before three requests have looked at it."""
    together = threading.Barrier(3, timeout=10)

    def clock() -> float:
        together.wait()
        return 0.0

    with SampleServer(clock=clock) as server:
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda _: raw(server, "/v1/me"), range(3)))
        assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)
        assert server.most_in_flight == 3


def test_a_stopped_server_answers_nobody(get: Get) -> None:
    with SampleServer() as server:
        assert get(server, "/v1/me").ok
    with pytest.raises(requests.ConnectionError):
        get(server, "/v1/me")


def test_a_client_that_goes_away_leaves_no_trace(get: Get, capfd: pytest.CaptureFixture[str]) -> None:
    with SampleServer() as server:
        with connect(server) as connection:
            request = f"GET /v1/weather?limit=1000 HTTP/1.1\r\nAuthorization: Bearer {server.token}\r\n\r\n"
            connection.sendall(request.encode() * 50)
            connection.recv(1)
        while server._connections:
            time.sleep(0.01)
        assert get(server, "/v1/me").ok
    assert server.requests["/v1/weather"] < 50
    assert capfd.readouterr() == ("", "")
