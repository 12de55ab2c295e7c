"""The face that `target-archive` shows to the Singer SDK: `--about` and the SDK's standard tests."""

from __future__ import annotations

import sys
from collections import Counter
from typing import IO, Any

import msgspec
from singer_sdk import Target
from singer_sdk.exceptions import RecordsWithoutSchemaException
from singer_sdk.helpers.capabilities import PluginCapabilities

from target_archive.archiver import Archiver
from target_archive.settings import Settings, parse
from target_archive.storage import storage_of
from target_archive.writer import new_run_id, open_writer


class TargetArchive(Target):
    """Archives a tap's records, raw, in a file per stream and day."""

    name = "target-archive"
    package_name = "daykeep"
    capabilities = [PluginCapabilities.ABOUT]
    config_jsonschema = next(iter(msgspec.json.schema(Settings)["$defs"].values()))

    @classmethod
    def append_builtin_config(cls, config_jsonschema: dict[str, Any]) -> None:
        """Add none of the SDK's own settings: they concern its sinks, which are not used."""

    def process_lines(self, file_input: IO[str] | None) -> Counter[str]:  # type: ignore[misc]  # final, and for SDK sinks
        """Archive a text stream through the same code as the command, without its signals and file descriptors."""
        settings = parse(dict(self.config))
        with open_writer(storage_of(settings.root), settings.source, run=new_run_id()) as writer:
            archiver = Archiver(writer, settings, lambda state: print(state.decode()))  # noqa: T201 - STATE goes to stdout
            archiver.take([line.encode() for line in file_input or sys.stdin])
            archiver.finish()
        for reason in archiver.problems:
            raise RecordsWithoutSchemaException(reason)
        return Counter({name: sink.received for name, sink in archiver.sinks.items()})

    def process_endofpipe(self) -> None:
        """Nothing is left to do: every line was committed and published when it had been read."""
