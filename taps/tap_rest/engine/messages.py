"""Singer lines: how SCHEMA, RECORD and STATE are written, and the one writer of stdout.

The last step of the flow: record slices go out as they came in, with a constant text around them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from tap_rest.language.declaration import BoundStream

PIPE_SIZE = 1 << 20


def schema_line(stream: str, schema: Mapping[str, Any], keys: Sequence[str], bookmark: str | None) -> bytes:
    message = {"type": "SCHEMA", "stream": stream, "schema": schema, "key_properties": list(keys)}
    if bookmark is not None:
        message["bookmark_properties"] = [bookmark]
    return _line(message)


def state_line(value: Mapping[str, Any]) -> bytes:
    return _line({"type": "STATE", "value": value})


def record_lines(stream: str, records: Sequence[bytes], extracted: float, then: bytes = b"") -> bytes:
    """One line for each slice, the slice byte for byte, made in a single copy.

    Args:
        stream: Name of the stream.
        records: JSON objects without line breaks.
        extracted: When the page came, seconds since the epoch.
        then: Lines to follow.
    """
    if not records:
        return then
    before = b'{"type":"RECORD","stream":' + msgspec.json.encode(stream) + b',"record":'
    after = b',"time_extracted":"' + timestamp(extracted).encode() + b'"}\n'
    parts = [before + records[0], *records[1:]]
    parts[-1] = bytes(parts[-1]) + after + then
    return (after + before).join(parts)


def timestamp(seconds: float) -> str:
    """`2026-11-20T10:00:00.000000Z` for seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _line(message: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(message) + b"\n"


class Output:
    """Where Singer lines go; whole lines only, written at once, so that a signal can't cut one."""

    def __init__(self, fd: int | None) -> None:
        self.fd = fd

    def write(self, lines: bytes) -> None:
        """Raises BrokenPipeError when nobody reads any more."""
        if self.fd is None:
            sys.stdout.write(lines.decode())
            sys.stdout.flush()
            return
        rest = memoryview(lines)
        while rest:
            rest = rest[os.write(self.fd, rest) :]


class Lane(Protocol):
    """How records get out; a page's records are followed by the STATE that says where to go on."""

    def begin(self, stream: BoundStream) -> None: ...
    def page(self, stream: BoundStream, records: Sequence[bytes], extracted: float, state: bytes) -> None: ...


class RawLane:
    """Record slices as they came, a page and its STATE in one write."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def begin(self, stream: BoundStream) -> None:
        declared = stream.declared
        bookmark = None if declared.replication is None else declared.replication.key
        self._output.write(schema_line(stream.name, declared.json_schema(), declared.primary_keys, bookmark))

    def page(self, stream: BoundStream, records: Sequence[bytes], extracted: float, state: bytes) -> None:
        self._output.write(record_lines(stream.name, records, extracted, state))


@contextmanager
def singer_output() -> Iterator[Output]:
    """Keeps stdout for Singer lines alone: while open, whatever else is printed, by Python or by C, goes to stderr.

    Where stdout has been replaced by something that is no file (a test, a notebook), that is written to instead.
    """
    sys.stdout.flush()
    try:
        is_stdout = sys.stdout.fileno() == 1
    except (OSError, ValueError):
        is_stdout = False
    if not is_stdout:
        yield Output(None)
        return
    kept = os.dup(1)
    with contextlib.suppress(OSError):  # not a pipe, or the limit is smaller
        fcntl.fcntl(kept, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    os.dup2(2, 1)
    try:
        yield Output(kept)
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
