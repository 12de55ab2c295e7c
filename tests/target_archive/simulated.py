"""A file system that forgets: storage in memory on which the power can fail, or the process be killed.

What was not synced may be lost, cut or zero-filled; each change of a folder that was not synced may be lost by itself,
that of a folder's own name with all below it (after ALICE, OSDI 2014, and SQLite's test6.c). It has the methods of
`LocalStorage` and nothing else.
"""

from __future__ import annotations

import copy
import errno
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from target_archive.errors import StorageFailed
from target_archive.storage import LocalStorage

_FOLDER = 0


class PowerLoss(BaseException):
    """Nothing after this point happens: the power fails, or the process is killed."""


class SimulatedStorage(LocalStorage):
    """Files in memory.

    Attributes:
        fail_at: The number of the operation before which the power fails, counted from 1; None for never.
        error: Raised instead of a power loss: an errno that the operation fails with.
        skip: Names of operations that silently do not happen, for mutants of the protocol: `sync PART-OF-PATH` etc.
        turn: Called before each operation, reading ones too; for several writers that take turns.
    """

    def __init__(self, rng: random.Random) -> None:
        super().__init__("/simulated")
        self._own = 0
        self.rng = rng
        self.operations = 0
        self.fail_at: int | None = None
        self.error: int | None = None
        self.skip: frozenset[str] = frozenset()
        self.turn: Callable[[], None] = lambda: None
        self.content: dict[int, tuple[bytes, bytes | None]] = {}  # inode: now, durable
        self.now: dict[str, dict[str, int]] = {"": {}}
        self.durable: dict[str, dict[str, int]] = {"": {}}
        self.changes: dict[str, list[tuple[str, str, int, str]]] = {}

    # Reading --------------------------------------------------------------------------------------------------------

    def read(self, path: str, start: int = 0, length: int = -1) -> bytes | None:
        self.turn()
        inode = self._inode(path)
        if inode is None:
            return None
        data = self.content[inode][0]
        return data[start:] if length < 0 else data[start : start + length]

    def names(self, folder: str) -> list[str]:
        self.turn()
        return sorted(self.now.get(folder, {}))

    def size(self, path: str) -> int | None:
        self.turn()
        inode = self._inode(path)
        return None if inode is None else len(self.content[inode][0])

    # Writing --------------------------------------------------------------------------------------------------------

    def write(self, path: str, content: bytes) -> None:
        self._tick("create")
        inode = self._inode(path)
        if inode is None:
            inode = len(self.content) + 1
            self._change(path, "set", inode)
        self.content[inode] = content[: self.rng.randrange(len(content) + 1)], self.content.get(inode, (b"", None))[1]
        self._tick("write")
        self.content[inode] = content, self.content[inode][1]
        self._tick("fsync")
        if not self._skipped("fsync", path):
            self.content[inode] = (self.content[inode][0],) * 2

    def link(self, path: str, name: str) -> None:
        self._tick("link")
        if self._inode(name) is not None:
            raise FileExistsError(name)
        self._change(name, "set", self._existing(path))

    def rename(self, path: str, name: str) -> None:
        self._tick("rename")
        (folder, old), (other, _) = self._split(path), self._split(name)
        assert folder == other, "a rename across folders is not atomic on every file system"
        self._change(name, "move", self._existing(path), old)

    def remove(self, path: str) -> None:
        self._tick("remove")
        if self._inode(path) is not None:
            self._change(path, "drop")

    def sync(self, folder: str) -> None:
        self._tick("sync")
        if not self._skipped("sync", folder):
            self._settle(folder)

    def make_folder(self, folder: str) -> None:
        parts = folder.split("/")
        for path in ("/".join(parts[:depth]) for depth in range(1, len(parts) + 1)):
            if path not in self.now:
                self._tick("mkdir")
                if path not in self.now:  # it may have been somebody else's turn
                    self._change(path, "set", _FOLDER)
                    self.now[path] = {}
                self._tick("sync")
                if not self._skipped("mkdir", path):
                    self._settle(self._split(path)[0])

    @contextmanager
    def lock(self, path: str) -> Iterator[None]:  # noqa: ARG002 - nobody else is there, or nobody heeds it
        yield

    # Failing --------------------------------------------------------------------------------------------------------

    def after_power_loss(self) -> SimulatedStorage:
        """One of the states in which the disk may be found."""
        rng, found = self.rng, self.copy()
        found.now, found.durable, found.changes = {}, {}, {}
        for folder in sorted(self.now):  # a folder after those that it lies in
            parent, name = self._split(folder)
            if folder and name not in found.now.get(parent, {}):
                continue
            names = dict(self.durable.get(folder, {}))
            for kind, name, inode, old in self.changes.get(folder, []):
                if rng.random() < 0.5:
                    self._apply(names, kind, name, inode, old)
            found.now[folder], found.durable[folder] = names, dict(names)
        for inode, (now, durable) in self.content.items():
            if durable != now:
                cut = rng.randrange(len(now) + 1)
                data = rng.choice([durable or b"", now[:cut], now[:cut] + bytes(len(now) - cut), now])
                found.content[inode] = data, data
        return found

    def copy(self) -> SimulatedStorage:
        """The same disk once more, on which nothing fails."""
        other = copy.copy(self)
        other.operations, other.fail_at, other.content = 0, None, dict(self.content)
        other.now = {folder: dict(names) for folder, names in self.now.items()}
        other.durable = {folder: dict(names) for folder, names in self.durable.items()}
        other.changes = {folder: list(changes) for folder, changes in self.changes.items()}
        return other

    def shared(self, turn: Callable[[], None], own: int) -> SimulatedStorage:
        """The same disk for another process, whose temporary files have names of its `own`."""
        other = copy.copy(self)
        other.turn, other._own = turn, own
        return other

    def _tick(self, operation: str) -> None:
        self.turn()
        self.operations += 1
        if self.fail_at is not None and self.operations >= self.fail_at:
            if self.error is None:
                raise PowerLoss(operation)
            if self.operations == self.fail_at and operation != "remove":
                raise StorageFailed(f"{errno.errorcode[self.error]} in {operation}")

    def _change(self, path: str, kind: str, inode: int = 0, old: str = "") -> None:
        folder, name = self._split(path)
        self._apply(self.now[folder], kind, name, inode, old)
        self.changes.setdefault(folder, []).append((kind, name, inode, old))

    @staticmethod
    def _apply(names: dict[str, int], kind: str, name: str, inode: int, old: str) -> None:
        if kind == "drop":
            names.pop(name, None)
        else:
            names.pop(old, None)
            names[name] = inode

    def _settle(self, folder: str) -> None:
        self.durable[folder] = dict(self.now.get(folder, {}))
        self.changes[folder] = []

    def _skipped(self, operation: str, path: str) -> bool:
        return any(kind == operation and part in path for kind, part in map(str.split, self.skip))

    def _existing(self, path: str) -> int:
        inode = self._inode(path)
        if inode is None:
            raise StorageFailed("No such file or directory", where=path)
        return inode

    def _inode(self, path: str) -> int | None:
        folder, name = self._split(path)
        return self.now.get(folder, {}).get(name)

    @staticmethod
    def _split(path: str) -> tuple[str, str]:
        folder, _, name = path.rpartition("/")
        return folder, name
