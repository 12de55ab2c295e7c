"""Books that all runs of a machine keep together, in one SQLite file, and that the next run finds again.

Each look is one short transaction. Sharing is a courtesy to the server and never a reason to stop: where the file can't
be used, or somebody holds it for too long, this process says so once and goes on with what it has in memory.
"""

from __future__ import annotations

import logging
import os
import platform
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from tap_rest.limits.books import Books, Lease, OwnBooks

LONGEST_LOCK = 5.0
"""Seconds to wait for another process that holds the file."""

_SETUP = (
    "PRAGMA synchronous = NORMAL",
    "CREATE TABLE IF NOT EXISTS books_1 (key TEXT PRIMARY KEY, written REAL, books BLOB)",
    "DELETE FROM books_1 WHERE key NOT IN (SELECT key FROM books_1 ORDER BY written DESC LIMIT 1000)",
)

log = logging.getLogger(__name__)


class SharedBooks(OwnBooks):
    """The books of all processes that name the same file.

    Args:
        file: Made where it is missing, for its owner alone, as is its folder.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.holder = f"{platform.node()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._file = file
        self._stored: dict[str, bytes] = {}
        self._db: sqlite3.Connection | None = None
        with self._watched():
            self._db = _connected(file)

    @contextmanager
    def opened(self, keys: Sequence[str]) -> Iterator[list[Books]]:
        with super().opened(keys):
            with self._watched():
                self._read(keys)
            try:
                yield [self._books[key] for key in keys]
            finally:
                with self._watched():
                    self._write(keys)

    def close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _read(self, keys: Sequence[str]) -> None:
        if self._db is None:
            return
        self._db.execute("BEGIN IMMEDIATE")
        for key in keys:
            row = self._db.execute("SELECT books FROM books_1 WHERE key = ?", (key,)).fetchone()
            if row is None:
                continue
            if row[0] != self._stored.get(key):
                self._books[key] = msgspec.msgpack.decode(row[0], type=Books)
                self._stored[key] = row[0]
            for lease in self._books[key].flying:
                if _is_gone(lease):
                    lease.sent = 0.0

    def _write(self, keys: Sequence[str]) -> None:
        if self._db is None:
            return
        for key in keys:
            books = self._books[key]
            if (found := msgspec.msgpack.encode(books)) != self._stored.get(key):
                self._db.execute("INSERT OR REPLACE INTO books_1 VALUES (?, ?, ?)", (key, books.written, found))
                self._stored[key] = found
        self._db.execute("COMMIT")

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """What fails in it is said, and the file no longer used."""
        try:
            yield
        except (sqlite3.Error, OSError, ValueError, msgspec.MsgspecError) as fault:
            told = "limits are not shared with other runs, %s can't be used (%s): the setting is `limits_store`"
            log.warning(told, self._file, fault)
            with suppress(sqlite3.Error):
                self.close()


def _is_gone(lease: Lease) -> bool:
    """Whether the process that sent a request is no more; of one on another machine only time can tell."""
    node, pid, *_ = lease.id.rsplit(":", 3)
    if node != platform.node():
        return False
    try:
        os.kill(int(pid), 0)
    except OSError as fault:
        return isinstance(fault, ProcessLookupError)
    return False


def _connected(file: Path) -> sqlite3.Connection:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):  # one that exists is not opened: closing it would drop SQLite's locks
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    db = sqlite3.connect(file, timeout=LONGEST_LOCK, isolation_level=None, check_same_thread=False)
    with suppress(sqlite3.OperationalError):  # another process is just doing so
        db.execute("PRAGMA journal_mode = WAL")
    for line in _SETUP:
        db.execute(line)
    return db
