"""One example of every part of the language: shown on the reference page, loaded and put under contract by the tests.

An example is the text of a declaration without what every declaration has. Its key is its heading on the page: the path
of the option and, for a union, the kind.
"""

from __future__ import annotations

import re
import tempfile
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from tap_rest.language.declaration import Declaration, load
from tap_rest.language.yaml_source import KeyPath

_EVERY = {
    "name": "name: tap-example",
    "base_url": "base_url: https://api.example.com/v1",
    "records": "records: $",
    "streams": "streams: {items: {path: /items}}",
}


PUBLIC = {"access_key", "client_id", "consumer_key", "key_id", "token_id", "user"}
"""Settings in examples of `auth` that are no secrets."""


def text_of(key: str) -> str:
    """An example as the file of a declaration, with the settings that it uses."""
    assert key in EXAMPLES, f"add a row {key!r} to EXAMPLES in tests/tap_rest/examples.py"
    example = textwrap.dedent(EXAMPLES[key]).lstrip("\n")
    asked = dict.fromkeys(re.findall(r"\{settings\.(\w+)", example))
    secret = asked.keys() - PUBLIC if key.startswith("auth.") else set()
    settings = ", ".join(f"{name}: {{sensitive: {str(name in secret).lower()}}}" for name in asked)
    every = {**_EVERY, **({"settings": f"settings: {{{settings}}}"} if asked else {})}
    head = [line for name, line in every.items() if not re.search(rf"^{name}:", example, re.MULTILINE)]
    return "\n".join([*head, example])


@cache
def declared(key: str) -> Declaration:
    """The declaration of an example."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "example.yaml"
        file.write_text(text_of(key))
        return load(file)


def places(value: Any, kind: type[Any], path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Where a declaration holds values of a type, and these."""
    if type(value) is kind:
        yield path, value
    inside: Any = ()
    if isinstance(value, msgspec.Struct):
        inside = ((field.encode_name, getattr(value, field.name)) for field in msgspec.structs.fields(value))
    elif isinstance(value, dict | list | tuple):
        inside = value.items() if isinstance(value, dict) else enumerate(value)
    for name, item in inside:
        yield from places(item, kind, (*path, name))


EXAMPLES = {
    "settings": """
        settings:
          token: {sensitive: true, required: true, description: Personal access token}
          size: {kind: integer, default: 100, description: Rows of a page}
    """,
    "check": "check: {path: /me}",
    "timeouts": "timeouts: {connect: 5, read: 120, total: 900}",
    # --- auth ---------------------------------------------------------------------------------------------------------
    "auth.none": "auth: {type: none}",
    "auth.api_key": 'auth: {type: api_key, in: query, name: api_key, key: "{settings.key}"}',
    "auth.basic": 'auth: {type: basic, username: "{settings.user}", password: "{settings.password}"}',
    "auth.bearer": 'auth: {type: bearer, token: "{settings.token}"}',
    "auth.oauth2": """
        auth:
          type: oauth2
          grant: client_credentials
          token_url: https://login.example.com/oauth/token
          client_id: "{settings.client_id}"
          client_secret: "{settings.client_secret}"
          client_auth: basic
          scope: read:items
    """,
    "auth.session": """
        auth:
          type: session
          login_url: https://api.example.com/v1/login
          body: {user: "{settings.user}", password: "{settings.password}"}
          token_path: access_token
          lifetime: 1800
    """,
    "auth.hmac": """
        auth:
          type: hmac
          key: "{settings.secret}"
          message: "{timestamp}{method}{path}{body}"
          name: X-Signature
          timestamp_name: X-Timestamp
          headers: {X-Key: "{settings.key_id}"}
    """,
    "auth.oauth2.assertion": """
        auth:
          type: oauth2
          grant: jwt_bearer
          token_url: https://login.example.com/oauth/token
          assertion: {key: "{settings.key}", claims: {iss: app@example.com, scope: read:items}, algorithm: ES256}
    """,
    "auth.jwt": """
        auth: {type: jwt, key: "{settings.key}", claims: {iss: app}, algorithm: ES256}
    """,
    "auth.oauth1a": """
        auth:
          type: oauth1a
          consumer_key: "{settings.consumer_key}"
          consumer_secret: "{settings.consumer_secret}"
          token: "{settings.token_id}"
          token_secret: "{settings.token_secret}"
    """,
    "auth.aws_sigv4": """
        auth:
          type: aws_sigv4
          service: ce
          region: us-east-1
          access_key: "{settings.access_key}"
          secret_key: "{settings.secret_key}"
    """,
    "auth.pool": """
        auth: {type: pool, of: {type: bearer, token: "{settings.tokens}"}}    # tokens: several, separated by commas
    """,
    # --- limits and errors --------------------------------------------------------------------------------------------
    "limits": """
        limits:
          - {name: core, quota: [100/min, 5000/h], headers: x-ratelimit, reserve: 10}
          - {name: search, quota: 30/min, match: {path: /search/**}}
    """,
    "limits.match": """
        limits:
          - quota: 1000/d
            match: [{path: /reports/*, method: POST, weight: 20}, {path: /**}]
    """,
    "errors": """
        errors:
          - {when: {status: [403, 429], header: {X-RateLimit-Remaining: "0"}}, then: wait, until: {header: X-Reset}}
          - {when: {status: 404}, then: empty, reason: an account without items}
    """,
    "errors.when": """
        errors:
          - {when: {status: 5xx, content_type: text/html, contains: maintenance}, then: retry}
    """,
    "errors.when.body": """
        errors:
          - {when: {status: 200, body: {path: error.code, equals: [LIMIT, BUSY]}}, then: retry}
    """,
    "errors.until": """
        errors:
          - {when: {status: 429}, then: wait, until: {body: error.retry_in, unit: ms, at_least: 1}}
    """,
    # --- pages --------------------------------------------------------------------------------------------------------
    "paginator.single_page": "paginator: {type: single_page}",
    "paginator.offset": "paginator: {type: offset, page_size: 100, total: total}",
    "paginator.page_number": "paginator: {type: page_number, page_size: 100, size_param: per_page}",
    "paginator.cursor": "paginator: {type: cursor, path: next, param: cursor}",
    "paginator.sync_token": """
        paginator: {type: sync_token, path: next, param: cursor, token_path: sync_token, token_param: since_token}
    """,
    "paginator.keyset": """
        paginator: {type: keyset, field: id, param: after, inclusive: false, unique: true, page_size: 100}
    """,
    "paginator.link_header": "paginator: {type: link_header, page_size: 100, size_param: per_page}",
    "paginator.next_url": "paginator: {type: next_url, path: paging.next}",
    # --- bodies -------------------------------------------------------------------------------------------------------
    "format.json": "format: {type: json, encoding: utf-16}",
    "format.jsonl": "format: {type: jsonl, empty_ok: true}",
    "format.csv": "format: {type: csv, delimiter: ;, required: [id], encoding: cp1252}",
    "format.xml": """
        format: {type: xml, lists: [rss.channel.item]}
        records: rss.channel.item
    """,
    "records.root": "records: $    # short for {type: root}",
    "records.path": "records: data.items    # short for {type: path, path: data.items}",
    "records.single": "records: {type: single, path: data}",
    "records.object_map": "records: {type: object_map, path: items, key_as: id}",
    "records.table": "records: {type: table, rows: rows, columns: fields.*.name}",
    "records.columns": "records: {type: columns, path: hourly, names: [time, temperature]}",
    # --- streams ------------------------------------------------------------------------------------------------------
    "streams": """
        streams:
          items:
            path: /items
            params: {state: all, sort: updated}
            records: data
            primary_keys: [id]
            replication: {key: updated_at, order: ascending, param: since}
            day: {field: created_at}
            mode: entity
            volatile: [views]
            schema: {properties: {id: {type: integer}}}
    """,
    "streams.for_each": """
        streams:
          repos: {path: /repos, primary_keys: [id]}
          issues:
            for_each: {stream: repos, as: repo}
            path: /repos/{repo.name}/issues
            primary_keys: [id]
            include: {repository: "{repo.name}"}
    """,
    "streams.job": """
        streams:
          report:
            path: /reports
            method: POST
            body: {from: "{bookmark|date}", to: "{until|date}"}
            job:
              id: report_id
              poll: /reports/{job.id}
              every: 30s
              status: status
              running: [queued, running]
              done: [completed]
              failed: [failed, expired]
              url: file_url
              origins: ["https://*.example-storage.com"]
              delete: /reports/{job.id}
            records: $
            format: {type: csv}
            primary_keys: [day, campaign]
            replication: {key: day, start: 90d, window: 7d, granularity: 1d}
    """,
    "replication": "replication: {key: updated_at, order: ascending, param: since, format: epoch_s, lookback: 1h}",
    "day": "day: {field: created_at, tz: Europe/Berlin}",
}
