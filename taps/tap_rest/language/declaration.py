"""A declaration as a whole: read from its file, checked, and bound to settings.

load(path) -> Declaration              all that can be known without settings; discovery needs no more
declaration.bind(settings) -> Bound    `{settings.x}` and `{api_version}` filled in, ready to fetch
bound.streams[name].request(start=…)   the first request of a unit, before `paginator.first`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tap_rest.auth.auth import Auth, NoAuth
from tap_rest.auth.signing import SLOTS as SIGNED_SLOTS
from tap_rest.errors import DeclarationError
from tap_rest.language.binding import Bound, BoundStream, bound_auth, bound_streams, check_request, checked_url, filled
from tap_rest.language.checks import each_mistakes, template_mistakes
from tap_rest.language.references import schema_at
from tap_rest.language.vocabulary import COMMON_SETTINGS, Check, Defaults, Name, Setting, Stream
from tap_rest.language.yaml_source import KeyPath, Mistake, Source, mistakes, read
from tap_rest.limits.limits import Limit

__all__ = ["Bound", "BoundStream", "Declaration", "Stream", "load"]


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

        Raises ConfigError where a setting or a value that is needed is missing, or one is of the wrong kind.
        """
        values = {"api_version": self.api_version}
        for name, setting in self.settings.items():
            if (text := setting.text(name, settings.get(name))) is not None:
                values[f"settings.{name}"] = text
        hidden = {f"settings.{name}" for name, setting in self.settings.items() if setting.sensitive}
        shown = {name: text for name, text in values.items() if name not in hidden}
        base_url = checked_url(filled(self.base_url, shown, "base_url"))
        signed = {slot: f"{{{slot}}}" for slot in SIGNED_SLOTS}  # put in when a request is signed
        auth = bound_auth(self.auth, {**signed, **values})
        secrets = {*auth.secrets(), *(text for name, text in values.items() if name in hidden)}
        return Bound(
            name=self.name,
            base_url=base_url,
            auth=auth,
            limits=tuple(self.limits),
            streams=bound_streams(self.streams, base_url, shown),
            check=None if self.check is None else check_request(self.check, base_url, shown),
            timeouts=self.timeouts,
            secrets=tuple(sorted(secrets - {""})),
        )


def load(path: str | Path) -> Declaration:
    """Reads and checks a declaration file. Raises DeclarationError with every mistake in it, each with its line."""
    source = read(Path(path))
    found = [*_schema_mistakes(source, Path(path).parent), *_file_mistakes(source)]
    if found:
        raise source.error(found)
    return msgspec.convert(_merged(source.data), Declaration)


def _schema_mistakes(source: Source, folder: Path) -> Iterator[Mistake]:
    """Puts the schemas in that stand in files of their own."""
    streams = source.data.get("streams") if isinstance(source.data, dict) else None
    for name, stream in streams.items() if isinstance(streams, dict) else ():
        if isinstance(stream, dict) and isinstance(reference := stream.get("schema"), str):
            try:
                stream["schema"] = schema_at(reference, folder)
            except DeclarationError as error:
                yield Mistake(("streams", name, "schema"), str(error))


def _file_mistakes(source: Source) -> Iterator[Mistake]:
    data = source.data
    if not isinstance(data, dict):
        yield Mistake((), "a declaration is a mapping with `name`, `base_url` and `streams`")
        return
    streams = data.get("streams")
    if not isinstance(streams, dict) or not streams:
        yield Mistake(("streams",), "`streams` must be a mapping with at least one stream")
        streams = {}
    shared = mistakes(_spelled_out({**data, "streams": {}}), Declaration)
    answered = {found.path[:1] for found in shared}
    yield from shared
    yield from template_mistakes(data, data)
    merged = _merged({**data, "streams": streams})["streams"]
    yield from each_mistakes(data, merged)
    for name, stream in merged.items():
        where: KeyPath = ("streams", name)
        yield from mistakes(name, Name, where)
        if not isinstance(stream, dict):
            yield Mistake(where, "a stream must be a mapping")
            continue
        for found in mistakes(stream, Stream, where):
            if found.path in source.lines or found.path[2:3] not in answered:  # else it is taken over as it stands
                yield found


def _merged(data: dict[str, Any]) -> dict[str, Any]:
    """The data with the API's defaults merged into each stream, key by key; a stream's own error rules come first."""
    data = _spelled_out(data)
    shared = {field.name: data[field.name] for field in msgspec.structs.fields(Defaults) if field.name in data}
    streams = {name: _joined(shared, _spelled_out(own)) for name, own in data["streams"].items()}
    for name, own in data["streams"].items():
        rules = [part["errors"] for part in (own, shared) if isinstance(part, dict) and "errors" in part]
        if len(rules) > 1 and all(isinstance(rule, list) for rule in rules):
            streams[name] = {**streams[name], "errors": [*rules[0], *rules[1]]}
    return {**data, "streams": streams}


def _joined(shared: Any, own: Any) -> Any:
    if not (isinstance(shared, dict) and isinstance(own, dict)):
        return own
    if own.get("type", shared.get("type")) != shared.get("type"):
        return own
    return shared | {name: _joined(shared.get(name), value) for name, value in own.items()}


def _spelled_out(part: Any) -> Any:
    """`records: data.items` and `records: $` in their long form."""
    if not isinstance(part, dict) or not isinstance(path := part.get("records"), str):
        return part
    return {**part, "records": {"type": "root"} if path == "$" else {"type": "path", "path": path}}
