"""A declaration as a whole: read from its file, checked, and bound to settings.

load(path) -> Declaration              all that can be known without settings; discovery needs no more
declaration.bind(settings) -> Bound    `{settings.x}` and `{api_version}` filled in, ready to fetch
bound.streams[name].request(start=…)   the first request of a unit, before `paginator.first`
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec

from tap_rest.auth.auth import Auth, NoAuth
from tap_rest.auth.signing import SLOTS as SIGNED_SLOTS
from tap_rest.language.binding import (
    ENGINE_SLOTS,
    TEMPLATES,
    VERBATIM,
    Bound,
    BoundStream,
    bound_stream,
    check_request,
    checked_url,
    converted,
    filled,
)
from tap_rest.language.replication import SLOT, Format, slots
from tap_rest.language.vocabulary import COMMON_SETTINGS, Check, Defaults, Name, Setting, Stream
from tap_rest.language.yaml_source import KeyPath, Mistake, Source, did_you_mean, mistakes, read
from tap_rest.limits.limits import Limit

__all__ = ["Bound", "BoundStream", "Declaration", "Stream", "language_schema", "load"]


class Declaration(Defaults, frozen=True, kw_only=True):
    """A whole file.

    Attributes:
        name: Name of the tap.
        api_version: The version of the API this was written for, as text.
        docs: Where the API is described.
        settings: What a user may or must give.
        base_url: URL that all paths are below.
        auth: How requests are signed.
        limits: How many requests the API allows.
        check: One cheap request that proves the credentials.
        streams: What there is to fetch.
    """

    name: Name
    base_url: str
    streams: dict[Name, Stream]
    api_version: str = ""
    docs: str = ""
    settings: dict[Name, Setting] = msgspec.field(default_factory=dict)
    auth: Auth = NoAuth()
    limits: list[Limit] = msgspec.field(default_factory=list)
    check: Check | None = None

    def config_jsonschema(self) -> dict[str, Any]:
        """JSON Schema of the tap's config: the declared settings and those that all taps have."""
        settings = {**COMMON_SETTINGS, **self.settings}
        return {
            "type": "object",
            "properties": {name: setting.json_schema() for name, setting in settings.items()},
            "required": [name for name, setting in settings.items() if setting.required and setting.default is None],
        }

    def bind(self, settings: Mapping[str, Any]) -> Bound:
        """The declaration with settings put in; settings that it does not declare are left alone.

        Raises:
            ConfigError: A required setting is missing, a value is of the wrong kind, or one that is needed is not
            there.
        """
        values = {"api_version": self.api_version}
        for name, setting in self.settings.items():
            if (text := setting.text(name, settings.get(name))) is not None:
                values[f"settings.{name}"] = text
        hidden = {f"settings.{name}" for name, setting in self.settings.items() if setting.sensitive}
        shown = {name: text for name, text in values.items() if name not in hidden}
        base_url = checked_url(filled(self.base_url, shown, "base_url"))
        signed = {slot: f"{{{slot}}}" for slot in SIGNED_SLOTS}  # put in when a request is signed
        auth: Auth = converted(filled(msgspec.to_builtins(self.auth), {**signed, **values}, "auth"), Auth, "auth")
        secrets = {*auth.secrets(), *(text for name, text in values.items() if name in hidden)}
        return Bound(
            name=self.name,
            base_url=base_url,
            auth=auth,
            limits=tuple(self.limits),
            streams={name: bound_stream(name, stream, base_url, shown) for name, stream in self.streams.items()},
            check=None if self.check is None else check_request(self.check, base_url, shown),
            timeouts=self.timeouts,
            secrets=tuple(sorted(secrets - {""})),
        )


def load(path: str | Path) -> Declaration:
    """Reads and checks a declaration file. Raises DeclarationError with every mistake in it, each with its line."""
    source = read(Path(path))
    found = list(_file_mistakes(source))
    if found:
        raise source.error(found)
    return msgspec.convert(_merged(source.data), Declaration)


def language_schema() -> dict[str, Any]:
    """The JSON Schema of declaration files, for editors: made from the types and their docstrings."""
    _, parts = msgspec.json.schema_components([Declaration], ref_template="#/$defs/{name}")
    for kind in _structs(Declaration):
        part = parts[kind.__name__]
        part["description"] = " ".join((kind.__doc__ or "").partition("Attributes:")[0].split())
        for base in kind.__mro__:  # options that all paginators have are described once
            attributes = inspect.cleandoc(base.__doc__ or "").partition("Attributes:")[2]
            for name, text in re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", attributes, re.MULTILINE):
                part["properties"][_encoded(kind, name)].setdefault("description", " ".join(text.split()))
    partial = {
        "type": "object",
        "not": {"required": ["type"]},
    }  # a stream may change single options of the API's default
    for name in ("Declaration", "Stream"):
        parts[name]["properties"]["records"]["anyOf"] += [{"type": "string"}, partial]
        parts[name]["properties"]["paginator"]["anyOf"] += [partial]
        parts[name]["properties"]["format"]["anyOf"] += [partial]
    parts["Stream"]["required"] = ["path"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": "#/$defs/Declaration", "$defs": parts}


def _structs(kind: Any, seen: set[type[msgspec.Struct]] | None = None) -> set[type[msgspec.Struct]]:
    """Every struct type that a type leads to."""
    seen = set() if seen is None else seen
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if kind not in seen:
            seen.add(kind)
            for field in msgspec.structs.fields(kind):
                _structs(field.type, seen)
    else:
        for inner in get_args(kind):
            _structs(inner, seen)
    return seen


def _encoded(kind: type[msgspec.Struct], name: str) -> str:
    return next(field.encode_name for field in msgspec.structs.fields(kind) if field.name == name)


def _file_mistakes(source: Source) -> Iterator[Mistake]:
    data = source.data
    if not isinstance(data, dict):
        yield Mistake((), "a declaration is a mapping with `name`, `base_url` and `streams`")
        return
    streams = data.get("streams")
    if not isinstance(streams, dict) or not streams:
        yield Mistake(("streams",), "`streams` must be a mapping with at least one stream")
        streams = {}
    yield from mistakes(_spelled_out({**data, "streams": {}}), Declaration)
    yield from _template_mistakes(data, data)
    merged = _merged({**data, "streams": streams})["streams"]
    for name, stream in merged.items():
        where: KeyPath = ("streams", name)
        yield from mistakes(name, Name, where)
        if not isinstance(stream, dict):
            yield Mistake(where, "a stream must be a mapping")
            continue
        # What a stream takes over as it stands is answered where it is written.
        yield from (found for found in mistakes(stream, Stream, where) if found.path in source.lines)


def _template_mistakes(part: Any, data: dict[str, Any], path: KeyPath = ()) -> Iterator[Mistake]:
    """Substitutions that ask for what is not there, in all texts of a file that are substituted."""
    if isinstance(part, str):
        yield from _text_mistakes(part, data, path)
    elif isinstance(part, dict | list):
        for key, value in part.items() if isinstance(part, dict) else enumerate(part):
            inside = path[2:] if path[:1] == ("streams",) else path
            if inside or key not in VERBATIM:
                yield from _template_mistakes(value, data, (*path, key))


def _text_mistakes(text: str, data: dict[str, Any], path: KeyPath) -> Iterator[Mistake]:
    declared = data.get("settings") if isinstance(data.get("settings"), dict) else {}
    known = {f"settings.{name}" for name in declared or {}} | ({"api_version"} if data.get("api_version") else set())
    part = path[2] if len(path) > 2 and path[0] == "streams" else path[0] if path else ""
    known |= set(ENGINE_SLOTS) if part in TEMPLATES else set()
    known |= set(SIGNED_SLOTS) if path == ("auth", "message") else set()
    known |= {"cursor"} if path[-1:] == ("next_path",) else set()
    for slot, how in slots(text):
        if slot not in known:
            yield Mistake(path, f"`{{{slot}}}` is not there to put in", did_you_mean(slot, known))
        elif part != "auth" and _is_sensitive(declared, slot):
            yield Mistake(path, f"`{{{slot}}}` is sensitive and may be used in `auth` only")
        if how:
            yield from (Mistake(path, f"format {found.problem}", found.hint) for found in mistakes(how, Format))
    if re.search(r"[{}]", SLOT.sub("", text)):
        yield Mistake(path, "a brace that belongs to no substitution", "write `{settings.name}`, without spaces")


def _is_sensitive(declared: Any, slot: str) -> bool:
    setting = declared.get(slot.removeprefix("settings.")) if isinstance(declared, dict) else None
    return isinstance(setting, dict) and setting.get("sensitive") is True


def _merged(data: dict[str, Any]) -> dict[str, Any]:
    """The data with the API's defaults merged into each stream, key by key; a stream's own error rules come first."""
    data = _spelled_out(data)
    shared = {field.name: data[field.name] for field in msgspec.structs.fields(Defaults) if field.name in data}
    return {**data, "streams": {name: _joined(shared, _spelled_out(own)) for name, own in data["streams"].items()}}


def _joined(shared: Any, own: Any) -> Any:
    if (
        not isinstance(shared, dict)
        or not isinstance(own, dict)
        or own.get("type", shared.get("type")) != shared.get("type")
    ):
        return own
    both = {
        **shared,
        **{name: _joined(shared[name], value) if name in shared else value for name, value in own.items()},
    }
    if isinstance(own.get("errors"), list) and isinstance(shared.get("errors"), list):
        both["errors"] = [*own["errors"], *shared["errors"]]
    return both


def _spelled_out(part: Any) -> Any:
    """`records: data.items` and `records: $` in their long form."""
    if not isinstance(part, dict) or not isinstance(path := part.get("records"), str):
        return part
    return {**part, "records": {"type": "root"} if path == "$" else {"type": "path", "path": path}}
