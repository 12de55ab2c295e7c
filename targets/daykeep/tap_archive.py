"""`tap-archive`: a Singer tap that replays an archive into any other target, each record the bytes that are archived.

The adapter to singer-sdk, which gives the command line, config and catalog; what is sent comes from the commit log. A
day that later commits have touched is sent again, whole; a STATE follows each day, or, of all versions, each commit.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import cache, cached_property, lru_cache, partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, ClassVar

import click
import msgspec
import singer_sdk
from singer_sdk import Tap
from singer_sdk.helpers.capabilities import CapabilitiesEnum, PluginCapabilities, TapCapabilities
from singer_sdk.plugin_base import JSONSchemaValidator, _ConfigInput

from daykeep.root import Root, find_root, unknown
from target_archive import layout
from target_archive.archive import Archive
from target_archive.commit import StreamFacts
from target_archive.errors import ArchiveError, BadSettings
from target_archive.reading import read_commits

_DAYS_IN_MEMORY = 16
_TEXT = ["string", "null"]
_START = "The first day to replay, 2024-05-01 or longer; with a first or last day, undated records stay out"
_AS_OF = "Replay what was archived until then: a day (its end, UTC), a time, or the number of a commit"
_ALL = "`head`, the records of each day as they stand, or `all` lines in the order of their commits"
_NAMES = {"type": ["array", "null"], "items": {"type": "string"}}
SETTINGS: dict[str, dict[str, Any]] = {
    "root": {"type": "string", "description": "The archive: a folder, or the URL of an object store"},
    "source": {"type": _TEXT, "description": "Which source of the archive, where there are several"},
    "streams": {**_NAMES, "description": "Names of the streams to replay; all of them without it"},
    "start_date": {"type": _TEXT, "description": _START},
    "end_date": {"type": _TEXT, "description": "The last day to replay"},
    "as_of": {"type": ["string", "integer", "null"], "description": _AS_OF},
    "versions": {"enum": ["head", "all", None], "default": "head", "description": _ALL},
}

Row = tuple[bytes, str]
"""A record, and when it was committed."""


class Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stream's bookmark: how far it has been replayed.

    Attributes:
        commit: Everything up to this commit.
        to: Of a replay up to this commit that is under way, the days up to `day` were sent.
        page: The commit again, where no day will be sent a second time: what comes next is no repeat. An archive looks
            for this name to tell whether a record that it holds already can be one.
        of: What was asked for; an answer to something else is no beginning of this one.
    """

    commit: int = 0
    to: int = 0
    day: str = ""
    page: int = 0
    of: dict[str, Any] = {}


class ArchivedStream(singer_sdk.Stream):
    """A stream of the archive as singer-sdk sees it."""

    def __init__(self, tap: ArchiveTap, name: str, facts: StreamFacts) -> None:
        self._replayed = tap
        super().__init__(tap, schema=schema_of(facts), name=name)
        self.primary_keys = list(facts.key_properties)
        self.replication_key = None

    def get_records(self, context: Mapping[str, Any] | None) -> Iterable[dict[str, Any]]:  # noqa: ARG002 - no partitions
        """All records, decoded. For `singer_sdk.testing` and other callers."""
        for rows, _ in self._replayed.replay(self.name, Mark()):
            yield from (msgspec.json.decode(record) for record, _ in rows)


class ArchiveTap(Tap):
    """Replays an archive, raw."""

    name = "tap-archive"
    package_name = "daykeep"
    capabilities: ClassVar[list[CapabilitiesEnum]] = [
        PluginCapabilities.ABOUT,
        TapCapabilities.CATALOG,
        TapCapabilities.DISCOVER,
        TapCapabilities.STATE,
    ]
    config_jsonschema: ClassVar[dict[str, Any]] = {"type": "object", "properties": SETTINGS, "required": ["root"]}

    _given: dict[str, Any] = {}

    @cached_property
    def place(self) -> Root:
        return find_root(str(self.config["root"]))

    @cached_property
    def archive(self) -> Archive:
        """The source to replay. Raises BadSettings where it is not there, or several are and none is named."""
        names = self.place.chosen(self.config.get("source"))
        if len(names) > 1:
            raise BadSettings("the archive has several sources", hint=f"set `source`: {', '.join(names)}")
        return Archive(self.place.path, names[0])

    @cached_property
    def until(self) -> int:
        """The last commit to replay."""
        as_of = self.config.get("as_of")
        return self.archive.log.seq if as_of is None else self.archive.commit_at(str(as_of))

    @cached_property
    def facts(self) -> dict[str, StreamFacts]:
        """What was known of each stream after the last commit to replay, or of all versions, what is known now."""
        found = self.archive.log.streams
        if self.until < self.archive.log.seq and self.config.get("versions") != "all":
            found = {}
            for commit, _ in read_commits(self.place.storage, self.archive.log.source):
                if commit.seq > self.until:
                    break
                found |= commit.streams
        wanted = self.config.get("streams")
        for name in wanted or ():
            if name not in self.archive.streams():
                raise unknown("stream", name, self.archive.streams(), where=self.archive.source)
        chosen = found if wanted is None else {*wanted}
        return {name: found[name] for name in self.archive.streams() if name in found and name in chosen}

    @cached_property
    def asked(self) -> dict[str, Any]:
        wanted = {name: self.config.get(name) for name in ("start_date", "end_date", "versions")}
        return {"source": self.archive.source, **{name: value for name, value in wanted.items() if value is not None}}

    def discover_streams(self) -> Sequence[ArchivedStream]:
        return [ArchivedStream(self, name, facts) for name, facts in self.facts.items()]

    def load_state(self, state: dict[str, Any]) -> None:
        """Keeps STATE as it is."""
        self._given = state

    def sync_all(self) -> None:  # type: ignore[misc]  # final for the SDK's types; its data path rewrites records
        """Replays the selected streams. Raises ArchiveError, or BrokenPipeError when nobody reads."""
        bookmarks = dict(self._given.get("bookmarks", {}))
        marks = {name: self._mark(name, bookmarks.get(name)) for name in self.streams if self.streams[name].selected}
        write, flush = sys.stdout.buffer.write, sys.stdout.buffer.flush
        write(_line({"type": "STATE", "value": self._given or {"bookmarks": {}}}))  # where this run starts
        for stream, mark in marks.items():
            write(self._schema_line(stream))
            before = b'{"type":"RECORD","stream":' + msgspec.json.encode(stream) + b',"record":'
            for rows, reached in self.replay(stream, mark):
                for record, at in rows:
                    write(before + record + b',"time_extracted":"' + at.encode() + b'"}\n')
                bookmarks[stream] = msgspec.to_builtins(msgspec.structs.replace(reached, of=self.asked))
                write(_line({"type": "STATE", "value": {**self._given, "bookmarks": bookmarks}}))
                flush()

    def _mark(self, name: str, told: Any) -> Mark:
        """Where a stream goes on. Raises BadSettings for a bookmark that is not of this archive, or a cut record."""
        if not all(selected for breadcrumb, selected in self.streams[name].mask.items() if breadcrumb):
            hint = "select all of them"
            raise BadSettings("a property is deselected, and records are replayed whole", where=name, hint=hint)
        try:
            mark = Mark() if told is None else msgspec.convert(told, Mark)
        except msgspec.ValidationError as error:
            raise BadSettings(f"the STATE is not of this tap: {error}", where=name) from None
        known, last = max(mark.commit, mark.to), self.archive.log.seq
        if known > last:
            hint = "is it of another archive?"
            raise BadSettings(f"the STATE knows commit {known}, the last one here is {last}", where=name, hint=hint)
        return mark if mark.of == self.asked and known <= self.until else Mark()

    def _schema_line(self, stream: str) -> bytes:
        facts = self.facts[stream]
        message: dict[str, Any] = {"type": "SCHEMA", "stream": stream, "schema": schema_of(facts)}
        message["key_properties"] = facts.key_properties
        if facts.bookmark_properties:
            message["bookmark_properties"] = facts.bookmark_properties
        return _line(message)

    # --- what is sent -------------------------------------------------------------------------------------------------

    def replay(self, stream: str, mark: Mark) -> Iterator[tuple[list[Row], Mark]]:
        """What is to be sent from a bookmark on, in parts, and the bookmark after each."""
        return (self._all_versions if self.config.get("versions") == "all" else self._heads)(stream, mark)

    def _heads(self, stream: str, mark: Mark) -> Iterator[tuple[list[Row], Mark]]:
        while mark.commit < self.until:
            log, to = self.archive.log, mark.to or self.until  # what is under way is ended as it was begun
            every = {*self.archive.days(stream), layout.UNDATED}
            for day in sorted(self._changes(mark.commit, to)[stream] if mark.commit else every):
                held = log.lines_of(stream, day) > 0 or day in log.same.get(stream, {})
                if self._wanted(day) and held and day > mark.day:
                    mark = Mark(mark.commit, to, day)
                    yield self._head(stream, day, to), mark
            mark = Mark(to)
            yield [], mark

    def _head(self, stream: str, day: str, seq: int) -> list[Row]:
        """The records of a day as they stood after a commit, as `Archive.view` gives them, in its order."""
        log = self.archive.log
        held = log.day(stream, day)
        if self.config.get("as_of") is None:
            seq = held.pin or max(seq, held.lost)
        view, versions = self.archive.view(stream, day, as_of=seq), self.archive.versions(stream, day, as_of=seq)
        if not versions:  # the snapshot of an earlier day
            return [(record, log.times[log.same[stream][day][0] - 1]) for record in view]
        if not log.streams[stream].key_properties:
            return [(bytes(one.record), one.at) for one in versions if one.gone is None]
        times = {bytes(one.record): one.at for one in versions}
        return [(record, times[record]) for record in view]

    @cache  # noqa: B019 - a tap lives as long as its process
    def _changes(self, after: int, to: int) -> Mapping[str, set[str]]:
        """By stream, the days that commits have changed."""
        found = defaultdict[str, set[str]](set)
        for commit, _ in read_commits(self.place.storage, self.archive.log.source, after=after):
            if commit.seq > to:
                break
            for segment in commit.segments:
                found[segment.stream].add(segment.day)
            for file in commit.files if commit.kind == "repair" else ():
                found[file.stream].add(file.day)
            for changed in (commit.gone, commit.same, commit.pins):
                for stream, days in changed.items():
                    found[stream].update(days)
        return found

    def _all_versions(self, stream: str, mark: Mark) -> Iterator[tuple[list[Row], Mark]]:
        read = lru_cache(_DAYS_IN_MEMORY)(partial(self.archive.versions, stream, as_of=self.until))
        grown = list[tuple[int, str]]()
        for day, held in self.archive.log.held.get(stream, {}).items():
            if self._wanted(day):
                if self.until < held.lost:
                    read(day)  # tells that they are not known any longer
                grown += [(commit, day) for commit, _ in held.grown if commit <= self.until]
        for commit, found in groupby(sorted(grown), key=itemgetter(0)):
            if commit > mark.commit:
                rows = [(bytes(one.record), one.at) for _, day in found for one in read(day) if one.commit == commit]
                yield rows, Mark(commit, page=commit)
        yield [], Mark(self.until, page=self.until)

    def _wanted(self, day: str) -> bool:
        first, last = self._range
        return first <= day <= (last or day) if day != layout.UNDATED else not (first or last)

    @cached_property
    def _range(self) -> tuple[str, str]:
        found = []
        for name in ("start_date", "end_date"):
            text = str(self.config.get(name) or "")[:10]
            try:
                found.append(date.fromisoformat(text).isoformat() if text else "")
            except ValueError:
                raise BadSettings(f"`{name}` is not a day", where=text, hint="write it as 2024-05-01") from None
        return found[0], found[1]

    # --- what singer-sdk does otherwise -------------------------------------------------------------------------------

    def _setup_signal_handlers(self) -> None:
        """None: the SDK's handler would end a killed tap with status 0."""

    @classmethod
    def append_builtin_config(cls, config_jsonschema: dict[str, Any]) -> None:
        """Add none of the SDK's own settings: they concern records that it makes itself."""

    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        """Refuses unknown settings too."""
        problems = [error.message for error in JSONSchemaValidator(self.config_jsonschema).iter_errors(self._config)]
        for name in self._config.keys() - SETTINGS:
            near = difflib.get_close_matches(name, SETTINGS, 1)
            problems.append(f"unknown setting `{name}`" + (f", did you mean `{near[0]}`?" if near else ""))
        if problems and raise_errors:
            raise BadSettings("; ".join(problems), where="config", hint="--about lists the settings")
        return problems

    @classmethod
    def cb_config(cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]) -> _ConfigInput:  # noqa: ARG003
        """Takes a file, `ENV`, and also the JSON text itself."""
        config: dict[str, Any] = {}
        for text in value:
            if text != "ENV":
                config |= _object(text if text.lstrip().startswith("{") else Path(text).read_text(), "the config")
        return _ConfigInput(config=config, parse_env="ENV" in value)

    @classmethod
    def invoke(  # type: ignore[override]
        cls,
        *,
        config: _ConfigInput,
        about: bool = False,
        about_format: str | None = None,
        state: IO[str] | None = None,
        catalog: IO[str] | None = None,
    ) -> None:
        """Replays, or prints what this tap is."""
        if about:
            cls.print_about(about_format)
            return
        tap = cls(
            config=config.config,
            state=None if state is None else _object(state.read(), "the STATE"),
            catalog=None if catalog is None else _object(catalog.read(), "the catalog"),
            parse_env_config=config.parse_env,
        )
        try:
            tap.sync_all()
        except BrokenPipeError:  # click would end it without a word, and the interpreter try to flush the rest
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise ArchiveError("nobody reads the output any more, the target may have ended") from None


def schema_of(facts: StreamFacts) -> dict[str, Any]:
    """A stream's schema, with what the archive was told beside it about days and mode: a copy files as it does."""
    schema = {**facts.schema, "x-daykeep-mode": facts.mode}
    if facts.day_field:
        declared = schema.get("x-daykeep-day")
        declared = declared if isinstance(declared, dict) else {}
        schema["x-daykeep-day"] = {**declared, "field": facts.day_field, "tz": facts.timezone}
    return schema


def _line(message: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(message) + b"\n"


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise BadSettings(f"{what} is not JSON", hint=str(error)) from None
    if not isinstance(found, dict):
        raise BadSettings(f"{what} is not a JSON object")
    return found


def main() -> None:
    """The console script: whatever happens ends in an exit status and one clear line."""
    try:
        ArchiveTap.cli.main(standalone_mode=False)
    except ArchiveError as error:
        text, status = str(error), error.exit_status
    except click.ClickException as error:
        text, status = error.format_message(), 2
    except OSError as error:
        text, status = f"{error.strerror or type(error).__name__}: {error.filename or 'no file'}", 1
    except (KeyboardInterrupt, click.Abort):
        text, status = "interrupted", 130
    else:
        return
    sys.stderr.write(f"tap-archive: {text}\n")
    sys.exit(status)
