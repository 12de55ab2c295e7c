"""A tap and a target as processes with a pipe between them: started, watched, stopped, and how each of them ended.

The records go from one to the other through the kernel alone. An end of input is no success: a target sees the same
when its tap has died, so only who holds both exit statuses can say that a run is complete.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Thread
from types import FrameType
from typing import IO, Any

import msgspec

from daykeep.terminal import Counts, Watcher, printable
from target_archive.errors import BadSettings
from target_archive.progress import ENVIRONMENT_VARIABLE

_GRACE_SECONDS = 5.0
_LAST_WORDS = 10
_LONGEST_LINE = 1 << 16


class Ending(msgspec.Struct, frozen=True):
    """How a process ended: its exit status, negative for the signal that killed it, and its last lines of stderr."""

    name: str
    status: int
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.status < 0:
            return f"{self.name} was killed by signal {-self.status}"
        return f"{self.name} ended with status {self.status}" + (f": {self.words[-1]}" if self.words else "")


class Outcome(msgspec.Struct, frozen=True):
    """How both sides ended.

    `target_first` says that the target did not wait for the end of its input; `asked_to_stop` is the signal that came
    while the tap was at work, or 0; `counts` is the last that the target told of its progress.
    """

    tap: Ending
    target: Ending
    target_first: bool
    asked_to_stop: int
    counts: dict[str, Counts]

    @property
    def failed(self) -> list[Ending]:
        return [side for side in (self.tap, self.target) if side.status]


class _Progress(msgspec.Struct):
    progress: dict[str, Counts]


class _Side:
    """One process, in a session of its own: a terminal's Ctrl-C reaches it through us alone."""

    def __init__(self, command: Sequence[str], watcher: Watcher, *, label: str = "", **streams: Any) -> None:
        self.name = os.path.basename(command[0])  # noqa: PTH119 - a name, whatever the path
        self.words: deque[str] = deque(maxlen=_LAST_WORDS)
        self.counts: dict[str, Counts] = {}
        self._watcher, self._label = watcher, label
        try:
            self.process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True, **streams)
        except (OSError, ValueError) as error:
            raise BadSettings(f"{self.name} cannot be started", where=command[0], hint=str(error)) from None
        self._reader = Thread(target=self._read, args=[self.process.stderr], daemon=True)
        self._reader.start()

    def send(self, number: int) -> None:
        """To the process and its children: a shell script does not hand signals on."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def ending(self) -> Ending:
        self._reader.join(_GRACE_SECONDS)  # not for ever: a child that outlives the process may keep stderr open
        return Ending(self.name, self.process.wait(), tuple(self.words))

    def _read(self, stderr: IO[bytes]) -> None:
        with stderr:
            while line := stderr.readline(_LONGEST_LINE):
                with suppress(Exception):  # whatever fails in showing a line (our stderr may be gone), the pipe is read
                    self._take(line)

    def _take(self, line: bytes) -> None:
        if line.startswith(b'{"progress"'):
            with suppress(msgspec.DecodeError):
                self.counts = msgspec.json.decode(line, type=_Progress).progress
                self._watcher.progress(self.counts)
                return
        text = printable(line.decode(errors="replace").rstrip()).removeprefix(f"{self.name}: ")
        if text:
            self.words.append(text)
            self._watcher.line(self._label + text)


class _Stop:
    """Wishes to stop: the first asks the tap to finish its page, the second kills it, the third kills the target too.

    Until then the target is left alone: its input ends with the tap, and what has come is archived.
    """

    def __init__(self) -> None:
        self.count, self.signal = 0, 0
        self.tap: _Side | None = None
        self.target: _Side | None = None

    def receive(self, number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1 and (self.tap is None or self.tap.process.returncode is None):
            self.signal = number
        self.pass_on()

    def pass_on(self) -> None:
        if self.tap and self.count:
            self.tap.send(signal.SIGTERM if self.count == 1 else signal.SIGKILL)
        if self.target and self.count > 2:
            self.target.send(signal.SIGKILL)


def run_pipeline(tap: Sequence[str], target: Sequence[str], *, run: str, name: str, watcher: Watcher) -> Outcome:
    """Run `tap | target` to its end, or to a signal's. Raises BadSettings where one cannot be started."""
    reading, writing = os.pipe()
    environment = {**os.environ, "DAYKEEP_RUN_ID": run, ENVIRONMENT_VARIABLE: "json"}
    with _stopping() as stop:
        try:
            stop.target = _Side(target, watcher, stdin=reading, stdout=subprocess.DEVNULL, env=environment)
            stop.tap = _Side(tap, watcher, label=f"{name}: ", stdin=subprocess.DEVNULL, stdout=writing)
        finally:
            # each end in one process only: so each side notices the other's death
            os.close(reading)
            os.close(writing)
        stop.pass_on()
        target_first = _wait(stop.tap, stop.target)
        return Outcome(stop.tap.ending(), stop.target.ending(), target_first, stop.signal, stop.target.counts)


def _wait(tap: _Side, target: _Side) -> bool:
    """Wait for both; return whether the target ended first."""
    ended: queue.SimpleQueue[_Side] = queue.SimpleQueue()

    def wait_for(side: _Side) -> None:
        side.process.wait()
        ended.put(side)

    for side in (tap, target):
        Thread(target=wait_for, args=[side], daemon=True).start()
    first = ended.get()
    if first is tap or target.process.returncode == 0:
        ended.get()
        return first is target
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(queue.Empty):
            ended.get(timeout=_GRACE_SECONDS)
            return True
        tap.send(number)  # it waits for something else than for a reader
    ended.get()
    return True


@contextmanager
def _stopping() -> Iterator[_Stop]:
    """Receive the signals that ask to stop while the block runs; one that is ignored, as under nohup, stays ignored."""
    stop = _Stop()
    former: Mapping[int, Any] = {
        number: signal.signal(number, stop.receive)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
