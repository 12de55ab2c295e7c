"""A file system that forgets: storage in memory on which the power can fail.

What was not synced may be lost, cut or zero-filled; each change of a folder that was not synced may be lost by itself
(after ALICE, OSDI 2014, and SQLite's test6.c). It has the methods of `LocalStorage` and nothing else.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from contextlib import contextmanager

from target_archive.errors import StorageFailed
from target_archive.storage import LocalStorage


class PowerLoss(BaseException):
    """The power fails: nothing after this point happens."""


class SimulatedStorage(LocalStorage):
    """Files in memory.

    Attributes:
        fail_at: The operation number at which the power fails, counted from 1; None for never.
        error: Raised instead of a power loss: an errno that the operation fails with.
        skip: Names of operations that silently do not happen, for mutants of the protocol: `sync FOLDER-END` etc.
    """

    def __init__(self, rng: random.Random) -> None:
        super().__init__("/simulated")
        self.rng = rng
        self.operations = 0
        self.fail_at: int | None = None
        self.error: int | None = None
        self.skip: set[str] = set()
        self.content: dict[int, tuple[bytes, bytes | None]] = {}  # inode: now, durable
        self.now: dict[str, dict[str, int]] = {}
        self.durable: dict[str, dict[str, int]] = {}
        self.changes: dict[str, list[tuple[str, str, int, str]]] = {}

    # Reading --------------------------------------------------------------------------------------------------------

    def read(self, path: str, start: int = 0, length: int = -1) -> bytes | None:
        inode = self._inode(path)
        if inode is None:
            return None
        data = self.content[inode][0][start:]
        return data if length < 0 else data[:length]

    def names(self, folder: str) -> list[str]:
        return sorted(self.now.get(folder, {}))

    def size(self, path: str) -> int | None:
        data = self.read(path)
        return None if data is None else len(data)

    # Writing --------------------------------------------------------------------------------------------------------

    def write(self, path: str, content: bytes) -> None:
        folder, name = self._split(path)
        inode = self.now.get(folder, {}).get(name)
        if inode is None:
            inode = len(self.content) + 1
            self.content[inode] = (b"", None)
            self._tick("create")
            self.now.setdefault(folder, {})[name] = inode
            self.changes.setdefault(folder, []).append(("set", name, inode, ""))
        self.content[inode] = (content, self.content[inode][1])
        self._tick("write")
        if not self._skipped("fsync", path):
            self.content[inode] = (self.content[inode][0],) * 2
        self._tick("fsync")

    def link(self, path: str, name: str) -> None:
        self._tick("link")
        folder, base = self._split(name)
        if base in self.now.get(folder, {}):
            raise FileExistsError(name)
        inode = self._inode(path)
        assert inode is not None
        self.now.setdefault(folder, {})[base] = inode
        self.changes.setdefault(folder, []).append(("set", base, inode, ""))

    def rename(self, path: str, name: str) -> None:
        self._tick("rename")
        (folder, old), (other, new) = self._split(path), self._split(name)
        assert folder == other, "a rename across folders is not atomic on every file system"
        inode = self.now[folder].pop(old)
        self.now[folder][new] = inode
        self.changes.setdefault(folder, []).append(("move", new, inode, old))

    def remove(self, path: str) -> None:
        self._tick("remove")
        folder, name = self._split(path)
        if self.now.get(folder, {}).pop(name, None) is not None:
            self.changes.setdefault(folder, []).append(("drop", name, 0, ""))

    def sync(self, folder: str) -> None:
        self._tick("sync")
        if not self._skipped("sync", folder):
            self.durable[folder] = dict(self.now.get(folder, {}))
            self.changes[folder] = []

    def make_folder(self, folder: str) -> None:
        """Folders are durable at once: `LocalStorage.make_folder` syncs each parent."""
        self.now.setdefault(folder, {})

    @contextmanager
    def lock(self, path: str) -> Iterator[None]:  # noqa: ARG002 - nobody else is there
        yield

    # Failing --------------------------------------------------------------------------------------------------------

    def after_power_loss(self) -> SimulatedStorage:
        """One of the states in which the disk may be found."""
        rng, found = self.rng, SimulatedStorage(self.rng)
        found.skip = self.skip
        for folder in self.now.keys() | self.durable.keys():
            names = dict(self.durable.get(folder, {}))
            for kind, name, inode, old in self.changes.get(folder, []):
                if rng.random() < 0.5:
                    continue
                if kind == "drop":
                    names.pop(name, None)
                else:
                    names.pop(old, None)
                    names[name] = inode
            found.now[folder], found.durable[folder] = dict(names), dict(names)
        for inode, (now, durable) in self.content.items():
            data = now
            if durable != now:
                cut = rng.randrange(len(now) + 1)
                data = rng.choice([durable or b"", now[:cut], now[:cut] + bytes(len(now) - cut), now])
            found.content[inode] = (data, data)
        return found

    def _tick(self, operation: str) -> None:
        self.operations += 1
        if self.fail_at is not None and self.operations >= self.fail_at:
            if self.error is None:
                raise PowerLoss(operation)
            if self.operations == self.fail_at and operation != "remove":
                raise StorageFailed(f"{errno.errorcode[self.error]} in {operation}")

    def _skipped(self, operation: str, path: str) -> bool:
        return any(skip.split(" ")[0] == operation and skip.split(" ")[1] in path for skip in self.skip)

    def _inode(self, path: str) -> int | None:
        folder, name = self._split(path)
        return self.now.get(folder, {}).get(name)

    @staticmethod
    def _split(path: str) -> tuple[str, str]:
        folder, _, name = path.rpartition("/")
        return folder, name
