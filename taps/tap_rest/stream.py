"""A declared stream as singer-sdk sees it, and the SDK lane: records one by one through stream maps and selection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import singer_sdk
from singer_sdk import Tap
from singer_sdk.singerlib.encoding.simple import Message, SimpleSingerWriter
from singer_sdk.singerlib.json import deserialize_json

from tap_rest.engine.messages import Output
from tap_rest.language.declaration import BoundStream, Stream


class DeclaredStream(singer_sdk.Stream):
    """One stream of a declaration.

    Args:
        tap: Its tap.
        name: Its name there.
        declared: What the declaration says of it.
        records: Gives its records from the bookmark on.
    """

    def __init__(self, tap: Tap, name: str, declared: Stream, records: Callable[[], Iterator[bytes]]) -> None:
        self._records = records
        super().__init__(tap, schema=declared.json_schema(), name=name)
        self.primary_keys = declared.primary_keys
        self.replication_key = declared.replication.key if declared.replication else None

    def get_records(self, context: Mapping[str, Any] | None) -> Iterable[dict[str, Any]]:  # noqa: ARG002 - no partitions
        """Records as the SDK wants them: decoded, from the bookmark on. For `singer_sdk.testing` and other callers."""
        for record in self._records():
            yield deserialize_json(record)


def is_whole(stream: singer_sdk.Stream) -> bool:
    """Whether all properties are selected."""
    return all(selected for breadcrumb, selected in stream.mask.items() if breadcrumb)


class SDKLane:
    """Feeds the engine's records to the SDK's per-record path: slower by far, and it rewrites values."""

    def __init__(self, tap: Tap, output: Output) -> None:
        self._streams = tap.streams
        self._output = output
        tap.message_writer = _OutputWriter(output)

    def begin(self, stream: BoundStream) -> None:
        self._streams[stream.name]._write_schema_message()  # noqa: SLF001 - the SDK names no other way

    def page(self, stream: BoundStream, records: Sequence[bytes], _extracted: float, state: bytes) -> None:
        write = self._streams[stream.name]._write_record_message  # noqa: SLF001 - the SDK names no other way
        for record in records:
            write(deserialize_json(bytes(record)))
        self._output.write(state)


class _OutputWriter(SimpleSingerWriter):
    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def write_message(self, message: Message) -> None:
        self._output.write(self.format_message(message).encode() + b"\n")
