"""Where fetched tokens are kept: in memory for one run, or, where a server replaces what they are got with, on disk.

One file per log-in, readable by its owner alone, replaced as a whole and synced before its content is used; whoever
renews holds a lock that all threads and all processes of the machine respect.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tap_rest.auth.auth import Auth
from tap_rest.auth.flow import Token
from tap_rest.engine.signals import Waiter
from tap_rest.errors import ConfigError, TapError

LONGEST_RENEWAL = 600.0
"""Seconds to wait for another process that is renewing."""

log = logging.getLogger(__name__)


class RunTokens:
    """The tokens of a run: in memory, and in a file where they must outlive it. Safe to share between threads.

    Args:
        clock: Says what is due; waits for other processes are made on it.
        told: Those who must know every token, to keep it out of what they write.
        file: Where they are kept; None for in memory only.
    """

    def __init__(
        self,
        clock: Waiter,
        told: Sequence[Callable[[Sequence[str]], None]] = (),
        file: TokenFile | None = None,
    ) -> None:
        self._clock, self._told, self._file = clock, told, file
        self._one = threading.Lock()
        self._token: Token | None = None
        self._forced = 0

    def now(self) -> float:
        return self._clock.now()

    def current(self) -> Token:
        return self._token or self._known(self._file.read() if self._file else Token())

    @contextmanager
    def renewing(self) -> Iterator[Token]:
        with self._one, self._file.locked(self._clock) if self._file else contextlib.nullcontext():
            yield self._known(self._file.read()) if self._file else self.current()

    def keep(self, token: Token) -> None:
        if self._file:
            self._file.write(token)
        self._known(token)

    def force(self) -> int:
        self._forced += 1
        return self._forced

    def _known(self, token: Token) -> Token:
        self._token = token
        for tell in self._told:
            tell([text for text in (token.access, token.refresh) if text])
        return token


class TokenFile:
    """One log-in's tokens on disk.

    Args:
        folder: Made where it is missing, for its owner alone.
        tap: The tap's name, for people who look for the file.
        identity: What tells this log-in from all others.
    """

    def __init__(self, folder: Path, tap: str, identity: Sequence[str]) -> None:
        self._folder = folder
        self._name = f"{tap}-{hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:16]}.json"
        self._warned = False
        self._temporary, self._lock = f".{self._name}.new", f".{self._name}.lock"

    @property
    def path(self) -> Path:
        return self._folder / self._name

    def read(self) -> Token:
        """The tokens; an empty one where there are none yet. Raises ConfigError for a file that can't be trusted."""
        try:
            with self._opened() as folder, self._entry(folder, self._name, os.O_RDONLY) as file:
                facts = os.fstat(file)
                if facts.st_uid != os.geteuid():
                    raise ConfigError("the token file belongs to someone else", where=str(self.path))
                if stat.S_IMODE(facts.st_mode) & 0o077:
                    log.warning("%s can be read by others: chmod 600 it", self.path)
                return msgspec.json.decode(os.read(file, 1 << 20), type=Token)
        except FileNotFoundError:
            return Token()
        except msgspec.MsgspecError:
            hint = "remove it and log in again"
            raise ConfigError("the token file is damaged", where=str(self.path), hint=hint) from None

    def write(self, token: Token) -> None:
        """Replaces the tokens; they are on stable storage when this returns. Raises TapError: the old ones stay."""
        try:
            with self._opened() as folder:
                with contextlib.suppress(FileNotFoundError):  # what a killed run left
                    os.unlink(self._temporary, dir_fd=folder)
                with self._entry(folder, self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
                    data = msgspec.json.encode(token)
                    while data:
                        data = data[os.write(file, data) :]
                    os.fsync(file)
                os.rename(self._temporary, self._name, src_dir_fd=folder, dst_dir_fd=folder)
                os.fsync(folder)
        except OSError as error:
            problem = f"tokens can't be stored ({error.strerror})"
            raise TapError(problem, where=str(self.path)) from None

    @contextmanager
    def locked(self, clock: Waiter) -> Iterator[None]:
        """Holds the lock of all processes on this machine. Raises TapError after LONGEST_RENEWAL seconds of waiting."""
        end = clock.monotonic() + LONGEST_RENEWAL
        with self._opened() as folder, self._entry(folder, self._lock, os.O_RDWR | os.O_CREAT) as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if clock.monotonic() > end:
                        where = str(self._folder / self._lock)
                        raise TapError("another process has been renewing for too long", where=where) from None
                    clock.wait(0.1)
            yield

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The folder, which is made with its parents where it is missing."""
        missing = [path for path in (self._folder, *self._folder.parents) if not path.exists()]
        try:
            for path in reversed(missing):
                with contextlib.suppress(FileExistsError):
                    path.mkdir(0o700)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            problem = f"the token folder can't be used ({error.strerror})"
            raise ConfigError(problem, where=str(self._folder), hint="the setting is `token_store`") from None
        try:
            if os.fstat(folder).st_mode & 0o077 and not self._warned:
                self._warned = True
                log.warning("%s can be entered by others: chmod 700 it", self._folder)
            yield folder
        finally:
            os.close(folder)

    @contextmanager
    def _entry(self, folder: int, name: str, flags: int) -> Iterator[int]:
        try:
            file = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        except FileNotFoundError:
            raise
        except OSError as error:
            problem = f"the token file can't be opened ({error.strerror})"
            raise ConfigError(problem, where=str(self._folder / name)) from None
        try:
            yield file
        finally:
            os.close(file)


def token_file(tap: str, auth: Auth, folder: str | None) -> TokenFile | None:
    """Where the tokens of a tap's auth outlive a run; None where they need not, `folder` None for state_folder()."""
    identity = auth.kept_as()
    if identity is None:
        return None
    return TokenFile(Path(folder).expanduser().absolute() if folder else state_folder(), tap, identity)


def state_folder() -> Path:
    """Where what must outlive a run is kept, if the user names no other place."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "daykeep"
