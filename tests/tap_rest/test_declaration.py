"""Declarations: what they mean, and how their mistakes are answered."""

from __future__ import annotations

import tempfile
import types
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.tap_rest.examples import EXAMPLES, text_of

import tap_declarations
from tap_rest.errors import ConfigError, DeclarationError
from tap_rest.formats.records import PathRecords, RootRecords
from tap_rest.language.declaration import Bound, Declaration, load
from tap_rest.language.paginators import CursorPaginator, LinkHeaderPaginator, OffsetPaginator
from tap_rest.language.replication import iso, moment
from tap_rest.language.schema import language_schema, structs
from tap_rest.language.yaml_source import read
from tap_rest.page import Page
from tap_rest.request import Request
from tap_rest.tap import main

BASE = "name: tap-x\nbase_url: https://x.test/api/\n"


def loaded(folder: Path, text: str) -> Declaration:
    path = folder / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path)


def bound(folder: Path, text: str, **settings: Any) -> Bound:
    return loaded(folder, text).bind(settings)


@pytest.mark.parametrize("name", tap_declarations.names())
def test_a_packaged_declaration_loads_and_names_its_schema(name: str) -> None:
    path = tap_declarations.path(name)
    assert load(path).name == f"tap-{name}"
    assert path.read_text().startswith("# yaml-language-server: $schema=../tap_rest/declaration.schema.json\n")
    assert all(len(line) <= 120 for line in path.read_text().splitlines())


def test_a_name_that_is_not_packaged_is_not_found() -> None:
    with pytest.raises(KeyError):
        tap_declarations.path("../tap_rest/x")


def test_the_committed_schema_is_the_printed_one_and_accepts_the_packaged_declarations(
    capsys: pytest.CaptureFixture[str],
) -> None:
    committed = tap_declarations.path("sample").parent.with_name("tap_rest") / "declaration.schema.json"
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--schema"])
    assert committed.read_text() == capsys.readouterr().out, f"run `tap-rest --schema > {committed}`"
    for name in tap_declarations.names():
        jsonschema.validate(read(tap_declarations.path(name)).data, language_schema())


def test_the_schema_lets_a_stream_change_single_options(tmp_path: Path) -> None:
    text = (
        BASE + "replication: {key: at}\npaginator: {type: next_url, path: next}\nstreams:\n  a: {path: /a, records: a, "
    )
    validator = jsonschema.Draft202012Validator(language_schema())
    for own in ("replication: {lookback: 1h}", "paginator: {max_pages: 5}"):
        assert loaded(tmp_path, f"{text}{own}}}")
        assert validator.is_valid(read(tmp_path / "x.yaml").data)
    for wrong in ("replication: {key: at, lookback: 1}", "paginator: {type: next_ulr}", "pth: /b"):
        (tmp_path / "x.yaml").write_text(f"{text}{wrong}}}")
        assert not validator.is_valid(read(tmp_path / "x.yaml").data)


def test_every_option_in_the_schema_is_described() -> None:
    parts = language_schema()["$defs"]
    bare = [
        f"{part}.{key}"
        for part, shape in parts.items()
        for key, option in shape["properties"].items()
        if key != "type" and "description" not in option
    ]
    assert bare == []


def test_no_union_mixes_text_with_a_pattern_and_a_container() -> None:
    """msgspec 0.22.0 writes over its own memory when it decodes such a union."""

    def options(kind: Any) -> list[Any]:
        return [arg for inner in get_args(kind) for arg in options(inner)] if _is_union(kind) else [kind]

    for struct in structs(Declaration):
        for field in msgspec.structs.fields(struct):
            members = options(field.type)
            patterned = any(get_origin(member) is Annotated and get_args(member)[0] is str for member in members)
            container = any(get_origin(member) in (list, dict) for member in members)
            assert not (patterned and container), f"{struct.__name__}.{field.name}"


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


MISTAKES = """\
name: tap-bad
api_version: 2022-11-28
settings:
  token: {kind: strnig, sensitive: true}
  org: {requird: true}
base_url: https://api.example.com
heders: {Accept: x}
auth: {type: baerer, token: "{settings.token}"}
limits: [{quota: 5000/hour}]
errors:
  - {when: {status: 404}, then: skip_partitoin}
streams:
  repos:
    path: /orgs/{settings.orq}/repos
    params: {token: "{settings.token}", x: "{ settings.org }", since: "{bookmark|isoo}"}
    records: items
    primary_keys: id
    paginator: {type: offzet}
    replication: {key: updated_at, order: ascnding, lookback: 1 hour}
  issues:
    pth: /x
    paginator: {type: cursor, path: a}
  ok:
    path: no-slash
    records: {type: path}
    replication: {key: id, format: text, lookback: 1h}
    foreach: {stream: repos, as: repo}
"""

ANSWERS = [
    (4, "`strnig` is not a known value at settings.token.kind", "did you mean `string`?"),
    (5, "unknown key `requird` at settings.org.requird", "did you mean `required`?"),
    (7, "unknown key `heders` at heders", "did you mean `headers`?"),
    (8, "`baerer` is not a known type at auth.type", "did you mean `bearer`?"),
    (9, "the quota 5000/hour is not written as it must be, for example 5000/h or 100/15min at limits[0]", ""),
    (11, "`skip_partitoin` is not a known value at errors[0].then", "did you mean `skip_partition`?"),
    (14, "`{settings.orq}` is not there to put in at streams.repos.path", "did you mean `settings.org`?"),
    (15, "`{settings.token}` is sensitive and may be used in `auth` only at streams.repos.params.token", ""),
    (
        15,
        "a brace that belongs to no substitution at streams.repos.params.x",
        "write `{settings.name}`, without spaces",
    ),
    (15, "format `isoo` is not written as it must be at streams.repos.params.since", "for example iso, date"),
    (17, "`id` does not fit: expected array, got str at streams.repos.primary_keys", ""),
    (18, "`offzet` is not a known type at streams.repos.paginator.type", "did you mean `offset`?"),
    (19, "`ascnding` is not a known value at streams.repos.replication.order", "did you mean `ascending`?"),
    (19, "`1 hour` is not written as it must be at streams.repos.replication.lookback", "for example 90s"),
    (20, "`path` is missing at streams.issues", ""),
    (20, "`records` is missing at streams.issues", ""),
    (21, "unknown key `pth` at streams.issues.pth", "did you mean `path`?"),
    (22, "a cursor needs param, into_header, into_body or next_path: where the token goes", ""),
    (24, "`no-slash` is not written as it must be at streams.ok.path", "for example /v1/items"),
    (25, "`path` is missing at streams.ok.records", ""),
    (26, "need a time, not format: text", ""),
    (27, "unknown key `foreach` at streams.ok.foreach", "did you mean `for_each`?"),
]


@pytest.mark.case("trap:4.12")
def test_all_mistakes_are_answered_at_once_with_line_path_and_hint(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError) as caught:
        loaded(tmp_path, MISTAKES)
    mistakes = caught.value.mistakes
    found = [(int(mistake.where.rpartition(":")[2]), mistake.problem, mistake.hint) for mistake in mistakes]
    assert len(found) == len(ANSWERS)
    for (line, problem, hint), (at, said, helped) in zip(sorted(ANSWERS), sorted(found), strict=True):
        assert at == line
        assert said.startswith(problem) or problem in said
        assert helped.startswith(hint)
    assert str(caught.value).count("\n") == len(ANSWERS) - 1
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a declaration is a mapping"),
        ("- a", "a declaration is a mapping"),
        (BASE, "`streams` must be a mapping"),
        (BASE + "streams: {}", "`streams` must be a mapping"),
        (BASE + "streams: [a]", "`streams` must be a mapping"),
        (BASE + "streams: {a: 5}", "a stream must be a mapping at streams.a"),
        (BASE + "streams: {a/b: {path: /a, records: $}}", "`a/b` is not written as it must be"),
        ("streams: {a: {path: /a, records: $}}", "`name` is missing"),
        (BASE + "streams: {a: {path: /a, records: [x]}}", "does not fit"),
        (BASE + "paginator: {page_size: 5}\nstreams: {a: {path: /a, records: $}}", "`type` is missing at paginator"),
        (BASE + "auth: {type: [a]}\nstreams: {a: {path: /a, records: $}}", "`['a']` is not a known type at auth.type"),
        (BASE + "auth: {type: {a: 1}}\nstreams: {a: {path: /a, records: $}}", "is not a known type at auth.type"),
        (
            BASE + "settings: {a/b: {}}\nstreams: {a: {path: /a, records: $}}",
            "`a/b` is not written as it must be at set",
        ),
        (BASE + "settings: 5\nstreams: {a: {path: '/{settings.x}', records: $}}", "does not fit"),
        (BASE + "streams: {a: {path: '/{bookmark.__class__}', records: $}}", "is not there to put in"),
        (BASE + "streams: {a: {path: '/{{settings.x}}', records: $}}", "a brace"),
        (BASE + "streams: {errors: {path: '/{settings.x}', records: $}}", "not there to put in at streams.errors.path"),
    ],
)
def test_a_file_that_is_no_declaration_is_answered(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        loaded(tmp_path, text)
    assert said in str(caught.value)
    assert "x.yaml:" in str(caught.value)


WORDS = st.sampled_from(
    ["", "x", "type", "stream", "$", "a.*", "{", "{settings.x}", "{bookmark|%}", None, True, 0, -1.5]
)
JUNK = st.recursive(
    WORDS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("a/:"), inner, max_size=2)
)


def spots(part: Any) -> Iterator[tuple[Any, Any]]:
    """Everything in a file that can be replaced."""
    for key, value in part.items() if isinstance(part, dict) else enumerate(part):
        yield part, key
        if isinstance(value, dict | list):
            yield from spots(value)


@given(st.sampled_from(sorted(EXAMPLES)), st.data(), JUNK)
def test_whatever_stands_in_a_file_it_is_a_declaration_or_a_mistake_with_its_line(
    key: str, data: st.DataObject, junk: Any
) -> None:
    whole = yaml.safe_load(text_of(key))
    part, name = data.draw(st.sampled_from(list(spots(whole))))
    part[name] = junk
    places = [""]
    with tempfile.TemporaryDirectory() as folder:
        try:
            loaded(Path(folder), yaml.safe_dump(whole))
        except DeclarationError as error:
            places = [mistake.where.removeprefix(f"{folder}/x.yaml:") for mistake in error.mistakes]
    assert places == [""] or all(place.isdecimal() for place in places)


def test_a_default_that_only_a_stream_can_not_have_is_answered_there(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"x\.yaml:4: .* at streams\.a\.records"):
        loaded(tmp_path, BASE + "records: null\nstreams: {a: {path: /a}}")


@pytest.mark.case("trap:3.7")
def test_defaults_are_merged_into_streams_key_by_key(tmp_path: Path) -> None:
    text = (
        BASE
        + """
records: items
headers: {Accept: a, X-V: "1"}
params: {per_page: 100, sort: up}
paginator: {type: offset, page_size: 100, total: total}
errors: [{when: {status: 404}, then: empty}]
streams:
  plain: {path: /plain}
  own:
    path: /own
    records: $
    headers: {X-V: "2"}
    params: {per_page: null, tag: [b, a], on: true}
    paginator: {page_size: 7}
    errors: [{when: {status: 410}, then: empty}]
  other: {path: /other, paginator: {type: link_header}}
"""
    )
    streams = bound(tmp_path, text).streams
    plain, own, other = (streams[name] for name in ("plain", "own", "other"))
    assert plain.request().full_url == "https://x.test/api/plain?per_page=100&sort=up"
    assert plain.declared.records == PathRecords(path="items")
    assert own.request().full_url == "https://x.test/api/own?sort=up&tag=b&tag=a&on=true"
    assert own.request().headers == (("Accept", "a"), ("X-V", "2"))
    assert own.declared.records == RootRecords()
    assert own.declared.paginator == OffsetPaginator(page_size=7, total="total")
    assert [rule.when.status for rule in own.declared.errors] == [410, 404]
    assert other.declared.paginator == LinkHeaderPaginator()


def test_only_the_error_rules_of_a_stream_are_put_before_the_defaults(tmp_path: Path) -> None:
    shared = "params: {errors: [a]}\nerrors: [{when: {status: 404}, then: empty}]\n"
    text = f"{BASE}{shared}streams: {{a: {{path: /a, records: $, params: {{errors: [b]}}}}}}"
    stream = bound(tmp_path, text).streams["a"]
    assert stream.request().params == (("errors", "b"),)
    assert len(stream.declared.errors) == 1


def test_a_mistake_in_a_default_is_answered_once_and_where_it_stands(tmp_path: Path) -> None:
    text = BASE + "records: $\nparams: {a: {b: 1}}\nstreams:\n  one: {path: /1}\n  two: {path: /2}\n"
    with pytest.raises(DeclarationError) as caught:
        loaded(tmp_path, text)
    assert [mistake.where.rpartition(":")[2] for mistake in caught.value.mistakes] == ["4"]


SETTINGS = (
    BASE
    + """
api_version: 2022-11-28
settings:
  org: {required: true, description: Organisation}
  size: {kind: integer, default: 50}
  wide: {kind: boolean}
  token: {sensitive: true}
auth: {type: bearer, token: "{settings.token}"}
headers: {X-Version: "{api_version}"}
streams:
  repos:
    path: /orgs/{settings.org}/repos
    params: {size: "{settings.size}", since: "{bookmark|epoch_s}", x: 0.5}
    records: $
    include: {org: "{settings.org}"}
    paginator: {type: cursor, path: next, next_path: "/more/{cursor}"}
check: {path: "/orgs/{settings.org}"}
"""
)


def test_settings_are_put_in_and_the_bookmark_comes_with_the_unit(tmp_path: Path) -> None:
    api = bound(tmp_path, SETTINGS, org="my org/a?b", token="t0ken", unknown=1)
    stream = api.streams["repos"]
    assert stream.request().full_url == "https://x.test/api/orgs/my%20org/a%3Fb/repos?size=50&x=0.5"
    assert stream.request(start="2023-11-14T22:13:20Z").param("since") == "1700000000"
    assert stream.request().headers == (("X-Version", "2022-11-28"),)
    assert stream.include() == {"org": b'"my org/a?b"'}
    assert stream.declared.paginator == CursorPaginator(path="next", next_path="/more/{cursor}")
    assert api.check is not None
    assert api.check.full_url == "https://x.test/api/orgs/my%20org/a%3Fb"
    assert api.secrets == ("t0ken",)


@pytest.mark.case("X4")
def test_no_secret_is_in_what_the_engine_stores(tmp_path: Path) -> None:
    api = bound(tmp_path, SETTINGS, org="o", token="t0ken")
    assert "t0ken" not in repr(api.streams)


@pytest.mark.case("X7")
def test_a_value_is_put_in_once_whatever_it_holds(tmp_path: Path) -> None:
    stream = bound(tmp_path, SETTINGS, org="{settings.token}{bookmark}", token="t0ken").streams["repos"]
    assert stream.request(start="2024-01-01").url.endswith("/orgs/%7Bsettings.token%7D%7Bbookmark%7D/repos")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"token": "t"}, "the setting `org` is missing: Organisation"),
        ({"org": "", "token": "t"}, "the setting `org` is missing"),
        ({"org": "o"}, "`token` has no value, but auth needs it"),
        ({"org": "o", "token": "t", "size": "many"}, "`size` is not of the kind integer"),
        ({"org": "o", "token": "t", "wide": "yes"}, "`wide` is not of the kind boolean"),
        ({"org": ["o"], "token": "t"}, "`org` is not of the kind string"),
        ({"org": "o", "token": "t\r\nX-Evil: 1"}, "`token` holds a line break"),
    ],
)
@pytest.mark.case("trap:4.5")
def test_a_setting_that_can_not_be_used_is_named_without_its_value(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        bound(tmp_path, SETTINGS, **settings)
    assert said in str(caught.value)
    assert "Evil" not in str(caught.value)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("url", ["ftp://x.test", "x.test", "", "https://me:pw@x.test"])
def test_a_base_url_must_be_a_plain_web_address(tmp_path: Path, url: str) -> None:
    text = (
        "name: tap-x\nsettings: {url: {default: z}}\nbase_url: '{settings.url}'\nstreams: {a: {path: /a, records: $}}"
    )
    with pytest.raises(ConfigError) as caught:
        bound(tmp_path, text, url=url)
    assert "pw" not in str(caught.value)


REPLICATED = (
    BASE
    + """
streams:
  rows:
    path: /rows
    records: $
    primary_keys: [id]
    replication: {key: at, order: ascending, param: since, until_param: until, format: FORMAT}
    day: {field: at, tz: Europe/Rome}
    mode: event
    volatile: [score]
    schema: {properties: {at: {type: string, format: date-time}}, additionalProperties: false}
"""
)


@pytest.mark.parametrize(
    ("form", "since"),
    [
        ("iso", "2023-11-14T22:13:20Z"),
        ("date", "2023-11-14"),
        ("epoch_s", "1700000000"),
        ("epoch_ms", "1700000000000"),
        ("'%Y/%m/%d'", "2023/11/14"),
        ("text", "2023-11-15T00:13:20+02:00"),
    ],
)
def test_start_and_end_are_written_as_the_api_wants_them(tmp_path: Path, form: str, since: str) -> None:
    stream = bound(tmp_path, REPLICATED.replace("FORMAT", form)).streams["rows"]
    request = stream.request(start="2023-11-15T00:13:20+02:00", until="2023-11-15T00:13:20+02:00")
    assert request.params == (("since", since), ("until", since))
    assert stream.request().params == ()


@pytest.mark.case("C23")
@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1712051512000", "2024-04-02T09:51:52Z"),  # as a date it would be 1712-05-15T20:00
        ("1712051512", "2024-04-02T09:51:52Z"),
        ("20240402", "2024-04-02T00:00:00Z"),
        ("17120000", "1970-07-18T03:33:20Z"),
        (" 2016-12-31T23:59:60.5Z ", "2016-12-31T23:59:59.500000Z"),
        ("2024-04-02T09:51:52.123456789+02:00", "2024-04-02T07:51:52.123456Z"),
        ("2024-04-31", None),
    ],
)
def test_a_number_is_an_epoch_and_all_else_is_a_date(text: str, time: str | None) -> None:
    found = moment(text)
    assert (found and iso(found.astimezone(UTC))) == time


@pytest.mark.case("trap:4.5")
def test_a_bookmark_that_is_no_time_is_an_error_and_not_an_empty_parameter(tmp_path: Path) -> None:
    stream = bound(tmp_path, REPLICATED.replace("FORMAT", "iso")).streams["rows"]
    with pytest.raises(ConfigError, match="'abc' is not a time"):
        stream.request(start="abc")


@pytest.mark.case("trap:3.15")
def test_the_schema_of_a_stream_is_open_and_carries_the_hints(tmp_path: Path) -> None:
    schema = loaded(tmp_path, REPLICATED.replace("FORMAT", "iso")).streams["rows"].json_schema()
    assert schema["additionalProperties"] is True
    assert schema["properties"]["at"] == {"type": "string", "format": "date-time"}
    assert set(schema["properties"]) == {"at", "id"}
    assert schema["x-daykeep-day"] == {"field": "at", "tz": "Europe/Rome"}
    assert (schema["x-daykeep-mode"], schema["x-daykeep-volatile"]) == ("event", ["score"])


def test_a_post_has_a_json_body_with_values_put_in(tmp_path: Path) -> None:
    text = BASE + "streams: {a: {path: /a, method: POST, records: $, body: {query: {since: '{bookmark}', n: 5}}}}"
    stream = bound(tmp_path, text).streams["a"]
    request = stream.request(start="ä")
    assert (request.method, request.body) == ("POST", '{"query":{"since":"ä","n":5}}')
    assert request.headers == (("Content-Type", "application/json"),)
    with pytest.raises(ConfigError, match=r"`bookmark` has no value, but streams\.a\.body needs it"):
        stream.request()


def test_the_fingerprint_changes_with_what_is_asked_and_not_with_where(tmp_path: Path) -> None:
    def print_of(text: str, **settings: Any) -> str:
        return bound(tmp_path, text, token="t", **settings).streams["repos"].fingerprint

    first = print_of(SETTINGS, org="o")
    assert first == print_of(SETTINGS.replace("https://x.test/api/", "http://127.0.0.1:5"), org="o")
    assert first == print_of(SETTINGS.replace("    records: $", "    records: $\n    description: New"), org="o")
    assert len({first, print_of(SETTINGS, org="p"), print_of(SETTINGS.replace("x: 0.5", "x: 1"), org="o")}) == 3


def test_the_config_schema_names_kinds_secrets_and_what_is_required(tmp_path: Path) -> None:
    schema = loaded(tmp_path, SETTINGS).config_jsonschema()
    assert schema["required"] == ["org"]
    assert schema["properties"]["size"] == {"type": ["integer", "null"], "default": 50}
    assert schema["properties"]["token"]["secret"] is True
    assert {"start_date", "end_date", "max_wait"} <= schema["properties"].keys()


def declared_rows(folder: Path, stream: str) -> Declaration:
    return loaded(folder, f"{BASE}streams: {{rows: {{path: /rows, records: $, {stream}}}}}")


@pytest.mark.case("R004-8")
@pytest.mark.parametrize(
    ("lists", "query"),
    [("repeat", "id=1&id=2&on=true"), ("comma", "id=1,2&on=true"), ("brackets", "id[]=1&id[]=2&on=true")],
)
def test_a_list_in_the_query_is_sent_as_the_api_wants_it(tmp_path: Path, lists: str, query: str) -> None:
    declared = declared_rows(tmp_path, f"lists: {lists}, params: {{id: [1, 2], none: [], on: true}}")
    assert declared.bind({}).streams["rows"].request().full_url == f"https://x.test/api/rows?{query}"


def test_a_body_may_be_a_form_and_takes_the_cursor_there(tmp_path: Path) -> None:
    paginator = "paginator: {type: cursor, path: next, into_body: at}"
    stream = f"method: POST, body: {{q: 'a b&c', on: true}}, body_as: form, {paginator}"
    bound = declared_rows(tmp_path, stream).bind({}).streams["rows"]
    request = bound.declared.paginator.first(bound.request())
    assert (request.body, dict(request.headers)["Content-Type"]) == (
        "q=a+b%26c&on=true",
        "application/x-www-form-urlencoded",
    )
    following = bound.declared.paginator.next(request, Page(request, 200, {}, b'{"next": "x&y"}'))
    assert isinstance(following, Request)
    assert following.body == "q=a+b%26c&on=true&at=x%26y"


def test_a_form_holds_no_objects(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="a form has no lists"):
        declared_rows(tmp_path, "method: POST, body: {q: {a: 1}}, body_as: form")


@pytest.mark.parametrize("body", ["{page: null}", "{page: 3}", "{page: [1]}"])
def test_a_cursor_needs_room_in_the_body(tmp_path: Path, body: str) -> None:
    options = f"method: POST, body: {body}, paginator: {{type: cursor, path: next, into_body: page.after}}"
    with pytest.raises(DeclarationError, match="has no place in the body, where page is no object"):
        declared_rows(tmp_path, options)


def test_a_schema_may_stand_in_a_file_beside_the_declaration(tmp_path: Path) -> None:
    (tmp_path / "open.yaml").write_text("components: {schemas: {Row: {properties: {id: {type: integer}}}}}")
    declared = declared_rows(tmp_path, "schema: 'open.yaml#/components/schemas/Row'")
    assert declared.streams["rows"].json_schema()["properties"] == {"id": {"type": "integer"}}
    with pytest.raises(DeclarationError, match=r"x.yaml:3: .*there is no 'Rows'"):
        declared_rows(tmp_path, "schema: 'open.yaml#/components/schemas/Rows'")
