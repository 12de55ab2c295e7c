"""Singer lines in: bytes from a pipe, cut into lines, each decoded only as far as its envelope."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
from typing import Any

import msgspec

_CHUNK = 1 << 20
_BOM = b"\xef\xbb\xbf"


class Message(msgspec.Struct, gc=False):
    """A Singer message; `record`, `value` and `schema` are the sender's own bytes.

    https://github.com/singer-io/getting-started/blob/master/docs/SPEC.md
    """

    type: str
    stream: str = ""
    record: msgspec.Raw = msgspec.Raw(b"")
    value: msgspec.Raw = msgspec.Raw(b"")
    schema: msgspec.Raw = msgspec.Raw(b"")
    key_properties: list[str] | None = None
    bookmark_properties: list[str] | str | None = None


decode = msgspec.json.Decoder(Message).decode
"""A line's message. Raises msgspec.DecodeError for a line that is not one; see `decode_odd`."""


def decode_odd(line: bytes) -> Message | None:
    """The message of a line that `decode` refused: None for a blank one, and a byte order mark is passed over."""
    text = line.removeprefix(_BOM)
    return decode(text) if text.strip() else None


class LineReader:
    """Lines from a file descriptor, as they come.

    Attributes:
        torn: What stood behind the last line feed when the input ended.
    """

    def __init__(self, descriptor: int, wakeup: int | None = None) -> None:
        self._descriptor = descriptor
        self._wait_for = [descriptor] if wakeup is None else [descriptor, wakeup]
        self._started: list[bytes] = []
        self.torn = b""
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _CHUNK)  # fewer, larger reads; Linux only

    def read(self, timeout: float | None) -> list[bytes] | None:
        """The next lines, without their ends; none after `timeout` seconds or a signal; None at the end of input."""
        ready, _, _ = select.select(self._wait_for, [], [], timeout)
        if self._descriptor not in ready:
            return []
        chunk = os.read(self._descriptor, _CHUNK)
        if not chunk:
            self.torn = b"".join(self._started)
            return None
        lines = chunk.split(b"\n")
        self._started.append(lines[0])
        if len(lines) == 1:
            return []
        lines[0] = b"".join(self._started)
        self._started = [lines.pop()]
        return lines


def json_object(raw: msgspec.Raw) -> dict[str, Any]:
    """The object that a message's part holds; an empty one where it is anything else."""
    try:
        found = msgspec.json.decode(raw) if bytes(raw) else None
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}
