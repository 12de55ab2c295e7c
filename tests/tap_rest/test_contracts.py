"""What holds for every part of the language: a new component is under contract the moment its name is in the union.

Its options are those of its example (examples.py); a paginator, a selector and a format also have a row of pages here.
"""

from __future__ import annotations

import gzip
import inspect
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qsl, urlsplit

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
import yaml
from tests.reference import Reference
from tests.tap_rest.examples import EXAMPLES, declared, places, text_of
from tests.tap_rest.harness import FastClock
from tests.tap_rest.hostile import CERTIFICATE, Hostile, response
from tests.tap_rest.pages import START, page, zipped

from tap_rest.auth.auth import Auth
from tap_rest.component import Component
from tap_rest.engine.tokens import RunTokens
from tap_rest.errors import DeclarationError, UnexpectedPage
from tap_rest.formats.formats import Format
from tap_rest.formats.records import Records, RootRecords
from tap_rest.language.declaration import Declaration, load
from tap_rest.language.paginators import Paginator
from tap_rest.language.paging import End
from tap_rest.language.schema import language_schema, structs
from tap_rest.page import Page
from tap_rest.redaction import Redactor
from tap_rest.request import Private, Request
from tap_rest.tap import main

TYPES = {kind.__name__: kind for kind in structs(Declaration)}
KINDS = {key: TYPES[name] for part in Reference(language_schema()).parts for key, name in part.named()}
"""The type of every component of the language, by the key that its example has."""

SCHEMA = jsonschema.Draft202012Validator(language_schema())


def keys_of(union: Any) -> list[str]:
    return [key for kind in get_args(union) for key, known in KINDS.items() if known is kind]


def example(key: str) -> Any:
    """The component that an example is about."""
    found = [value for _, value in places(declared(key), KINDS[key])]
    assert found, f"the example {key} holds no {KINDS[key].__name__}"
    return found[0]


def test_every_example_is_of_a_component() -> None:
    assert set(EXAMPLES) <= set(KINDS)


@pytest.mark.parametrize("key", KINDS)
class TestEveryComponent:
    def test_has_an_example(self, key: str) -> None:
        assert isinstance(example(key), KINDS[key])

    def test_is_accepted_by_the_schema_that_editors_use(self, key: str) -> None:
        assert SCHEMA.is_valid(yaml.safe_load(text_of(key)))

    def test_is_a_frozen_value_that_knows_its_keys(self, key: str) -> None:
        assert issubclass(KINDS[key], Component)
        assert KINDS[key].__struct_config__.frozen
        assert not inspect.isabstract(KINDS[key])  # msgspec, unlike a call, would make it all the same
        assert KINDS[key].__struct_config__.forbid_unknown_fields
        assert all(name.islower() for name in KINDS[key].__struct_encode_fields__)

    def test_survives_a_round_trip_of_its_options(self, key: str, tmp_path: Path) -> None:
        value = example(key)
        assert msgspec.json.decode(msgspec.json.encode(value), type=KINDS[key]) == value
        path, _ = next(places(declared(key), KINDS[key]))
        (tmp_path / "x.yaml").write_text(yaml.safe_dump(msgspec.to_builtins(declared(key)), allow_unicode=True))
        assert dict(places(load(tmp_path / "x.yaml"), KINDS[key]))[path] == value

    def test_answers_a_misspelt_key_with_its_place_and_the_right_one(self, key: str, tmp_path: Path) -> None:
        path, value = next(places(declared(key), KINDS[key]))
        right = max([*KINDS[key].__struct_encode_fields__], key=len, default="")
        whole = part = msgspec.to_builtins(declared(key))
        for step in path:
            part = part.setdefault(step, {}) if isinstance(part, dict) else part[step]
        part |= {"type": tag} if (tag := value.__struct_config__.tag) else {}
        part[f"{right}q"] = 1
        (tmp_path / "x.yaml").write_text(yaml.safe_dump(whole))
        with pytest.raises(DeclarationError) as caught:
            load(tmp_path / "x.yaml")
        (mistake,) = caught.value.mistakes
        dotted = re.sub(r"\.(\d+)", r"[\1]", ".".join(map(str, [*path, f"{right}q"])))
        assert mistake.problem == f"unknown key `{right}q` at {dotted}"
        assert mistake.hint == (f"did you mean `{right}`?" if right else "")


PAGES: dict[str, tuple[list[Page], str]] = {
    # pages that follow each other, the last one empty, and the reason of the end
    "paginator.single_page": ([page(0)], "single_page"),
    "paginator.offset": ([page(2), page(1), page(0)], "empty_page"),
    "paginator.page_number": ([page(2), page(1), page(0)], "empty_page"),
    "paginator.cursor": ([page(2, {"next": "a"}), page(0, {"next": "b"}), page(0, {"next": None})], "no_next"),
    "paginator.sync_token": ([page(2, {"next": "a"}), page(0, {"sync_token": "b"})], "no_next"),
    "paginator.keyset": ([page([{"id": 1}, {"id": 2}]), page([{"id": 3}, {"id": 4}]), page(0)], "empty_page"),
    "paginator.link_header": ([page(2, link="</v1/rows?page=2>; rel=next"), page(0)], "no_next"),
    "paginator.next_url": ([page(2, {"paging": {"next": "/v1/rows?page=2"}}), page(0)], "no_next"),
}


@pytest.mark.parametrize("key", keys_of(Paginator))
class TestEveryPaginator:
    def test_has_pages(self, key: str) -> None:
        assert key in PAGES, f"add a row {key!r} to PAGES"

    def test_gives_the_same_answer_twice_and_leaves_what_it_is_given_alone(self, key: str) -> None:
        paginator, (pages, _) = example(key), PAGES[key]
        before = msgspec.json.encode([START, pages[0]])
        assert paginator.first(START) == (first := paginator.first(START))
        assert paginator.next(first, pages[0]) == paginator.next(first, pages[0])
        assert msgspec.json.encode([START, pages[0]]) == before

    def test_asks_for_every_page_once_and_ends_on_an_empty_last_one(self, key: str) -> None:
        paginator, (pages, reason) = example(key), PAGES[key]
        following, asked = paginator.first(START), list[str]()
        for answer in pages:
            assert isinstance(following, Request)
            assert (following.method, following.param("q"), following.headers) in (
                (START.method, "a", START.headers),
                (START.method, None, START.headers),  # the query is the server's own
            )
            asked.append(following.fingerprint())
            following = paginator.next(following, answer)
        assert isinstance(following, End)
        assert (following.reason, following.complete) == (reason, True)
        assert max(Counter(asked).values()) == 1

    @pytest.mark.parametrize(("flag", "more"), [("has_more", True), ("at_end", False)])
    def test_ends_where_a_flag_says_so_and_is_incomplete_where_it_finds_no_way_on(
        self, key: str, flag: str, more: bool
    ) -> None:
        paginator = msgspec.structs.replace(example(key), **{flag: "flag"})
        found = paginator.next(paginator.first(START), page(2, {"flag": not more, "next": "/x", "total": 9}))
        assert isinstance(found, End)
        assert (found.reason, found.complete) == ("flag", True)
        found = paginator.next(paginator.first(START), page(0, {"flag": more, "total": 0}))
        assert isinstance(found, End)
        assert not found.complete

    @pytest.mark.case("C1")
    @pytest.mark.parametrize("flag", ["has_more", "at_end"])
    def test_takes_a_missing_flag_for_an_error(self, key: str, flag: str) -> None:
        paginator = msgspec.structs.replace(example(key), **{flag: "flag"})
        with pytest.raises(UnexpectedPage, match="no flag at flag"):
            paginator.next(paginator.first(START), page())


CANARY = "s3cret"
PEM = CERTIFICATE.read_text().partition("-----BEGIN CERTIFICATE")[0].strip()
SETTINGS: dict[str, dict[str, str]] = {
    "auth.jwt": {"key": PEM},
    "auth.oauth2.assertion": {"key": PEM},
    "auth.pool": {"tokens": f"{CANARY}-one,{CANARY}-two"},
}
"""Values of settings that can't be just any text."""
AUTHS = [*keys_of(Auth), "auth.oauth2.assertion"]


def settings_of(key: str) -> dict[str, str]:
    names = declared(key).settings
    return {name: f"{CANARY}-{name}" for name in names} | SETTINGS.get(key, {})


def secrets_in(key: str, text: str) -> list[str]:
    """The secrets of an example that a text shows; of a key in PEM each of its lines, of a pool each of its values."""
    secret = [value for name, value in settings_of(key).items() if declared(key).settings[name].sensitive]
    lines = [line for value in secret for line in re.split("[\n,]", value)]
    return [line for line in lines if line in text and not line.startswith("-----")]


def sent(auth: Auth, redactor: Redactor) -> list[Request]:
    """The requests of a flow up to the first that goes to the API; one that asks for a token is given one."""
    clock = FastClock()
    flow = auth.flow(START, RunTokens(clock, (redactor.learn,)))
    found = [next(flow)]
    if isinstance(found[0], Private):
        found.append(flow.send(Page(found[0], 200, {}, b'{"access_token":"s3cret-fetched"}')))
    flow.close()
    clock.close()
    return found


@pytest.mark.parametrize("key", AUTHS)
class TestEveryAuth:
    def test_signs_and_leaves_the_rest_of_the_request_alone(self, key: str) -> None:
        auth = declared(key).bind(settings_of(key)).auth
        before = msgspec.json.encode(START)
        signed = sent(auth, Redactor())[-1]
        assert msgspec.json.encode(START) == before
        assert (signed == START) == (key == "auth.none")
        assert (signed.method, signed.body, signed.origin) == (START.method, START.body, START.origin)
        assert urlsplit(signed.url).path == urlsplit(START.url).path
        assert {**dict(signed.headers), **dict(START.headers)} == dict(signed.headers)

    def test_takes_out_of_a_url_what_it_puts_in(self, key: str) -> None:
        auth = declared(key).bind(settings_of(key)).auth
        signed = sent(auth, Redactor())[-1]
        for found in (auth.stripped(signed), auth.stripped(Request(signed.full_url))):
            assert parse_qsl(urlsplit(found.full_url).query) == parse_qsl(urlsplit(START.full_url).query)

    @pytest.mark.case("X4")
    def test_names_its_secrets(self, key: str) -> None:
        bound = declared(key).bind(settings_of(key))
        redactor = Redactor(bound.auth.secrets())
        shown = redactor.values(str(sent(bound.auth, redactor)))
        assert "s3cret-fetched" not in shown
        assert secrets_in(key, shown) == []

    @pytest.mark.case("X4")
    def test_shows_no_secret_when_it_is_explained_or_refused(
        self, key: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """A server that repeats in its error what it was sent, credentials included."""

        def echo(request: str) -> list[bytes]:
            said = json.dumps({"error": request, "error_description": request, "message": request})
            return [response(said.encode(), status="400 Bad Request")]

        with Hostile(echo) as server:
            text = re.sub(r"https://[a-z]+\.example\.com", server.url, text_of(key))
            (tmp_path / "x.yaml").write_text(text)
            given = {"declaration": str(tmp_path / "x.yaml"), "token_store": str(tmp_path), **settings_of(key)}
            with pytest.raises(SystemExit) as ended:
                main([f"--config={json.dumps(given)}", "--explain", "items"])
            explained = capfd.readouterr()
            assert not ended.value.code
            assert "curl" in explained.out
            with pytest.raises(SystemExit) as ended:
                main([f"--config={json.dumps(given)}"])
            assert ended.value.code
            assert server.seen
        refused = capfd.readouterr()
        for shown in (explained.out, explained.err, refused.out, refused.err, caplog.text):
            assert secrets_in(key, shown) == []


BODIES: dict[str, tuple[bytes, list[bytes]]] = {
    # a body and the records in it
    "records.path": (b'{"data":{"items":[{"a":1.10}, {"b":{}}]}}', [b'{"a":1.10}', b'{"b":{}}']),
    "records.root": (b'[{"a":1.10}, {"b":{}}]', [b'{"a":1.10}', b'{"b":{}}']),
    "records.single": (b'{"data":{"a":1.10},"b":2}', [b'{"a":1.10}']),
    "records.object_map": (b'{"items":{"k":{"id":1.10}}}', [b'{"id":1.10}']),
    "records.table": (b'{"fields":[{"name":"a"}],"rows":[[1.10]]}', [b'{"a":1.10}']),
    "records.columns": (
        b'{"hourly":{"time":["x"],"temperature":[1.10]}}',
        [b'{"time":"x","temperature":1.10}'],
    ),
}


@pytest.mark.parametrize("key", keys_of(Records))
class TestEverySelector:
    def test_has_a_body(self, key: str) -> None:
        assert key in BODIES, f"add a row {key!r} to BODIES"

    def test_slices_records_out_of_a_body_unless_it_says_that_it_composes(self, key: str) -> None:
        selector, (body, records) = example(key), BODIES[key]
        for given in (body, b"\xef\xbb\xbf \n" + body, bytes(body)):
            assert [bytes(record) for record in selector.slices(given)] == records
        assert all(record in body for record in records) != selector.composes

    @pytest.mark.case("C2")
    def test_refuses_every_other_body(self, key: str) -> None:
        selector, (body, _) = example(key), BODIES[key]
        cut = [body[:end] for end in range(len(body))]
        for wrong in [*cut, body + b"x", b"<html>", b"null", b"7", b'{"e":"\xff"}']:
            with pytest.raises(UnexpectedPage):
                selector.slices(wrong)


FILES: dict[str, tuple[bytes, bytes]] = {
    # a body, and the JSON text that it is read as
    "format.json": ('{"a": 1.10}'.encode("utf-16"), b'{"a": 1.10}'),
    "format.jsonl": (b'{"a": 1.10}\r\n\n{"b":NaN}', b'[{"a": 1.10},{"b":NaN}]'),
    "format.csv": (b'id;b\r\n1.10;"x ""y"";\n"\r\n', b'[{"id":"1.10","b":"x \\"y\\";\\n"}]'),
    "format.xml": (
        b"<rss><channel><item><a>1.10</a></item></channel></rss>",
        b'{"rss":{"channel":{"item":[{"a":"1.10"}]}}}',
    ),
}


@pytest.mark.parametrize("key", keys_of(Format))
class TestEveryFormat:
    def test_has_a_body(self, key: str) -> None:
        assert key in FILES, f"add a row {key!r} to FILES"

    def test_is_read_as_json_text_also_packed(self, key: str) -> None:
        form, (body, expected) = example(key), FILES[key]
        packed = gzip.compress(body)
        assert [form.texts(given) for given in (body, packed, gzip.compress(packed))] == [[expected]] * 3
        assert form.texts(zipped({"a/": b"", "a/1": body, "2.gz": packed})) == [expected, expected]

    def test_leaves_the_bytes_of_values_unless_it_says_that_it_composes(self, key: str) -> None:
        assert (b'"1.10"' in FILES[key][1]) == example(key).composes

    @pytest.mark.case("C7")
    def test_refuses_text_of_another_encoding(self, key: str) -> None:
        form, (body, _) = example(key), FILES[key]
        with pytest.raises(UnexpectedPage):
            RootRecords().slices(form.texts(body.replace(b"1", b"\x81"))[0])

    @pytest.mark.case("C1")
    def test_takes_an_empty_body_for_an_empty_page_only_where_that_is_declared(self, key: str) -> None:
        form = example(key)
        for body in (b"", b" \n", gzip.compress(b"")):
            if form.takes_nothing:
                assert form.texts(body) == [b"[]"]
            else:
                with pytest.raises(UnexpectedPage):
                    RootRecords().slices(form.texts(body)[0])

    @pytest.mark.case("C2")
    def test_refuses_an_archive_cut_anywhere(self, key: str) -> None:
        form, (body, _) = example(key), FILES[key]
        for packed in (gzip.compress(body), zipped({"a": body})):
            for end in range(4, len(packed)):
                with pytest.raises(UnexpectedPage):
                    RootRecords().slices(form.texts(packed[:end])[0])
