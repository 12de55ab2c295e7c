"""A run through export files: what an earlier run has read is left out, the rest is written, and STATE says so.

STATE keeps all that it was given, since a stream may also be read from its API, and has `files` beside it: for each
stream and file a mark and the number of records. A file whose mark is still the same is not read again.

An archive knows a record that it has by its key. Without one it counts copies, and must know which of them are read
again. So such a stream's bookmark has a `page`: nothing that came before this STATE is read again. When a file of such
a stream has changed, the run starts from nothing and reads all files, with no STATE before its end.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tap_file.files import Export, File
from tap_rest.engine.messages import Lane, Output, state_line
from tap_rest.engine.signals import Waiter
from tap_rest.engine.telling import LIGHT_STATE
from tap_rest.errors import ConfigError, TapError
from tap_rest.formats.streamed import Streamed
from tap_rest.language.declaration import BoundStream

ROWS = 1000
Marks = dict[str, dict[str, tuple[str, int]]]

log = logging.getLogger(__name__)


class Run:
    """Reads files into streams: records go into the lane, STATE to the output. `given` is the STATE to start from."""

    def __init__(self, given: Mapping[str, Any], lane: Lane, output: Output, clock: Waiter) -> None:
        self._given, self._lane, self._output, self._clock = given, lane, output, clock
        try:
            self._done = msgspec.convert(given.get("files", {}), Marks)
            self._bookmarks = msgspec.convert(given.get("bookmarks", {}), dict[str, Any])
        except msgspec.ValidationError:
            raise ConfigError("STATE is not of our shape", hint="pass the file of an earlier run") from None
        self._claims: dict[str, list[dict[str, Any]]] = {}
        self._failed: list[Export] = []
        self._total = self._written = self._weight = 0
        self._told, self._untold, self._anew, self._silent = clock.monotonic(), False, False, False

    def read(self, streams: Mapping[str, BoundStream], exports: Sequence[Export]) -> None:
        """Reads what is new. Raises TapError (status 3 if some files were read), Interrupted or BrokenPipeError."""
        found = [(export, self._files(export)) for export in exports if export.stream in streams]
        every = [(export.stream, file) for export, files in found for file in files]
        for (stream, name), count in Counter((stream, file.name) for stream, file in every).items():
            if count > 1:
                raise ConfigError(f"{count} entries read this file into the stream {stream}", where=name)
        keyless = {name: {"page": "files"} for name, stream in streams.items() if not stream.declared.primary_keys}
        self._anew = any(self._known(*one) not in ("", one[1].mark) for one in every if one[0] in keyless)
        self._silent, self._bookmarks = self._anew, {**keyless, **self._bookmarks}
        self._output.write(state_line(self._given if self._given and not self._anew else {"bookmarks": {}}))
        try:
            for name, bound in streams.items():
                self._lane.begin(bound)
                for export, files in found:
                    if export.stream == name:
                        self._export(bound, export, files)
            if self._anew and not self._failed:  # else copies of what could not be read may have stood for others
                self._silent = False
        finally:
            self._tell()
        if self._failed:
            problem = f"{len(self._failed):,} of {self._total:,} files could not be read"
            failed = TapError(problem, hint="the next run tries them again")
            failed.exit_status = 1 if len(self._failed) == self._total else 3  # type: ignore[misc]  # of this run
            raise failed

    def _files(self, export: Export) -> list[File]:
        try:
            files = export.files()
        except TapError as error:
            self._fail(export, error)
            files = []
        self._total += len(files) or 1
        return files

    def _known(self, stream: str, file: File) -> str:
        return self._done.get(stream, {}).get(file.name, ("",))[0]

    def _export(self, bound: BoundStream, export: Export, files: Sequence[File]) -> None:
        """Writes the records of the files that are not read yet, and claims what they cover."""
        done, new, first = self._done.setdefault(bound.name, {}), 0, self._written
        for file in files:
            if self._known(bound.name, file) == file.mark and not self._anew:
                continue
            before = self._written
            try:
                self._write(bound, export.slices(file.path))
            except TapError as error:
                self._fail(export, error)
                if not bound.declared.primary_keys and self._written > before:
                    self._silent = True  # the part that was written is read again
                continue
            done[file.name], self._untold, new = (file.mark, self._written - before), True, new + 1
            if self._weight <= LIGHT_STATE or self._clock.monotonic() - self._told >= 1:
                self._tell()
        count = self._written - first
        log.info("%s: %s: %s of %s files are new, %s records", bound.name, export.path, new, len(files), count)
        if export.covers and new and export not in self._failed:
            known = [done[file.name] for file in files]
            evidence = {
                "reason": "files",
                "changes_only": True,  # that a takeout lacks a record does not say that it is gone
                "files": len(files),
                "records": sum(count for _, count in known),
                "digest": hashlib.blake2b("".join(mark for mark, _ in known).encode(), digest_size=8).hexdigest(),
            }
            claim = {"partition": None, "from": export.covers.start, "to": export.covers.to, "status": "complete"}
            self._claims.setdefault(bound.name, []).append({**claim, "evidence": evidence})
            self._untold = True

    def _write(self, bound: BoundStream, parts: Iterable[Sequence[bytes]]) -> None:
        """Writes records a mebibyte, or so many rows, at a time."""
        for part in parts:
            held = (part[at : at + ROWS] for at in range(0, len(part), ROWS))
            for rows in (batch.read() for batch in part.batches) if isinstance(part, Streamed) else held:
                self._clock.check()
                self._lane.page(bound, rows, self._clock.now(), b"")
                self._written += len(rows)

    def _fail(self, export: Export, error: TapError) -> None:
        self._failed.append(export)
        log.error("%s", error)

    def _tell(self) -> None:
        """Writes STATE, if there is anything new in it and it may be told."""
        if self._untold and not self._silent:
            kept = {name: value for name, value in self._given.items() if name != "claims"}
            own = {"bookmarks": self._bookmarks, "files": self._done}
            line = state_line({**kept, **own, **({"claims": self._claims} if self._claims else {})})
            self._output.write(line)
            self._weight, self._told, self._untold = len(line), self._clock.monotonic(), False
