"""`target-archive`: Singer messages on standard input into an archive, each STATE on standard output once it is safe.

It owns its read loop, its commits and its signals: the SDK's own loop may acknowledge records that were never written
when a SIGTERM arrives (github.com/meltano/sdk/issues/3775). `sdk.py` gives the SDK's `--about` and Singer's test
suites a class to work with, and is loaded for those alone: importing the SDK takes longer than archiving a small run.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import click

from target_archive.archiver import Archiver
from target_archive.drift import in_words
from target_archive.errors import ArchiveError, BadInput, BadSettings, StorageFailed
from target_archive.messages import LineReader
from target_archive.progress import Progress
from target_archive.settings import Settings, parse
from target_archive.storage import storage_of
from target_archive.writer import Writer, new_run_id, open_writer

ENVIRONMENT_PREFIX = "TARGET_ARCHIVE_"
DRIFT_STATUS = 4
_DRAIN_SECONDS = 5.0
_CHANGES_TOLD = 20

logger = logging.getLogger("target-archive")


def archive(settings: Settings, input_descriptor: int, output_descriptor: int) -> int:
    """Archive what comes until the input ends or a signal asks to stop; return the exit status."""
    run = os.environ.get("DAYKEEP_RUN_ID") or new_run_id()
    storage = storage_of(settings.root, assume_single_writer=settings.single_writer == "assumed")
    writing = open_writer(storage, settings.source, run=run, compression=settings.compression)
    with _stopping() as stop, writing as writer:
        archiver, told = Archiver(writer, settings, lambda state: _tell(output_descriptor, state)), 0
        progress = Progress(archiver)
        reader = LineReader(input_descriptor, stop.wakeup)
        try:
            while not stop.due():
                lines = reader.read(min(archiver.seconds_left(), progress.seconds_left()))
                if lines is None:
                    archiver.take_torn(reader.torn)
                    break
                archiver.take(lines)
                archiver.commit_if_due()
                told = _tell_drift(archiver, told)
                progress.show_if_due()
        except BadInput:
            archiver.finish()
            raise
        archiver.finish()
        told = _tell_drift(archiver, told)
        if told > _CHANGES_TOLD:
            logger.warning("further changes: %s; `daykeep schema log` has all", f"{told - _CHANGES_TOLD:,}")
        progress.show()
        status = _tell_outcome(archiver, writer, settings.source)
        return 128 + stop.signal if stop.signal else status


def _tell_outcome(archiver: Archiver, writer: Writer, source: str) -> int:
    """Log what a person should know of a run that has ended; return the exit status that it asks for."""
    for stream, count in archiver.changed_events.items():
        logger.warning("%s: %s events came again with other content; both versions are kept", stream, f"{count:,}")
    for problem in writer.problems:
        logger.error("%s", problem)
    for problem, count in archiver.problems.items():
        often = f" ({count:,} times)" if count > 1 else ""
        logger.error("%s%s; kept in %s/_meta/dead_letters, see `daykeep dead-letters`", problem, often, source)
    if archiver.problems or writer.problems:
        return 1
    if beyond := len(archiver.beyond_policy):
        logger.error("changes beyond policy: %s; all is archived; see `daykeep schema log`, then `ack`", f"{beyond:,}")
        return DRIFT_STATUS
    return 0


def _tell_drift(archiver: Archiver, told: int) -> int:
    """Log the changes that were just committed, but not without end; `told` counts those before."""
    for noted in archiver.news_of_drift():
        told += 1
        if told <= _CHANGES_TOLD:
            logger.warning("%s (%s): %s", noted.stream, noted.change.severity, in_words(noted.change))
    return told


def read_config(sources: tuple[str, ...]) -> dict[str, Any]:
    """The configuration from files, JSON objects, and `ENV` for TARGET_ARCHIVE_* variables. Raises BadSettings."""
    config: dict[str, Any] = {}
    for source in sources:
        if source == "ENV":
            names = Settings.__struct_fields__
            found = {name: os.environ.get(ENVIRONMENT_PREFIX + name.upper()) for name in names}
            config |= {name: value for name, value in found.items() if value is not None}
            continue
        try:
            text = source if source.lstrip().startswith("{") else Path(source).read_text()
            loaded = json.loads(text)
        except (OSError, ValueError) as error:
            raise BadSettings("the configuration cannot be read", where=source[:200], hint=str(error)) from None
        if not isinstance(loaded, Mapping):
            raise BadSettings("the configuration is not a JSON object", where=source[:200])
        config |= loaded
    return config


def _tell(descriptor: int, state: bytes) -> None:
    rest = memoryview(state + b"\n")
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        problem = "nobody reads the STATE any more" if error.errno == errno.EPIPE else "the STATE cannot be written"
        raise StorageFailed(
            problem, where=str(error), hint="everything acknowledged is kept; the next run goes on from there"
        ) from None


class _Stop:
    """A wish to stop, which a signal has set.

    SIGTERM stops at once. SIGINT reaches a tap on the same terminal too, so what that tap still has to say is taken,
    for a few seconds. A second signal ends the process on the spot, which an archive survives.
    """

    def __init__(self, wakeup: int) -> None:
        self.wakeup = wakeup
        self.signal = 0
        self._since = 0.0

    def receive(self, number: int, _frame: FrameType | None) -> None:
        if self.signal:
            os._exit(128 + number)
        self.signal, self._since = number, time.monotonic()

    def due(self) -> bool:
        if self.signal == signal.SIGINT:
            return time.monotonic() - self._since > _DRAIN_SECONDS
        return self.signal != 0


@contextmanager
def _stopping() -> Iterator[_Stop]:
    """Turn SIGTERM and SIGINT into a flag, and into a byte that wakes the read loop, while the block runs."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    stop = _Stop(reading)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    former = {number: signal.signal(number, stop.receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        os.close(reading)
        os.close(writing)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config", multiple=True, metavar="FILE|JSON|ENV", help="Settings; ENV takes TARGET_ARCHIVE_* variables."
)
@click.option("--input", "input_file", type=click.File("rb"), default="-", help="Read this file, not standard input.")
@click.option("--about", is_flag=True, help="Print what this target is and its settings, and stop.")
@click.option(
    "--format", "about_format", type=click.Choice(["text", "json", "markdown"]), default="text", help="of --about"
)
@click.version_option(version("daykeep"), prog_name="target-archive")
def main(config: tuple[str, ...], input_file: Any, *, about: bool, about_format: str) -> None:
    """Archive a Singer tap's records, raw, in a file per stream and day.

    A STATE is printed when everything before it is durable. Exit status: 0 complete, 1 error or something kept as a
    dead letter, 2 wrong settings, 4 all is archived but its shape has changed beyond policy, 11 the archive is being
    written by another process, 130 or 143 interrupted.
    """
    if about:
        from target_archive.sdk import TargetArchive  # noqa: PLC0415 - seldom needed and slow to load

        TargetArchive.print_about(about_format)
        return
    logging.raiseExceptions = False  # a standard error that cannot be written is no reason for a traceback
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    try:
        status = archive(parse(read_config(config)), input_file.fileno(), sys.stdout.fileno())
    except ArchiveError as error:
        logger.error("%s", error)  # noqa: TRY400 - a line, not a traceback
        status = error.exit_status
    except Exception as error:
        if os.environ.get("DAYKEEP_DEBUG"):
            raise
        logger.error("unexpected %s: %s (DAYKEEP_DEBUG=1 shows where)", type(error).__name__, error)  # noqa: TRY400
        status = 1
    sys.exit(status)
