"""Books that all runs of a machine keep together, in one SQLite file, and that the next run finds again.

Each look is one short transaction. Sharing is a courtesy to the server and never a reason to stop: where the file can't
be used, or somebody holds it for too long, this process says so once and goes on with books of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import secrets
import sqlite3
from collections.abc import Sequence
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
_WRITE = (
    "INSERT INTO books_1 VALUES (?, ?, ?)"
    " ON CONFLICT (key) DO UPDATE SET written = excluded.written, books = excluded.books"
)
_FAULTS = (sqlite3.Error, OSError, ValueError, msgspec.MsgspecError)

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
        try:
            self._db = _opened(file)
        except _FAULTS as fault:
            self._alone(fault)

    def open(self, keys: Sequence[str]) -> list[Books]:
        if self._db is not None:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                for key in keys:
                    self._read(self._db, key)
            except _FAULTS as fault:
                self._alone(fault)
        return super().open(keys)

    def keep(self, keys: Sequence[str]) -> None:
        if self._db is not None:
            try:
                for key in keys:
                    self._write(self._db, key)
                self._db.execute("COMMIT")
            except _FAULTS as fault:
                self._alone(fault)

    def close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _read(self, db: sqlite3.Connection, key: str) -> None:
        if (row := db.execute("SELECT books FROM books_1 WHERE key = ?", (key,)).fetchone()) is None:
            return
        (stored,) = row
        if stored != self._stored.get(key):
            self._books[key] = msgspec.msgpack.decode(stored, type=Books)
            self._stored[key] = stored
        for lease in self._books[key].flying:
            if self._is_gone(lease):
                lease.sent = 0.0

    def _write(self, db: sqlite3.Connection, key: str) -> None:
        books = self._books[key]
        if (found := msgspec.msgpack.encode(books)) != self._stored.get(key):
            db.execute(_WRITE, (key, books.written, found))
            self._stored[key] = found

    def _is_gone(self, lease: Lease) -> bool:
        """Whether the process that sent a request is no more; of one on another machine only time can tell."""
        node, pid, name, _ = lease.id.rsplit(":", 3)
        if f"{node}:{pid}:{name}" == self.holder or node != platform.node():
            return False
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False

    def _alone(self, fault: Exception) -> None:
        told = "limits are not shared with other runs, %s can't be used (%s): the setting is `limits_store`"
        log.warning(told, self._file, fault)
        with contextlib.suppress(sqlite3.Error):
            self.close()


def _opened(file: Path) -> sqlite3.Connection:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):  # one that exists is not opened: closing it would drop SQLite's locks
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    db = sqlite3.connect(file, timeout=LONGEST_LOCK, isolation_level=None, check_same_thread=False)
    with contextlib.suppress(sqlite3.OperationalError):  # another process is just doing so
        db.execute("PRAGMA journal_mode = WAL")
    for line in _SETUP:
        db.execute(line)
    return db
