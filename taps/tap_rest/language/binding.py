"""A declaration with its settings put in: what the engine reads, and the first request of each unit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from tap_rest.auth.auth import Auth
from tap_rest.errors import ConfigError
from tap_rest.language.replication import formatted, slots, substitute
from tap_rest.language.vocabulary import Check, Param, Stream, Timeouts
from tap_rest.limits.limits import Limit
from tap_rest.request import Request, origin

ENGINE_SLOTS = ("bookmark", "until")
"""What the engine puts in, for each unit; the rest is put in once."""

TEMPLATES = ("path", "params", "headers", "body")
"""The parts of a stream in which it does."""

VERBATIM = ("name", "api_version", "docs", "settings", "schema", "description", "errors", "limits")
"""The parts in which nothing is put in, braces are just braces."""


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """A declaration with its settings put in.

    Attributes:
        name: Of the tap.
        base_url: Without a slash at the end.
        auth: Signs requests.
        limits: For the Limiter.
        streams: By name, as declared.
        check: One cheap request that proves the credentials.
        timeouts: For the check; streams have their own.
        secrets: Values of sensitive settings and of auth, for the Redactor.
    """

    name: str
    base_url: str
    auth: Auth
    limits: tuple[Limit, ...]
    streams: Mapping[str, BoundStream]
    check: Request | None
    timeouts: Timeouts
    secrets: tuple[str, ...]


class BoundStream(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine needs to fetch one stream.

    Attributes:
        name: Of the stream.
        declared: Paginator, records, errors, timeouts, keys … with settings put in; its path, params, headers and
            body are still templates.
        base_url: Without a slash at the end.
        values: What `{settings.x}` and `{api_version}` stand for; no secrets.
        include: Members to splice into records (see records.include), as JSON text.
        fingerprint: 16 hex digits that change when something else is asked for; base_url does not count.
    """

    name: str
    declared: Stream
    base_url: str
    values: Mapping[str, str]
    include: Mapping[str, bytes]
    fingerprint: str

    def request(self, *, start: str | None = None, until: str | None = None) -> Request:
        """The first request of a unit, before `paginator.first`.

        Args:
            start: The bookmark or start date to read from, lookback already taken off; None for everything.
            until: The end, exclusive; None for open-ended.

        Raises:
            ConfigError: The path, a header or the body needs a start or end that is not there, or it is not a time.
        """
        stream = self.declared
        given = {name: value for name, value in (("bookmark", start), ("until", until)) if value is not None}
        values = {**self.values, **given}
        where = f"streams.{self.name}"
        absent = {slot for slot in ENGINE_SLOTS if slot not in given}
        wanted = {
            name: value
            for name, value in stream.params.items()
            if not any(slot in absent for text in texts(value) for slot, _ in slots(text))
        }
        headers = [pair for pair in filled(stream.headers, values, f"{where}.headers").items() if pair[1] is not None]
        if stream.format.accept and "accept" not in {name.lower() for name, _ in headers}:
            headers.append(("Accept", stream.format.accept))
        body = filled(stream.body, values, f"{where}.body")
        if body is not None and "content-type" not in {name.lower() for name, _ in headers}:
            headers.append(("Content-Type", "application/json"))
        request = Request(
            url=self.base_url + filled(stream.path, values, f"{where}.path", escape=_in_path),
            method=stream.method,
            params=tuple(_pairs(filled(wanted, values, f"{where}.params"))),
            headers=tuple(headers),
            body="" if body is None else json.dumps(body, ensure_ascii=False, separators=(",", ":")),
        )
        if (replication := stream.replication) is not None:
            for param, value in ((replication.param, start), (replication.until_param, until)):
                if param is not None and value is not None:
                    request = request.with_params(**{param: formatted(value, replication.format)})
        return request


def bound_stream(name: str, stream: Stream, base_url: str, values: Mapping[str, str]) -> BoundStream:
    """Puts values in. Raises ConfigError where one that is needed is not there."""
    where = f"streams.{name}"
    whole: dict[str, Any] = msgspec.to_builtins(stream)
    asked = {part: whole.pop(part) for part in TEMPLATES if part in whole}
    used = sorted({slot for text in texts(asked) for slot, _ in slots(text)} - set(ENGINE_SLOTS))
    if missing := [slot for slot in used if slot not in values]:
        raise _no_value(missing[0], where)
    put_in = {**values, "cursor": "{cursor}"}  # the paginator's own, in next_path
    for part in whole.keys() - set(VERBATIM):
        whole[part] = filled(whole[part], put_in, f"{where}.{part}")
    declared: Stream = converted({**whole, **asked}, Stream, where)
    facts = {
        part: value for part, value in whole.items() if part not in ("schema", "description", "day", "mode", "volatile")
    }
    print_of = json.dumps([name, facts, asked, [(slot, values[slot]) for slot in used]], sort_keys=True)
    return BoundStream(
        name=name,
        declared=declared,
        base_url=base_url,
        values=values,
        include={member: json.dumps(text, ensure_ascii=False).encode() for member, text in declared.include.items()},
        fingerprint=hashlib.sha256(print_of.encode()).hexdigest()[:16],
    )


def check_request(check: Check, base_url: str, values: Mapping[str, str]) -> Request:
    path = filled(check.path, values, "check.path", escape=_in_path)
    return Request(url=base_url + path, params=tuple(_pairs(filled(check.params, values, "check.params"))))


def checked_url(text: str) -> str:
    """A base URL without its last slash. Raises ConfigError unless it is http(s), with a host and no password."""
    try:
        origin(text)
    except ValueError:
        raise ConfigError(f"base_url is not an http(s) address: {text!r}") from None
    if "@" in urlsplit(text).netloc:
        raise ConfigError("base_url holds a user name or password", hint="use `auth: {type: basic, …}`")
    return text.rstrip("/")


def filled(part: Any, values: Mapping[str, str], where: str, *, escape: Callable[[str], str] = str) -> Any:
    """A part of a declaration with values put into each text in it. Raises ConfigError for one that has no value."""
    if isinstance(part, str):
        try:
            return substitute(part, values, escape)
        except KeyError as error:
            raise _no_value(str(error.args[0]), where) from None
    if isinstance(part, Mapping):
        return {key: filled(value, values, where, escape=escape) for key, value in part.items()}
    if isinstance(part, list):
        return [filled(value, values, where, escape=escape) for value in part]
    return part


def texts(part: Any) -> Iterator[str]:
    """Every text in a part of a declaration."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, Mapping | list):
        for value in part.values() if isinstance(part, Mapping) else part:
            yield from texts(value)


def converted(part: Any, kind: Any, where: str) -> Any:
    try:
        return msgspec.convert(part, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"a setting makes {where} impossible: {error}") from None


def _no_value(slot: str, where: str) -> ConfigError:
    hint = "it begins with a start date" if slot in ENGINE_SLOTS else ""
    return ConfigError(f"`{slot.removeprefix('settings.')}` has no value, but {where} needs it", hint=hint)


def _in_path(value: str) -> str:
    return quote(value, safe="/@:,;=+$!*'()~")


def _pairs(params: Mapping[str, Param]) -> Iterator[tuple[str, str]]:
    for name, value in params.items():
        for item in value if isinstance(value, list) else [value]:
            if item is not None:
                yield name, str(item).lower() if isinstance(item, bool) else str(item)
