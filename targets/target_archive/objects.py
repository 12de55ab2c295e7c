"""Objects in a store (S3, GCS, Azure, or memory for tests) as the storage of an archive.

One promise of the store carries everything: a put is refused where the name is taken (`If-None-Match: *`), or where the
object is no longer the one that was read (`If-Match`). So of two writers one commits and the other one is told, and one
that was paused cannot write over what came after it. The lease only keeps a second writer from work that it would lose.
An object is there whole or not at all, and durable once its put is answered.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Self

import obstore
from obstore import exceptions
from obstore.store import MemoryStore, from_url

from target_archive.errors import ArchiveLocked, BadSettings, StorageFailed
from target_archive.lease import SECONDS, Lease

_SCHEMES = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_APPLICATION_CREDENTIALS"),
    "az": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_KEY"),
    "memory": ("",),
}
_CLIENT_OPTIONS = ("allow_http", "allow_invalid_certificates", "connect_timeout", "proxy_url", "timeout")
_TIMEOUT = "300s"  # lets 128 MiB, the largest day file, through 4 Mbit/s
_PAUSES = (0.2, 1.0, 4.0, None)
_HINTS = (  # obstore has a class for most of them, but not where a listing fails
    ("404 Not Found", "check the name of the bucket, which is not made here"),
    ("403 Forbidden", "the credentials must allow to read, write, delete and list below the root"),
    ("401 Unauthorized", "the credentials are missing, wrong or expired"),
    ("mplemented", "a store that cannot refuse a taken name needs the setting `single_writer: assumed`"),
    ("", "if the store is away, run again later; everything acknowledged so far is kept"),
)

_Version = dict[str, str]


class ObjectStorage:
    """Objects below `root`, a URL, with the methods of `storage.Storage`. `lease_seconds` is how long a lease lasts.

    `assume_single_writer` is for stores that cannot refuse a taken name: nothing then guards against a second writer
    but the lease, and a look before each put.
    """

    def __init__(
        self, root: str, store: Any, *, assume_single_writer: bool = False, lease_seconds: float = SECONDS
    ) -> None:
        self.root, self._store, self._assume, self._seconds = root, store, assume_single_writer, lease_seconds
        self._seen: dict[str, _Version | None] = {}
        self._lease: Lease | None = None

    @classmethod
    def of(cls, root: str, **options: Any) -> Self:
        """The storage of a URL; the store's own environment variables say who and where. Raises BadSettings."""
        scheme = root.partition("://")[0]
        if scheme not in _SCHEMES:
            raise BadSettings(f"no archive can be in `{scheme}://`", hint="known are " + ", ".join(_SCHEMES))
        try:
            store = _memory(root) if scheme == "memory" else from_url(root, client_options=_client_options(scheme))
        except (exceptions.BaseError, ValueError) as error:
            hint = f"what the store needs to know comes from the environment: {', '.join(_SCHEMES[scheme])}"
            raise BadSettings(_in_words(error), where=root, hint=hint) from None
        return cls(root, store, **options)

    def read(self, path: str, start: int = 0, length: int = -1) -> bytes | None:
        self._check_lease()
        whole = start == 0 and length < 0
        options: Any = {} if whole else {"range": {"offset": start} if length < 0 else (start, start + length)}
        with self._telling(path):
            try:
                found = obstore.get(self._store, path, options=options)
                content, version = bytes(found.bytes()), _version(found.meta)
            except FileNotFoundError:
                content, version = None, None
            except exceptions.GenericError:
                size = None if whole else self.size(path)
                if size is None or (size > start and length):
                    raise
                return b""  # an empty range, which no store serves
        if whole:
            self._seen[path] = version
        return content

    def names(self, folder: str) -> list[str]:
        with self._telling(folder):
            found = obstore.list_with_delimiter(self._store, folder or None)
        paths = [*found["common_prefixes"], *(one["path"] for one in found["objects"])]
        return sorted(path.rpartition("/")[2] for path in paths)

    def size(self, path: str) -> int | None:
        with self._telling(path):
            found = self._head(path)
        return found and int(found["size"])

    def write(self, path: str, content: bytes) -> None:
        self._check_lease()
        with self._telling(path):
            obstore.put(self._store, path, content, use_multipart=False)  # which could leave paid parts behind

    def create(self, path: str, content: bytes) -> None:
        """Raises FileExistsError when the name is taken by other content; equal content is that of an own try."""
        self._check_lease()
        self._put(path, content, None)

    def rename(self, path: str, name: str) -> None:
        """Put an object in the place of the one that was last read whole, or else is there before `path` is read.

        Raises ArchiveLocked where another writer has put something else there meanwhile, or taken `path` away.
        """
        self._check_lease()
        with self._telling(name):
            expected = self._seen.pop(name) if name in self._seen else _version(self._head(name))
        content = self.read(path)
        if content is not None:
            with suppress(FileExistsError):
                self._put(name, content, expected)
                self.remove(path)
                return
        raise ArchiveLocked("another writer has taken over meanwhile", where=name, hint="run again")

    def remove(self, path: str) -> None:
        self._check_lease()
        self._seen.pop(path, None)
        with self._telling(path), suppress(FileNotFoundError):
            obstore.delete(self._store, path)

    def sync(self, folder: str) -> None: ...

    def make_folder(self, folder: str) -> None: ...

    @contextmanager
    def lock(self, path: str) -> Iterator[None]:
        """Hold the lease below `path` for as long as the block runs.

        Raises ArchiveLocked where it has a living holder, StorageFailed where the store cannot refuse a taken name.
        """
        unguarded = ObjectStorage(self.root, self._store, assume_single_writer=self._assume)
        if not self._assume:
            unguarded._probe(f"{path}/probe")
        lease = Lease(unguarded, path, seconds=self._seconds)
        lease.take()
        self._lease = lease
        try:
            yield
        finally:
            self._lease = None
            lease.release()

    def _probe(self, path: str) -> None:
        for _ in range(2):
            try:
                self.create(path, uuid.uuid4().hex.encode())
            except FileExistsError:
                return
        raise StorageFailed(
            "the store writes over an object where it should make a new one",
            where=self.root,
            hint="make sure that there is one writer, and set `single_writer: assumed`",
        )

    def _put(self, path: str, content: bytes, expected: _Version | None) -> None:
        """Put content in the place of `expected`, None for nothing; raise FileExistsError where it is not there.

        An answer may be lost after the put has arrived, and a refusal may only mean that two have met: so what is
        there then decides.
        """
        mode: Any = expected or "create"
        with self._telling(path):
            if self._assume:
                if expected is None and self._head(path):
                    raise FileExistsError(path)
                mode = "overwrite"
            for pause in _PAUSES:
                try:
                    obstore.put(self._store, path, content, mode=mode, use_multipart=False)
                except (exceptions.AlreadyExistsError, exceptions.PreconditionError, exceptions.GenericError):
                    there = self.read(path)
                    if there == content:
                        return
                    if self._seen.pop(path) != expected:
                        raise FileExistsError(path) from None
                    if pause is None:
                        raise
                    time.sleep(pause)
                else:
                    return

    def _head(self, path: str) -> Any:
        with suppress(FileNotFoundError):
            return obstore.head(self._store, path)

    def _check_lease(self) -> None:
        if self._lease is not None:
            self._lease.check()

    @contextmanager
    def _telling(self, path: str) -> Iterator[None]:
        try:
            yield
        except (exceptions.BaseError, FileNotFoundError, RuntimeError, ValueError) as error:
            words = _in_words(error)
            hint = next(hint for sign, hint in _HINTS if sign in words)
            raise StorageFailed(words, where=f"{self.root.rstrip('/')}/{path}", hint=hint) from None


def _version(meta: Any) -> _Version | None:
    """What a store knows an object's content by: a generation or an ETag."""
    return meta and {name: meta[name] for name in ("e_tag", "version") if meta[name] is not None}


def _in_words(error: Exception) -> str:
    """The first line of what a store says, and its code."""
    text = str(error)
    code = re.search(r"<Code>(\w+)</Code>", text)
    return text.partition("\n")[0].partition(": <")[0] + (f": {code[1]}" if code else "")


def _client_options(scheme: str) -> Any:
    """`AWS_ALLOW_HTTP` and the like, which obstore does not read where one option is given: here the timeout."""
    prefix = _SCHEMES[scheme][0].partition("_")[0]
    given = {name: os.environ.get(f"{prefix}_{name.upper()}") for name in _CLIENT_OPTIONS}
    return {"timeout": _TIMEOUT} | {name: value for name, value in given.items() if value}


@cache
def _memory(_root: str) -> MemoryStore:
    """One store for all in this process that name the same root."""
    return MemoryStore()
