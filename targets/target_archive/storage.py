"""Durable files under one root: what an archive asks of its storage, and the only module of it that touches the disk.

Every method takes paths relative to the root, with `/`. On a disk, content is durable when `write` returns; a *name*
(created, linked, renamed, removed) is durable only after `sync` of its folder: POSIX promises no less and no more. A
failed fsync is final: the kernel may have dropped the pages (Rebello et al., "Can Applications Recover from fsync
Failures?", USENIX ATC 2020), so nothing is tried again on that descriptor.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from target_archive.errors import ArchiveLocked, BadSettings, StorageFailed

_HINTS = {
    errno.ENOSPC: "the disk is full: free some space and run again, everything acknowledged so far is kept",
    errno.EDQUOT: "the disk quota is used up: free some space and run again",
    errno.EACCES: "no permission: check the owner and mode of the folder",
    errno.EPERM: "no permission: check the owner and mode of the folder",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the disk reported an I/O error: check it before the next run",
    errno.ELOOP: "a symbolic link stands where a file or folder of the archive belongs",
    errno.ENOTDIR: "a file stands where a folder of the archive belongs",
}


class Storage(Protocol):
    """Where an archive stands: files on a disk, or objects in a store. What fails raises StorageFailed."""

    @property
    def root(self) -> str | Path: ...

    def read(self, path: str, start: int = 0, length: int = -1) -> bytes | None:
        """The bytes of a file, or of a part of it; None where there is no such file."""

    def names(self, folder: str) -> list[str]:
        """Names in a folder, sorted; none where there is no such folder."""

    def size(self, path: str) -> int | None:
        """Bytes of a file; None where there is no such file."""

    def write(self, path: str, content: bytes) -> None:
        """Write a file that no commit names yet, whole."""

    def create(self, path: str, content: bytes) -> None:
        """Make a new file, whole and durable with its name. Raises FileExistsError when that name is taken."""

    def rename(self, path: str, name: str) -> None:
        """Put a file in the place of another one in the same folder, atomically."""

    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""

    def sync(self, folder: str) -> None:
        """Make the names in a folder durable."""

    def make_folder(self, folder: str) -> None:
        """Create a folder and those above it, durably."""

    def lock(self, path: str) -> AbstractContextManager[None]:
        """Be the one writer for as long as the block runs. Raises ArchiveLocked where another one is."""


def storage_of(root: str | Path, *, assume_single_writer: bool = False) -> Storage:
    """The storage of a root: `s3://bucket/prefix`, `gs://…`, `az://container/…`, `memory:///name`, or a folder.

    `assume_single_writer` is for stores that cannot refuse a taken name; see `ObjectStorage`. Raises BadSettings.
    """
    scheme, found, _ = str(root).partition("://")
    if not found:
        return LocalStorage(root)
    try:
        from target_archive.objects import ObjectStorage  # noqa: PLC0415 - an extra that few archives need
    except ImportError as error:
        raise BadSettings(
            f"an archive in `{scheme}://` needs obstore", where=str(root), hint="pip install 'daykeep[cloud]'"
        ) from error
    return ObjectStorage.of(str(root), assume_single_writer=assume_single_writer)


class LocalStorage:
    """Files below `root` on a POSIX file system."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._own = uuid.uuid4().int  # a process id is no name where containers share a folder

    def read(self, path: str, start: int = 0, length: int = -1) -> bytes | None:
        """The bytes of a file, or of a part of it; None where there is no such file."""
        with self._telling(path):
            try:
                with (self.root / path).open("rb") as file:
                    file.seek(start)
                    return file.read(length)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def names(self, folder: str) -> list[str]:
        """Names in a folder, sorted; none where there is no such folder."""
        with self._telling(folder):
            try:
                return sorted(path.name for path in (self.root / folder).iterdir())
            except FileNotFoundError:
                return []

    def size(self, path: str) -> int | None:
        with self._telling(path):
            try:
                return (self.root / path).stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                return None

    def write(self, path: str, content: bytes) -> None:
        """Write a new file, or write over one that no commit names, and make its content durable."""
        with self._telling(path):
            descriptor = os.open(self.root / path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666)
            try:
                rest = memoryview(content)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def link(self, path: str, name: str) -> None:
        """Give a file a second, final name. Raises FileExistsError when that name is taken."""
        with self._telling(name):
            os.link(self.root / path, self.root / name, follow_symlinks=False)

    def create(self, path: str, content: bytes) -> None:
        """Make a new file, whole and durable with its name. Raises FileExistsError when that name is taken."""
        folder, _, name = path.rpartition("/")
        temporary = f"{folder}/.{name}.{self._own}.tmp"
        self.write(temporary, content)
        try:
            self.link(temporary, path)
            self.sync(folder)
        finally:
            self.remove(temporary)

    def rename(self, path: str, name: str) -> None:
        """Put a file in the place of another one in the same folder, atomically."""
        with self._telling(name):
            (self.root / path).rename(self.root / name)

    def remove(self, path: str) -> None:
        with self._telling(path), suppress(FileNotFoundError):
            (self.root / path).unlink()

    def sync(self, folder: str) -> None:
        """Make the names in a folder durable."""
        with self._telling(folder):
            descriptor = os.open(self.root / folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def make_folder(self, folder: str) -> None:
        """Create a folder and those above it, durably."""
        with self._telling(folder):
            missing = [
                path for path in (self.root / folder, *(self.root / folder).parents) if not os.path.lexists(path)
            ]
            for path in reversed(missing):
                with suppress(FileExistsError):
                    path.mkdir()
                descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            if (self.root / folder).is_symlink():
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))

    @contextmanager
    def lock(self, path: str) -> Iterator[None]:
        """Hold the lock file for as long as the block runs; the kernel lets go of it with the process.

        What stands in the file is for people only. Raises ArchiveLocked when another process holds it.
        """
        with self._telling(path):
            descriptor = os.open(self.root / path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ArchiveLocked(
                    "another process is writing to this archive",
                    where=_holder(os.read(descriptor, 1000)),
                    hint="wait until it has ended",
                ) from None
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(holder).encode())
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _telling(self, path: str) -> Iterator[None]:
        try:
            yield
        except FileExistsError:
            raise
        except OSError as error:
            raise StorageFailed(
                os.strerror(error.errno or 0), where=str(self.root / path), hint=_HINTS.get(error.errno or 0, "")
            ) from error


def _holder(text: bytes) -> str:
    try:
        facts = json.loads(text)
        return f"pid {facts['pid']} on {facts['host']} since {facts['since']}"
    except (ValueError, KeyError, TypeError):
        return "holder unknown"
