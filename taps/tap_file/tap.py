"""`tap-file`: export files (takeouts) into the streams that an API's tap has, so that one archive can hold both.

The adapter to singer-sdk: the entries of the config become a declaration, whose streams go through the usual lanes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import click
import msgspec
from singer_sdk.plugin_base import _ConfigInput

from tap_file.files import Export
from tap_file.run import Run
from tap_rest.command import reported
from tap_rest.engine.messages import Lane, RawLane, singer_output
from tap_rest.engine.signals import Waiter
from tap_rest.errors import ConfigError
from tap_rest.language.declaration import BoundStream, Declaration, Stream
from tap_rest.language.replication import Replication
from tap_rest.language.yaml_source import did_you_mean, dotted, mistakes, read
from tap_rest.stream import SDKLane
from tap_rest.tap import DeclaredTap, declared_tap

FACTS = ("primary_keys", "day", "mode")  # an entry can say them of its stream
OF_THE_API = ("replication", "volatile", "schema")  # the declaration alone does
NOT_OURS = ("explain", "har", "authorize", "schema")  # options that have to do with requests
FILES = "What to read, a list: the path of files, their stream, and what they are like"
DECLARATION = "The API's declaration, a path or a packaged name; it knows the streams' keys and days"
SETTINGS = {
    "files": {"type": "array", "items": {"type": "object"}, "minItems": 1, "description": FILES},
    "declaration": {"type": ["string", "null"], "description": DECLARATION},
}


class FileTap(DeclaredTap):
    """Reads export files (takeouts), raw, into the streams of an API."""

    name = "tap-file"
    config_jsonschema: ClassVar[dict[str, Any]] = {"type": "object", "properties": SETTINGS, "required": ["files"]}

    @cached_property
    def exports(self) -> list[Export]:
        """The entries of the config. Raises ConfigError with every mistake in them."""
        files = self.config["files"]
        if found := mistakes(files, list[Export], ("files",)):
            said = "; ".join(f"{one.problem} at {dotted(one.path)}" for one in found)
            raise ConfigError(said, where="config", hint=found[0].hint)
        return msgspec.convert(files, list[Export])

    @cached_property
    def declaration(self) -> Declaration:  # type: ignore[override]  # of this tap, not of its class
        source = self.config.get("declaration")
        api = declared_tap(source).declaration if source else None
        names = dict.fromkeys(export.stream for export in self.exports)
        streams = {name: _stream(name, api, self.exports) for name in names}
        return Declaration(name=self.name, base_url="", streams=streams)

    def records(self, stream: str) -> Iterator[bytes]:
        """All records of a stream, written nowhere."""
        own = [export for export in self.exports if export.stream == stream]
        return (one for export in own for file in export.files() for found in export.slices(file.path) for one in found)

    def sync_all(self) -> None:  # type: ignore[misc]  # as that of every declared tap
        """Reads what is new. Raises TapError, Interrupted or BrokenPipeError when the run is not complete."""
        declared = self.declaration.streams
        streams = {
            name: BoundStream(name=name, declared=declared[name], base_url="", values={}, fingerprint="")
            for name in self.chosen
        }
        with singer_output() as output, closing(Waiter(output.fd)) as clock, clock.catching():
            lane: Lane = SDKLane(self, output) if self.wants_sdk_lane else RawLane(output)
            if self._limit is None:
                Run(self._given, lane, output, clock).read(streams, self.exports)
                return
            for name, bound in streams.items():
                lane.begin(bound)
                lane.page(bound, list(islice(self.records(name), self._limit)), clock.now(), b"")

    def try_out(self) -> None:
        """Writes the schema and the first record of each selected stream."""
        self._limit = 1
        self.sync_all()

    @classmethod
    def get_singer_command(cls) -> click.Command:
        command = super().get_singer_command()
        command.params = [param for param in command.params if param.name not in NOT_OURS]
        return command

    @classmethod
    def cb_config(cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]) -> _ConfigInput:
        """Takes YAML as well."""
        yaml = {text for text in value if text.endswith((".yaml", ".yml")) and Path(text).is_file()}
        texts = tuple(json.dumps(read(Path(text)).data) if text in yaml else text for text in value)
        return super().cb_config(ctx, param, texts)


def _stream(name: str, api: Declaration | None, exports: Sequence[Export]) -> Stream:
    """A stream as its API has it and its files say. Raises ConfigError where two entries differ, or nobody knows it."""
    own = [export for export in exports if export.stream == name]
    known = api.streams.get(name) if api else None
    facts: dict[str, Any] = {fact: getattr(known, fact) for fact in (*FACTS, *OF_THE_API)} if known else {}
    for fact in FACTS:
        said = [value for export in own if (value := getattr(export, fact)) is not None]
        if any(value != said[0] for value in said):
            raise ConfigError(f"two entries of the stream {name} differ in `{fact}`", where="config")
        if said:
            facts[fact] = said[0]
    if api and not known and not facts.get("primary_keys"):
        hint = f"{did_you_mean(name, api.streams)}; one of its own needs `primary_keys`"
        raise ConfigError(f"{api.name} has no stream {name!r}", where="config", hint=hint)
    if not known and (day := facts.get("day")):
        facts["replication"] = Replication(key=day.field)  # a claim is from one day to another
    shown = max(own, key=lambda export: export.format.composes or export.selector.composes)
    return Stream(path="/", format=shown.format, records=shown.selector, **facts)


def main() -> None:
    """The console script `tap-file`."""
    with reported(FileTap.name):
        FileTap.cli()
