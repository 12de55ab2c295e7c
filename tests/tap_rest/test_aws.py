"""Signature version 4: published signatures, and moto's server, which checks each request."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import boto3  # type: ignore[import-untyped]
import pytest
import requests
from moto.server import ThreadedMotoServer
from tests.tap_rest.harness import FastClock, Run, run_file, written
from tests.tap_rest.hostile import Hostile, response

from tap_rest.auth.signing import AwsSigV4Auth
from tap_rest.engine.tokens import RunTokens
from tap_rest.errors import ConfigError
from tap_rest.request import Request

KEY = {"access_key": "AKIDEXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "region": "us-east-1"}
URL = "https://example.amazonaws.com/"
FORM = (("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"),)


def signed(auth: AwsSigV4Auth, request: Request) -> Request:
    clock = FastClock()
    found = next(auth.flow(request, RunTokens(clock)))
    clock.close()
    return found


@pytest.mark.case("R002-21")
@pytest.mark.parametrize(
    ("service", "request_", "signature"),
    [
        ("service", Request(URL), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "service",
            Request(URL, params=(("Param2", "value2"), ("Param1", "value1"))),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "service",
            Request(URL, params=(("ሴ", "bar"),)),
            "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
        ),
        ("service", Request(URL, "POST"), "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "iam",
            Request("https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", headers=FORM),
            "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        ),
    ],
    ids=["get-vanilla", "get-vanilla-query-order", "get-vanilla-utf8-query", "post-vanilla", "ListUsers"],
)
def test_a_published_signature(
    monkeypatch: pytest.MonkeyPatch, service: str, request_: Request, signature: str
) -> None:
    moment = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: moment)
    found = signed(AwsSigV4Auth(service=service, **KEY), request_)
    headers = dict(found.headers)
    assert headers["Authorization"].endswith(f"Signature={signature}")
    assert headers["X-Amz-Date"] == "20150830T123600Z"


@pytest.mark.case("X4")
def test_a_session_token_goes_along_signed_and_the_library_logs_none_of_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        found = signed(AwsSigV4Auth(service="ce", session_token="t0ken", **KEY), Request(URL))
    assert "t0ken" not in caplog.text
    headers = dict(found.headers)
    assert headers["X-Amz-Security-Token"] == "t0ken"
    assert "x-amz-security-token" in headers["Authorization"]


def test_a_query_is_signed_and_sent_in_the_encoding_that_the_server_will_sign() -> None:
    request = Request(f"{URL}?a=x%2fy&b=%E4", params=(("filter[a]", "1,2 $:@/!*()'~"),))
    found = signed(AwsSigV4Auth(service="ce", **KEY), request)
    assert found.full_url == f"{URL}?a=x%2Fy&b=%E4&filter%5Ba%5D=1%2C2%20%24%3A%40%2F%21%2A%28%29%27~"


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """The URL of a moto server with two buckets' worth of things to list."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def key(moto: str) -> Iterator[dict[str, str]]:
    """A key that may read, to which the server holds every request from now on."""
    options = {"endpoint_url": moto, "region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    iam, s3, secrets = (boto3.client(name, **options) for name in ("iam", "s3", "secretsmanager"))
    iam.create_user(UserName="reader")
    statement = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
    iam.put_user_policy(UserName="reader", PolicyName="all", PolicyDocument=statement)
    found = iam.create_access_key(UserName="reader")["AccessKey"]
    s3.create_bucket(Bucket="things")
    for number in range(3):
        s3.put_object(Bucket="things", Key=f"a b/[{number}] 1+1=2.txt", Body=b"x")
        secrets.create_secret(Name=f"secret-{number}", SecretString="x")
    from_now_on(moto, "0")
    yield {"key": found["AccessKeyId"], "secret": found["SecretAccessKey"]}
    from_now_on(moto, "inf")


def from_now_on(moto: str, count: str) -> None:
    """Lets so many requests in unchecked, and checks the rest."""
    requests.post(f"{moto}/moto-api/reset-auth", count, timeout=10).raise_for_status()


STREAMS = {
    "s3": """
      rows: {path: /things, params: {list-type: 2, prefix: "a b/[", delimiter: "$:@,!*()'"}, format: {type: xml},
             records: ListBucketResult.Contents}
    """,
    "secretsmanager": """
      rows: {path: /, method: POST, body: {MaxResults: 2}, records: SecretList,
             errors: [{when: {status: 200}, then: ok}],  # moto calls its JSON a web page
             headers: {X-Amz-Target: secretsmanager.ListSecrets, Content-Type: application/x-amz-json-1.1},
             paginator: {type: cursor, path: NextToken, into_body: NextToken}}
    """,
}


def play(folder: Path, url: str, service: str, settings: dict[str, str], streams: str) -> Run:
    declaration = f"""
    settings: {{key: {{}}, secret: {{sensitive: true}}}}
    auth: {{type: aws_sigv4, service: {service}, region: us-east-1, access_key: "{{settings.key}}",
           secret_key: "{{settings.secret}}"}}
    streams:{streams}
    """
    return run_file(written(folder, declaration, url), settings=settings)


@pytest.mark.parametrize("service", STREAMS)
def test_moto_finds_the_signature_right(tmp_path: Path, moto: str, key: dict[str, str], service: str) -> None:
    result = play(tmp_path, moto, service, key, STREAMS[service])
    assert result.error is None
    assert len(result.records()) == 3


@pytest.mark.case("X4")
@pytest.mark.parametrize("service", STREAMS)
def test_moto_refuses_a_wrong_key_which_is_not_shown(
    tmp_path: Path, moto: str, key: dict[str, str], service: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        result = play(tmp_path, moto, service, {**key, "secret": "an0ther-s3cret"}, STREAMS[service])
    assert "status 403" in caplog.text
    assert not result.records()
    assert "s3cret" not in f"{caplog.text}{result.error}"


@pytest.mark.parametrize("missing", ["botocore.auth", "botocore.awsrequest", "botocore.credentials"])
def test_a_missing_package_is_one_line_that_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with Hostile(lambda _: [response(b"[]")]) as server:
        result = play(tmp_path, server.url, "s3", {"key": "a", "secret": "s3cret"}, STREAMS["s3"])
    assert isinstance(result.error, ConfigError)
    assert "pip install 'daykeep[aws]'" in str(result.error)
    assert not server.seen
