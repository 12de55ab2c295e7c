"""A declaration with its settings put in: what the engine reads, and the first request of each unit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from tap_rest.auth.auth import Auth, PoolAuth
from tap_rest.errors import ConfigError
from tap_rest.language.jobs import Errand
from tap_rest.language.partitions import WHOLE, Partition
from tap_rest.language.replication import duration, formatted, slots, substitute
from tap_rest.language.vocabulary import Check, Param, Stream, Timeouts
from tap_rest.limits.limits import Limit
from tap_rest.request import Request, origin

ENGINE_SLOTS = ("bookmark", "until")
"""What the engine puts in, for each unit; the rest is put in once."""

TEMPLATES = ("path", "params", "headers", "body")
"""The parts of a stream in which it does."""

JOB_TEMPLATES = ("poll", "result", "delete")
JOB_SLOT = "job.id"
"""What it puts into these paths of a `job`, once the API has given it."""

VERBATIM = ("name", "api_version", "docs", "settings", "schema", "description", "errors", "limits")
"""The parts in which nothing is put in, braces are just braces."""

_NOT_ASKED = ("schema", "description", "day", "mode", "volatile")
"""The parts that change nothing in what is asked for."""


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """A declaration with its settings put in.

    Attributes:
        base_url: Without a slash at the end.
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
        declared: Paginator, records, errors, timeouts, keys … with settings put in; its path, params, headers and
            body are still templates.
        base_url: Without a slash at the end.
        values: What `{settings.x}` and `{api_version}` stand for; no secrets.
        wanted: What its partitions must have values for: `repo.full_name`.
        asked: Those of them that requests ask with.
        fingerprint: 16 hex digits that change when something else is asked for; base_url does not count.
    """

    name: str
    declared: Stream
    base_url: str
    values: Mapping[str, str]
    wanted: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    fingerprint: str

    @property
    def needs_end(self) -> bool:
        """Whether a template asks for the end."""
        stream = self.declared
        return "until" in asked_for((stream.path, stream.params, stream.headers, stream.body))

    @property
    def ends(self) -> bool:
        """Whether the API can be asked for an end."""
        replication = self.declared.replication
        return self.needs_end or (replication is not None and replication.until_param is not None)

    def include(self, partition: Partition = WHOLE) -> dict[str, bytes]:
        """Members to splice into the records of a partition (see fields.include), as JSON text."""
        values = {**self.values, **partition.texts}
        found = {}
        for member, text in self.declared.include.items():
            alone = partition.values.get(text[1:-1]) if not partition.members else None
            whole = substitute(text, values) if alone is None else alone
            found[member] = json.dumps(whole, ensure_ascii=False).encode()
        return found

    def request(self, *, start: str | None = None, until: str | None = None, partition: Partition = WHOLE) -> Request:
        """The first request of a unit, before `paginator.first`.

        It reads from `start`, a bookmark or date with lookback already taken off, to `until`, exclusive; None is open.
        Raises ConfigError where the path, a header or the body needs one that is not there, or that is not a time.
        """
        stream = self.declared
        replication = stream.replication
        timed = replication is not None and replication.format != "text"
        if replication is not None and until is not None and duration(replication.granularity):
            until = replication.before(until)
        if replication is not None and timed and start is not None and not replication.inclusive:
            start = replication.before(start)
        given = {name: value for name, value in (("bookmark", start), ("until", until)) if value is not None}
        values = {**self.values, **partition.texts, **given}
        where = f"streams.{self.name}"
        absent = set(ENGINE_SLOTS) - given.keys()
        wanted = {name: value for name, value in stream.params.items() if not absent & asked_for(value)}
        headers = filled(stream.headers, values, f"{where}.headers")
        body = filled(stream.body, values, f"{where}.body")
        request = Request(
            url=self.base_url + filled(stream.path, values, f"{where}.path", escape=_in_path),
            method=stream.method,
            params=tuple(_pairs(filled(wanted, values, f"{where}.params"), stream.lists)),
            headers=tuple((name, value) for name, value in headers.items() if value is not None),
        )
        if body is not None:
            kind, text = "application/json", json.dumps(body, ensure_ascii=False, separators=(",", ":"))
            if stream.body_as == "form":
                kind, text = "application/x-www-form-urlencoded", urlencode(list(_pairs(body)))
            request = _with_default(msgspec.structs.replace(request, body=text), "Content-Type", kind)
        if replication is not None:
            for param, value in ((replication.param, start), (replication.until_param, until)):
                if param is not None and value is not None:
                    request = request.with_params(**{param: formatted(value, replication.format, replication.timezone)})
        return request if stream.job is not None else self.accepting(request)

    def errand(self, order: Request, errand: Errand, partition: Partition) -> Request:
        """What to ask about the job that a request has ordered: how far it is, its result, or that it be deleted."""
        job = self.declared.job
        if job is None or errand.phase == "submit":
            return order
        values = {**self.values, **partition.texts, "job.id": errand.id}
        where = f"streams.{self.name}.job"
        template = {"poll": job.poll, "page": job.result, "clean_up": job.delete}[errand.phase] or ""
        path, mark, query = template.partition("?")
        path = filled(path, values, where, escape=_in_path)
        url = self.base_url + path + mark + filled(query, values, where, escape=partial(quote, safe=""))
        method = "DELETE" if errand.phase == "clean_up" else "GET"
        request = msgspec.structs.replace(order, url=url, method=method, params=(), body="")
        request = request.with_headers({"Content-Type": None})
        return self.accepting(request) if errand.phase == "page" else request

    def accepting(self, request: Request) -> Request:
        """The request for records, in their format where it has no Accept header of its own."""
        accept = self.declared.format.accept
        return _with_default(request, "Accept", accept) if accept else request


def bound_streams(streams: Mapping[str, Stream], base_url: str, values: Mapping[str, str]) -> dict[str, BoundStream]:
    """Puts values in. A parent's partitions also have the values that its children take over from them."""
    found = {name: _bound_stream(name, stream, base_url, values) for name, stream in streams.items()}
    for _ in found:  # as deep as parents can be stacked
        for child in found.values():
            each = child.declared.for_each
            if each is not None and each.stream is not None and (parent := found[each.stream]).declared.for_each:
                above = {slot for slot in child.wanted if not slot.startswith(f"{each.name}.")}
                wanted = tuple(sorted({*parent.wanted, *above}))
                found[parent.name] = msgspec.structs.replace(parent, wanted=wanted)
    return found


def _bound_stream(name: str, stream: Stream, base_url: str, values: Mapping[str, str]) -> BoundStream:
    """Puts values in. Raises ConfigError where one that is needed is not there."""
    where = f"streams.{name}"
    whole: dict[str, Any] = msgspec.to_builtins(stream)
    asked = {part: whole.pop(part) for part in TEMPLATES if part in whole}
    if (job := whole.get("job")) is not None:
        asked["job"] = {part: job.pop(part) for part in JOB_TEMPLATES if part in job}
    sent = asked_for(asked)
    asked["include"] = whole.pop("include", {})
    used = asked_for(asked) - {*ENGINE_SLOTS, JOB_SLOT}
    wanted = tuple(sorted(slot for slot in used if slot not in values and stream.for_each is not None))
    if missing := sorted(used - values.keys() - set(wanted)):
        raise _no_value(missing[0], where)
    put_in = {**values, "cursor": "{cursor}"}  # the paginator's own, in next_path
    for part in whole.keys() - set(VERBATIM):
        whole[part] = filled(whole[part], put_in, f"{where}.{part}")
    both = {} if job is None else {"job": whole["job"] | asked["job"]}
    declared: Stream = converted({**whole, **asked, **both}, Stream, where)
    facts = {part: value for part, value in whole.items() if part not in _NOT_ASKED}
    known = [(slot, values[slot]) for slot in sorted(used) if slot in values]
    if stream.for_each is not None and (slot := f"settings.{stream.for_each.setting}") in values:
        known.append((slot, values[slot]))
    print_of = json.dumps([name, facts, asked, known], sort_keys=True)
    return BoundStream(
        name=name,
        declared=declared,
        base_url=base_url,
        values=values,
        wanted=wanted,
        asked=tuple(slot for slot in wanted if slot in sent),
        fingerprint=hashlib.sha256(print_of.encode()).hexdigest()[:16],
    )


def bound_auth(auth: Auth, values: Mapping[str, str]) -> Auth:
    """Puts values in. A pool gets a member for each of the values, separated by commas, that its settings have."""
    whole = msgspec.to_builtins(auth)
    if isinstance(auth, PoolAuth) and not isinstance(auth.of, list):
        used = asked_for(whole["of"]) & values.keys()
        several = {slot: [value.strip() for value in values[slot].split(",") if value.strip()] for slot in used}
        count = max(map(len, several.values()), default=1)
        if odd := sorted(slot.removeprefix("settings.") for slot in used if len(several[slot]) not in (1, count)):
            raise ConfigError(f"`{odd[0]}` has not as many values as another setting of the pool")
        each = [{slot: found[number % len(found)] for slot, found in several.items()} for number in range(count)]
        whole["of"] = [filled(whole["of"], {**values, **one}, "auth") for one in each]
    else:
        whole = filled(whole, values, "auth")
    bound: Auth = converted(whole, Auth, "auth")
    return bound


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


def asked_for(part: Any) -> set[str]:
    """What all the texts in a part of a declaration ask for."""
    if isinstance(part, str):
        return {slot for slot, _ in slots(part)}
    inner = part.values() if isinstance(part, Mapping) else part if isinstance(part, list | tuple) else ()
    return {slot for value in inner for slot in asked_for(value)}


def converted(part: Any, kind: Any, where: str) -> Any:
    try:
        return msgspec.convert(part, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"a setting makes {where} impossible: {error}") from None


def _no_value(slot: str, where: str) -> ConfigError:
    hint = "it begins with a start date" if slot in ENGINE_SLOTS else ""
    return ConfigError(f"`{slot.removeprefix('settings.')}` has no value, but {where} needs it", hint=hint)


def _with_default(request: Request, header: str, value: str) -> Request:
    own = header.lower() in {name.lower() for name, _ in request.headers}
    return request if own else request.with_headers({header: value})


def _in_path(value: str) -> str:
    if {".", ".."} & set(value.split("/")):
        raise ConfigError(f"{value!r} can't be put into a path")
    return quote(value, safe="/@:,;=+$!*'()~")


def _pairs(params: Mapping[str, Param], lists: str = "repeat") -> Iterator[tuple[str, str]]:
    for name, value in params.items():
        items = [_text(item) for item in (value if isinstance(value, list) else [value]) if item is not None]
        if isinstance(value, list) and lists == "comma":
            items = [",".join(items)] if items else []
        for item in items:
            yield f"{name}[]" if isinstance(value, list) and lists == "brackets" else name, item


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
