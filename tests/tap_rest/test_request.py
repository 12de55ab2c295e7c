"""Requests as values."""

from __future__ import annotations

import pytest

from tap_rest.request import Request, origin


def test_parameters_keep_their_order_and_repeats_and_are_encoded_once() -> None:
    request = Request("https://x.test/a", params=(("q", "a b"), ("f[]", "1"), ("f[]", "2"), ("j", '{"a":1}')))
    assert request.full_url == "https://x.test/a?q=a%20b&f[]=1&f[]=2&j=%7B%22a%22:1%7D"


@pytest.mark.case("trap:4.8")
def test_a_query_from_a_server_stays_byte_for_byte() -> None:
    request = Request("https://x.test/a?after=%2Bx+y&b", params=(("limit", "5"),))
    assert request.full_url == "https://x.test/a?after=%2Bx+y&b&limit=5"


def test_with_params_sets_in_place_adds_and_removes() -> None:
    request = Request("https://x.test", params=(("a", "1"), ("b", "2")))
    assert request.with_params(a=3, c=4, b=None).params == (("a", "3"), ("c", "4"))
    odd = "self"
    assert request.with_params(**{odd: "x"}).param(odd) == "x"
    assert request.params == (("a", "1"), ("b", "2"))


def test_header_names_are_compared_without_case() -> None:
    request = Request("https://x.test", headers=(("Accept", "a"),)).with_headers({"ACCEPT": "b"})
    assert request.headers == (("ACCEPT", "b"),)


def test_the_fingerprint_ignores_the_order_of_parameters_and_nothing_else() -> None:
    one = Request("https://x.test", params=(("a", "1"), ("b", "2")))
    assert one.fingerprint() == Request("https://x.test", params=(("b", "2"), ("a", "1"))).fingerprint()
    others = [one.with_params(a=2), Request("https://x.test/"), Request(one.url, "POST", one.params)]
    assert len({one.fingerprint(), *(other.fingerprint() for other in others)}) == 4


@pytest.mark.case("X1")
@pytest.mark.parametrize(
    "url", ["ftp://x.test/", "/relative", "file:///etc/passwd", "//x.test", "https://", "javascript:1"]
)
def test_only_http_urls_have_an_origin(url: str) -> None:
    with pytest.raises(ValueError, match="not an http"):
        origin(url)


@pytest.mark.case("X1")
def test_an_origin_is_scheme_host_and_port() -> None:
    assert origin("https://user@Api.Example.com/x") == ("https", "api.example.com", 443)
    assert (
        len({origin(f"{url}/x") for url in ("http://a.b", "https://a.b", "https://a.b:444", "https://a.b.evil")}) == 4
    )
