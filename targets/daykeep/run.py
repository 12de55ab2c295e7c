"""`daykeep run`: one run of a tap into the archive, from the archive's own STATE, and the record of how it ended."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from daykeep import options, runs
from daykeep.pipeline import Outcome, run_pipeline
from daykeep.root import find_root, unknown
from daykeep.runs import RunRecord, Status
from daykeep.terminal import say, summary, watching
from target_archive.errors import ArchiveError, BadSettings
from target_archive.log import Log
from target_archive.reading import read_commits
from target_archive.settings import parse
from target_archive.storage import Storage
from target_archive.target import DRIFT_STATUS, read_config
from target_archive.writer import new_run_id, open_writer

_TAP_STATUSES: dict[int, Status] = {3: "partial", 75: "postponed", 130: "interrupted", 143: "interrupted"}


@click.command()
@click.argument("tap")
@click.argument("tap_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- TAP OPTIONS]")
@click.option("--source", metavar="NAME", help="Name of the source in the archive. Default: the tap's name.")
@click.option("--full", is_flag=True, help="Read everything again: the tap is not given the archive's STATE.")
@options.root
def run(tap: str, tap_options: tuple[str, ...], source: str | None, root: str | None, *, full: bool) -> int:
    """Run TAP, any Singer tap, into the archive, from where the last run ended.

    TAP is a name or a path; what follows `--` is given to it. Settings of target-archive are taken from the nearest
    meltano.yml and from TARGET_ARCHIVE_* variables. The run is complete only when tap and target both ended well.

    Exit status: 0 complete, 1 failed, 2 wrong usage or settings, 3 some of the tap's streams failed, 4 complete, but
    the shape of the data has changed beyond policy, 11 the archive is being written by another process, 75 the API
    asked to come back later, 130 or 143 interrupted.
    """
    if any(option.split("=")[0] in {"--state", "-s"} for option in tap_options):
        raise BadSettings("`--state` is not yours to give", hint="the archive holds the STATE; --full leaves it out")
    place = find_root(root)
    name = Path(tap).name.removesuffix(".py")
    storage, source = place.storage, source or name
    settings = {**place.settings, **read_config(("ENV",)), "root": str(storage.root), "source": source}
    parse(settings)
    tap_path, target_path = executable(tap), executable("target-archive")
    run_id = new_run_id()
    with open_writer(storage, source, run=run_id) as writer:
        log = writer.log  # whatever is wrong with the archive is said before the tap makes its first request
    started = datetime.now(UTC)
    with watching() as watcher, _state_file(None if full else log.state) as state:
        command = [tap_path, *tap_options, *state], [target_path, "--config", json.dumps(settings)]
        outcome = run_pipeline(*command, run=run_id, name=name, watcher=watcher)
        status, exit_status, error = verdict(outcome)
        commits = _commits(storage, log, run_id)
        record = RunRecord(
            run=run_id,
            status=status,
            exit_status=exit_status,
            command=runs.redacted([tap, *tap_options]),
            full=full,
            started=_time(started),
            ended=_time(datetime.now(UTC)),
            tap_exit=outcome.tap.status,
            target_exit=outcome.target.status,
            streams=outcome.counts,
            first_commit=min(commits, default=None),
            last_commit=max(commits, default=None),
            error=error,
            words=tuple(f"{side.name}: {word}" for side in outcome.failed for word in side.words),
        )
        runs.write(storage, source, record)
    seconds = (datetime.now(UTC) - started).total_seconds()
    say(f"{status} in {seconds:.1f} s: {summary(outcome.counts)}" + (f"; {error}" if error else ""))
    return exit_status


def verdict(outcome: Outcome) -> tuple[Status, int, str]:
    """What became of a run: its status, our exit status, and the error in one line."""
    tap, target = outcome.tap, outcome.target
    error = "; ".join(map(str, outcome.failed))
    if outcome.asked_to_stop:
        return "interrupted", 128 + outcome.asked_to_stop, str(target) if target.status else ""
    drift = target.status == DRIFT_STATUS  # which it knows at the end of its input only
    if target.status and outcome.target_first and not drift:  # what the tap said then is only that nobody was listening
        return "failed", max(target.status, 1), str(target)
    if tap.status and tap.status not in _TAP_STATUSES:
        return "failed", 1, error
    if target.status and not drift:
        return "failed", max(target.status, 1), error
    if tap.status:
        return _TAP_STATUSES[tap.status], tap.status, error
    if drift:
        return "drift", DRIFT_STATUS, str(target)
    return "complete", 0, ""


def executable(name: str) -> str:
    """The path of a command: as given, beside our own Python, or on PATH. Raises BadSettings where there is none."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    if found := shutil.which(name, path=places):
        return os.path.abspath(found)  # noqa: PTH100 - a link of a virtual environment must not be followed
    if os.sep in name:
        problem = "cannot be executed" if Path(name).is_file() else "does not exist"
        raise BadSettings(f"`{name}` {problem}", hint="chmod +x makes a script executable")
    taps = {path.name for place in places.split(os.pathsep) for path in Path(place or ".").glob("tap-*")}
    raise unknown("command", name, taps, where="on PATH")


@contextmanager
def _state_file(state: msgspec.Raw | None) -> Iterator[list[str]]:
    """The tap's option that names a file with the STATE, which only we may read; no option without a STATE."""
    if state is None:
        yield []
        return
    with tempfile.NamedTemporaryFile(prefix="daykeep-state-", suffix=".json") as file:
        file.write(state)
        file.flush()
        yield ["--state", file.name]


def _commits(storage: Storage, log: Log, run_id: str) -> list[int]:
    """The numbers of the commits that the run has added."""
    try:
        return [commit.seq for commit, _ in read_commits(storage, log.source, after=log.seq) if commit.run == run_id]
    except ArchiveError:
        return []  # the next opening of the archive tells what is wrong; the run's record must not be lost for it


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
