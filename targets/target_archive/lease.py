"""A lease in an object store: who holds it may write, and says so again and again.

It consists of numbered objects, each made by a put that a taken name refuses; the newest one counts. Nobody's clock is
compared with another's: who finds a holder watches, on its own clock, whether a next number appears.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import msgspec

from target_archive.errors import ArchiveLocked, StorageFailed

SECONDS = 60.0
"""Who does not renew its lease for this long is taken for dead."""


class Names(Protocol):
    """The part of a storage that a lease needs; its `create` must refuse a taken name, whoever asks."""

    def read(self, path: str) -> bytes | None: ...
    def names(self, folder: str) -> list[str]: ...
    def create(self, path: str, content: bytes) -> None: ...
    def remove(self, path: str) -> None: ...


class _Epoch(msgspec.Struct, frozen=True, omit_defaults=True):
    nonce: str
    pid: int
    host: str
    since: str
    released: bool = False


class Lease:
    """The lease below `folder`, renewed by a thread from `take` to `release`."""

    def __init__(
        self, names: Names, folder: str, *, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._names, self._folder, self._seconds, self._clock = names, folder, seconds, clock
        since = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self._mine = _Epoch(uuid.uuid4().hex, os.getpid(), socket.gethostname(), since)
        self._number, self._renewed, self._lost = 0, 0.0, False
        self._turn, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def take(self) -> None:
        """Take the lease, at once where it was given back; a holder is watched for as long as a lease lasts.

        Raises ArchiveLocked where the holder is alive.
        """
        watched, since = 0, self._clock()
        while True:
            self._number = max(self._numbers(), default=0)
            text = self._names.read(self._path(self._number)) if self._number else None
            if self._number and text is None:
                continue  # a next one was made between the two requests
            holder = msgspec.json.decode(text, type=_Epoch) if text else None
            if holder is None or holder.released or (watched == self._number and self._age(since) >= self._seconds):
                break
            if watched and watched != self._number:
                raise _locked(f"pid {holder.pid} on {holder.host} since {holder.since}")
            watched = self._number
            time.sleep(self._seconds / 12)
        self._renew()
        if self._lost:
            raise _locked("it was faster")
        self._thread.start()

    def check(self) -> None:
        """Raise ArchiveLocked where the lease is lost. One that has run out, as after a pause, is renewed first."""
        if not self._lost and self._age(self._renewed) >= self._seconds:
            self._renew()
        if self._lost:
            raise ArchiveLocked("another writer has taken over meanwhile", where=self._folder, hint="run again")

    def release(self) -> None:
        """Give the lease back, so that the next one need not wait."""
        self._ended.set()
        self._thread.join()
        self._mine = msgspec.structs.replace(self._mine, released=True)
        if not self._lost:
            with suppress(StorageFailed):
                self._renew()

    def _keep(self) -> None:
        while not self._lost and not self._ended.wait(self._seconds / 3):
            with suppress(StorageFailed):  # a store that is away for a moment is asked again
                self._renew()

    def _renew(self) -> None:
        """Make the next number. The lease is lost where another has made it, or has gone on beyond it since."""
        with self._turn:
            now, number = self._clock(), self._number + 1
            with suppress(FileExistsError):
                self._names.create(self._path(number), msgspec.json.encode(self._mine))
                numbers = self._numbers()
                if max(numbers) == number:
                    self._number, self._renewed = number, now
                    for old in numbers:
                        if old < number:
                            self._names.remove(self._path(old))
                    return
            self._lost = True

    def _age(self, since: float) -> float:
        return self._clock() - since

    def _numbers(self) -> list[int]:
        return [int(name) for name in self._names.names(self._folder) if name.isdigit()]

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:08d}"


def _locked(holder: str) -> ArchiveLocked:
    return ArchiveLocked("another process is writing to this archive", where=holder, hint="wait until it has ended")
