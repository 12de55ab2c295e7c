"""The transport takes a body only when it is provably whole, and no credential leaves its origin."""

from __future__ import annotations

import gzip
import socket
import time
import zlib
from collections.abc import Iterator

import pytest
from tests.tap_rest.hostile import CERTIFICATE, ENCODINGS, Hostile, framed, head, payload, response

from tap_rest.engine.transport import Transport, TransportError, checked_origin
from tap_rest.formats.inflate import Caps
from tap_rest.language.vocabulary import Timeouts
from tap_rest.request import Request

GZIP = ["Content-Encoding: gzip"]
BODY = b'{"data":[' + b",".join(b'{"id":%d,"text":"some words to compress"}' % n for n in range(40)) + b"]}"


def test_a_whole_answer_is_a_page_with_lower_case_headers(transport: Transport) -> None:
    with Hostile(lambda _: [response(BODY, headers=["X-Total: 3", "X-Total: 4"])]) as server:
        page = transport.send(Request(f"{server.url}/v1/x", params=(("q", "a b"),)))
    assert (page.status, page.body, page.headers["x-total"]) == (200, BODY, "3, 4")
    assert server.seen[0].startswith("GET /v1/x?q=a%20b HTTP/1.1\r\n")
    assert page.request.url == f"{server.url}/v1/x"


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_every_framing_and_encoding_arrives_whole(transport: Transport, framing: str, encoding: str) -> None:
    with Hostile(lambda _: [framed(BODY, framing, encoding)]) as server:
        assert transport.send(Request(server.url)).body == BODY


@pytest.mark.case("C2")
@pytest.mark.case("C3")
@pytest.mark.case("C4")
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_cut_body_is_never_a_page(transport: Transport, framing: str, encoding: str) -> None:
    """Cut at every third byte. The format is left to find identity, or nothing, behind a connection that closes."""
    size = len(payload(framed(BODY, framing, encoding)))
    spare = 4 if framing == "chunked" else 0  # the data is whole once the last chunk's size "0" came
    cuts = iter([*range(0, size - spare, 3), size - spare - 1])
    current = 0

    def answer(_: str) -> list[bytes]:
        return [framed(BODY, framing, encoding, cut=current)]

    with Hostile(answer) as server:
        for current in cuts:
            if framing == "close" and (encoding == "identity" or current == 0):
                assert len(transport.send(Request(server.url)).body) == current
                continue
            with pytest.raises(TransportError) as caught:
                transport.send(Request(server.url))
            assert caught.value.retriable


@pytest.mark.case("C4")
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(response(BODY, length=len(BODY) + 9), id="length too long"),
        pytest.param(response(BODY, length=len(BODY) - 9), id="length too short"),
        pytest.param(response(gzip.compress(BODY)[:-9], headers=GZIP), id="gzip cut, length fits"),
        pytest.param(response(gzip.compress(BODY)[:-8] + b"\0" * 8, headers=GZIP), id="bad checksum"),
        pytest.param(response(gzip.compress(BODY) + b"more", headers=GZIP), id="gzip and garbage"),
        pytest.param(response(gzip.compress(BODY) + b"\0\0", headers=GZIP), id="gzip and zeroes"),
        pytest.param(response(BODY, headers=GZIP), id="not gzip"),
        pytest.param(response(zlib.compress(BODY)[:-2], headers=["Content-Encoding: deflate"]), id="deflate cut"),
        pytest.param(framed(BODY, "chunked") + b"more", id="more after the last chunk"),
        pytest.param(framed(b"", "chunked").replace(b"0\r\n\r\n0", b"zz\r\n\r\n0"), id="bad chunk size"),
        pytest.param(b"HELLO\r\n\r\n", id="not HTTP"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_a_body_that_differs_from_its_announcement_is_refused_and_may_be_asked_again(
    transport: Transport, answer: bytes
) -> None:
    with Hostile(lambda _: [answer]) as server, pytest.raises(TransportError) as caught:
        transport.send(Request(server.url))
    assert caught.value.retriable
    assert caught.value.kind in ("cut", "corrupt")


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("deflate", zlib.compress(BODY)),
        ("deflate", zlib.compress(BODY, wbits=-15)),
        ("gzip", gzip.compress(BODY[:99]) + gzip.compress(BODY[99:])),
        ("identity", BODY),
        ("x-gzip", gzip.compress(BODY)),
    ],
)
def test_legal_but_rare_encodings_arrive_whole_also_byte_by_byte(
    transport: Transport, encoding: str, body: bytes
) -> None:
    answer = response(body, headers=[f"Content-Encoding: {encoding}"])
    with Hostile(lambda _: [answer[n : n + 1] for n in range(len(answer))]) as server:
        assert transport.send(Request(server.url)).body == BODY


@pytest.mark.case("C6")
@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "zstd"])
def test_an_encoding_that_was_not_asked_for_is_refused_for_good(transport: Transport, encoding: str) -> None:
    with Hostile(lambda _: [response(BODY, headers=[f"Content-Encoding: {encoding}"])]) as server:
        with pytest.raises(TransportError, match="gzip was asked for") as caught:
            transport.send(Request(server.url))
        assert not caught.value.retriable


@pytest.mark.case("C6")
@pytest.mark.parametrize(
    ("caps", "body", "encoding"),
    [
        pytest.param(Caps(), gzip.compress(b"\0" * (50 << 20)), "gzip", id="ratio"),
        pytest.param(Caps(inflated=1 << 20), gzip.compress(bytes(range(256)) * 8192), "gzip", id="inflated"),
        pytest.param(Caps(wire=1 << 20), b"[" + b"1," * (1 << 20), "identity", id="wire"),
    ],
)
def test_a_bomb_is_given_up_before_it_unfolds(caps: Caps, body: bytes, encoding: str) -> None:
    transport = Transport(caps=caps)
    with Hostile(lambda _: [response(body, headers=[f"Content-Encoding: {encoding}"])]) as server:
        with pytest.raises(TransportError, match="more than is taken") as caught:
            transport.send(Request(server.url))
        assert not caught.value.retriable
    transport.close()


@pytest.mark.case("C5")
@pytest.mark.parametrize("place", ["head", "length", "chunk size", "close"])
def test_a_drip_ends_at_the_total_time_wherever_it_drips(transport: Transport, place: str) -> None:
    """Each byte comes well within the idle time; only the deadline of the whole exchange can end it."""
    start = {
        "head": b"HTTP/1.1 200 OK\r\nX-Slow: ",
        "length": b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n",
        "chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
        "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    }[place]

    def drip(_: str) -> Iterator[bytes]:
        yield start
        for _n in range(200):
            time.sleep(0.02)
            yield b"x"

    with Hostile(drip) as server, pytest.raises(TransportError, match="total time") as caught:
        transport.send(Request(server.url), timeouts=Timeouts(read=1, total=0.4))
    assert (caught.value.kind, caught.value.retriable) == ("timeout", True)


@pytest.mark.case("trap:2.no-timeout")
@pytest.mark.case("R003-3")
def test_silence_ends_at_the_idle_time(transport: Transport) -> None:
    def silent(_: str) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab"
        time.sleep(3)

    with Hostile(silent) as server, pytest.raises(TransportError, match="stopped sending"):
        transport.send(Request(server.url), timeouts=Timeouts(read=0.2))


@pytest.mark.case("R003-3")
def test_a_connection_is_used_again_and_a_spoiled_one_is_not(transport: Transport) -> None:
    spoiled = iter([False, True, False, False])
    ports = set()

    def answer(_: str) -> list[bytes]:
        answer = response(BODY, length=len(BODY) - (5 if next(spoiled) else 0))
        return [answer.replace(b"Connection: close\r\n", b"")]

    with Hostile(answer, keep_alive=True) as server:
        transport.send(Request(server.url))
        with pytest.raises(TransportError):
            transport.send(Request(server.url))
        for _ in range(2):
            page = transport.send(Request(server.url))
            assert page.body == BODY
            ports.add(page.url)
    assert len(server.seen) == 4


@pytest.mark.case("C21")
@pytest.mark.case("trap:2.transport-errors-not-retried")
def test_faults_before_an_answer_say_what_to_look_at(transport: Transport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TransportError, match="refused the connection") as refused:
        transport.send(Request(f"http://127.0.0.1:{port}/x"))
    assert refused.value.retriable
    with pytest.raises(TransportError, match="cannot be resolved") as unknown:
        transport.send(Request("http://no-such-host.invalid/x"))
    assert unknown.value.retriable
    with Hostile(lambda _: [b"no tls here"]) as plain, pytest.raises(TransportError) as tls:
        transport.send(Request(plain.url.replace("http:", "https:")))
    assert (tls.value.kind, tls.value.retriable) == ("tls", False)


@pytest.mark.case("X4")
def test_no_error_shows_a_credential(transport: Transport) -> None:
    signed = Request("http://127.0.0.1:9/v1", params=(("api_key", "canary-1"),), headers=(("X-Key", "canary-2"),))
    with pytest.raises(TransportError) as caught:
        transport.send(Request("http://127.0.0.1:9/v1"), signed)
    assert "canary" not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"
    assert caught.value.__suppress_context__


@pytest.mark.case("X1")
@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.org/x",
        "//evil.example/x",
        "http://api.example.com@evil.example/x",
        "http://api.example.com\\@evil.example/x",
        "\thttp://evil.example/x",
        "http://evil.example/a b",
        "http://evil.example/\r\nHost: x",
        "http:///x",
        "javascript:alert(1)",
        "http://example.org:99999/",
        "",
    ],
)
def test_only_plain_http_urls_are_asked(transport: Transport, url: str) -> None:
    with pytest.raises(TransportError, match="is not a plain"):
        checked_origin(url)
    with pytest.raises(TransportError) as caught:
        transport.send(Request(url))
    assert not caught.value.retriable


@pytest.mark.case("X2")
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_no_credential_follows_a_redirect_to_another_port(transport: Transport, status: str) -> None:
    signed_headers = (("Authorization", "Bearer canary"), ("X-Api-Key", "canary"), ("Cookie", "s=canary"))
    with Hostile(lambda _: [response(BODY)]) as other:
        moved = response(b"", status=status, headers=[f"Location: {other.url}/there", "Set-Cookie: s=canary"])
        with Hostile(lambda _: [moved]) as server:
            request = Request(f"{server.url}/here")
            page = transport.send(request, Request(request.url, params=(("key", "canary"),), headers=signed_headers))
    assert page.body == BODY
    assert page.url == f"{other.url}/there"
    assert "canary" in server.seen[0]
    assert "canary" not in other.seen[0]
    assert other.seen[0].startswith("GET /there HTTP/1.1")


@pytest.mark.case("X2")
def test_credentials_stay_on_a_redirect_within_the_origin_and_do_not_come_back_from_another(
    transport: Transport,
) -> None:
    def answer(request: str) -> list[bytes]:
        target = {"/a": "/b", "/b": f"{other.url}/c"}.get(request.split()[1])
        if target is None:
            return [response(BODY)]
        return [response(b"", status="302 Found", headers=[f"Location: {target}"])]

    def back(_: str) -> list[bytes]:
        return [response(b"", status="302 Found", headers=[f"Location: {server.url}/d"])]

    with Hostile(back) as other, Hostile(answer) as server:
        transport.send(Request(f"{server.url}/a", headers=(("X-Api-Key", "canary"),)))
    assert ["canary" in seen for seen in server.seen] == [True, True, False]
    assert "canary" not in other.seen[0]


@pytest.mark.case("X2")
def test_a_body_is_never_sent_on_to_another_origin(transport: Transport) -> None:
    with Hostile(lambda _: [response(BODY)]) as other:
        moved = response(b"", status="307 Temporary", headers=[f"Location: {other.url}/"])
        with Hostile(lambda _: [moved]) as server, pytest.raises(TransportError, match="with its body"):
            transport.send(Request(server.url, method="POST", body='{"password":"canary"}'))
    assert other.seen == []


@pytest.mark.case("X3")
@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/", "gopher://x/", "http://a@127.0.0.1/"])
def test_a_redirect_leads_only_to_plain_http(transport: Transport, target: str) -> None:
    with Hostile(lambda _: [response(b"", status="302 Found", headers=[f"Location: {target}"])]) as server:
        with pytest.raises(TransportError) as caught:
            transport.send(Request(server.url))
        assert not caught.value.retriable


def test_redirects_end_after_five(transport: Transport) -> None:
    with Hostile(lambda _: [response(b"", status="302 Found", headers=["Location: /again"])]) as server:
        with pytest.raises(TransportError, match="more than 5 times"):
            transport.send(Request(server.url))
        assert len(server.seen) == 6


@pytest.mark.case("X16")
def test_the_environment_is_not_trusted_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with Hostile(lambda _: [response(b'"proxy"')]) as proxy, Hostile(lambda _: [response(BODY)]) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        assert Transport().send(Request(server.url)).body == BODY
        assert Transport(trust_env=True).send(Request(server.url)).body == b'"proxy"'


@pytest.mark.case("X11")
@pytest.mark.case("C21")
def test_a_certificate_is_believed_only_when_the_environment_may_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    with Hostile(lambda _: [response(BODY)], tls=True) as server:
        with pytest.raises(TransportError, match="self-signed") as caught:
            Transport().send(Request(server.url))
        assert (caught.value.kind, caught.value.retriable, server.seen) == ("tls", False, [])
        assert Transport(trust_env=True).send(Request(server.url)).body == BODY
        with pytest.raises(TransportError, match="TLS failed"):
            Transport(trust_env=True).send(Request(server.url.replace("localhost", "127.0.0.1")))


@pytest.mark.case("X2")
def test_a_redirect_from_https_to_http_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    with Hostile(lambda _: [response(BODY)]) as plain:
        moved = response(b"", status="302 Found", headers=[f"Location: {plain.url}/"])
        with Hostile(lambda _: [moved], tls=True) as server, pytest.raises(TransportError, match="from https to http"):
            Transport(trust_env=True).send(Request(server.url))
    assert plain.seen == []


@pytest.mark.case("C3")
def test_a_tls_answer_that_is_cut_or_drips_ends_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))

    def drip(request: str) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"
        for _ in range(200 if "/drip" in request else 3):
            time.sleep(0.02)
            yield b"x"

    with Hostile(drip, tls=True) as server:
        with pytest.raises(TransportError) as cut:
            Transport(trust_env=True).send(Request(server.url))
        assert (cut.value.kind, cut.value.retriable) == ("cut", True)
        with pytest.raises(TransportError, match="total time"):
            Transport(trust_env=True).send(Request(f"{server.url}/drip"), timeouts=Timeouts(read=1, total=0.4))


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_status_without_a_body_needs_none(transport: Transport, status: str) -> None:
    answer = f"HTTP/1.1 {status}\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n".encode()
    with Hostile(lambda _: [answer]) as server:
        assert transport.send(Request(server.url)).body == b""


def test_a_post_carries_its_body_and_headers_as_declared(transport: Transport) -> None:
    with Hostile(lambda _: [response(BODY)]) as server:
        request = Request(server.url, method="POST", body='{"q":"ü"}', headers=(("Content-Type", "application/json"),))
        transport.send(request)
    assert server.seen[0].startswith("POST / HTTP/1.1\r\n")
    assert "Content-Type: application/json\r\n" in server.seen[0]
    assert server.seen[0].encode("latin-1").endswith(b'{"q":"\xc3\xbc"}')


@pytest.mark.parametrize(("encoding", "known"), [("identity", False), ("gzip", True)])
def test_only_a_compression_says_itself_where_a_body_ends(transport: Transport, encoding: str, known: bool) -> None:
    answer = head(f"Content-Encoding: {encoding}") + ENCODINGS[encoding](b"id\n1\n")
    with Hostile(lambda _: [answer]) as server:
        assert transport.send(Request(server.url)).framed is known
