"""`daykeep status`: what the archive holds, stream by stream and day by day, and how the last run ended."""

from __future__ import annotations

import gc
import math
import sys
from collections import Counter

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from daykeep import options, runs
from daykeep.calendar import calendar, legend
from daykeep.root import Root, find_root, unknown
from daykeep.terminal import printable
from target_archive import layout
from target_archive.archive import Archive
from target_archive.coverage import GAPS, PROVED, Coverage, Status, unbroken
from target_archive.errors import ArchiveError
from target_archive.storage import Storage


class LastRun(msgspec.Struct, frozen=True):
    """How the last run ended; a run without a record is still at work, was killed, or was not started by `daykeep`."""

    run: str
    ended: str
    status: str
    error: str = ""


class StreamStatus(msgspec.Struct, frozen=True):
    """What is held of a stream. `coverage` is the share of its days that is proved, null where no day can be.

    The days from `frontier` to `proved_until` are the latest that are proved without a hole.
    """

    stream: str
    records: int
    undated: int
    days: int
    first: str | None
    last: str | None
    coverage: float | None
    frontier: str | None
    proved_until: str | None
    statuses: dict[Status, int]
    calendar: dict[str, Status] = {}


class SourceStatus(msgspec.Struct, frozen=True):
    """A source; `problem` says why its archive cannot be read."""

    source: str
    commits: int = 0
    dead_letters: int = 0
    last_run: LastRun | None = None
    streams: list[StreamStatus] = []
    problem: str = ""


@click.command()
@options.source
@options.stream
@options.root
@click.option("--calendar/--no-calendar", "with_calendar", default=True, help="With a calendar of each stream.")
@options.as_json
def status(source: str | None, stream: str | None, root: str | None, *, with_calendar: bool, as_json: bool) -> int:
    """Show what is held: streams, days, records, coverage, the last run, and a calendar.

    \b
    --json is an array of
      {source, commits, dead_letters, problem,
       last_run: null | {run, ended, status, error},
       streams: [{stream, records, undated, days, first, last, coverage,
                  frontier, proved_until,
                  statuses: {STATUS: days}, calendar: {DAY: STATUS}}]}
    STATUS is present or empty (proved by complete reads), empty_suspect,
    partial, failed, unavailable, unknown, out_of_scope or open. coverage, 0
    to 1, is the share of days, open and out_of_scope ones apart, that are
    proved; frontier is the earliest day from which on all are, up to
    proved_until.
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    gc.disable()  # what is made here is large, lives until the end, and has no cycles
    place = find_root(root)
    found = [_source_status(place, name, stream) for name in place.chosen(source)]
    readable = [one for one in found if not one.problem]
    if stream is not None and readable and not any(one.streams for one in readable):
        names = {name for one in readable for name in Archive(place.path, one.source).streams()}
        raise unknown("stream", stream, names, where=str(place.path))
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        _print(found, with_calendar=with_calendar)
    return 0 if len(readable) == len(found) else 1


def _source_status(place: Root, source: str, stream: str | None) -> SourceStatus:
    try:
        archive = Archive(place.path, source)
    except ArchiveError as error:  # one source that cannot be read does not hide the others
        return SourceStatus(source, problem=str(error))
    known = Coverage(archive.log)
    return SourceStatus(
        source,
        commits=archive.log.seq,
        dead_letters=archive.log.open_letters,
        last_run=_last_run(archive, place.storage),
        streams=[_stream_status(archive, known, name) for name in archive.streams() if stream in {None, name}],
    )


def _last_run(archive: Archive, storage: Storage) -> LastRun | None:
    record, log = runs.last(storage, archive.source), archive.log
    if record and (record.run == log.last_run or record.ended >= log.last_at):
        return LastRun(record.run, record.ended, record.status, record.error)
    return LastRun(log.last_run, log.last_at, "not recorded") if log.last_run else None


def _stream_status(archive: Archive, known: Coverage, stream: str) -> StreamStatus:
    days = archive.days(stream)
    facts = archive.log.streams[stream]
    statuses = known.statuses(stream) if facts.day_field or facts.mode != "event" else {}
    counts = Counter(statuses.values())
    closed = counts.total() - counts["open"] - counts["out_of_scope"]
    frontier, until = unbroken(statuses) or (None, None)
    return StreamStatus(
        stream=stream,
        records=archive.count(stream),
        undated=archive.log.lines_of(stream, layout.UNDATED),
        days=len(days),
        first=days[0] if days else None,
        last=days[-1] if days else None,
        coverage=sum(counts[status] for status in PROVED) / closed if closed else None,
        frontier=frontier,
        proved_until=until,
        statuses=dict(counts),
        calendar=statuses,
    )


def _print(found: list[SourceStatus], *, with_calendar: bool) -> None:
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    for one in found:
        console.print(Text(printable(one.source), "bold"), Text(_about(one)))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for heading in ("stream", "records", "days", "from", "to", "proved", "since", "gaps"):
            table.add_column(heading, justify="left" if heading in {"stream", "from", "to", "since"} else "right")
        for stream in one.streams:
            table.add_row(*map(Text, _row(stream)))
        if one.streams:
            console.print(table)
        drawn = [stream for stream in one.streams if with_calendar and stream.calendar]
        for stream in drawn:
            console.print(Text("\n").join([Text(printable(stream.stream), "bold"), *calendar(stream.calendar), Text()]))
        for line in legend({status for stream in drawn for status in stream.statuses}) if drawn else ():
            console.print(line)


def _about(one: SourceStatus) -> str:
    if one.problem:
        return f"cannot be read: {one.problem}"
    last = one.last_run
    parts = [
        f"last run {last.run} {last.status}" + (f": {printable(last.error)}" if last.error else "")
        if last
        else "no run",
        f"dead letters: {one.dead_letters:,}" if one.dead_letters else "",
    ]
    return " · ".join(filter(None, parts))


def _row(stream: StreamStatus) -> tuple[str, ...]:
    gaps = sum(stream.statuses.get(status, 0) for status in GAPS)
    return (
        printable(stream.stream),
        f"{stream.records:,}" + (f" ({stream.undated:,} undated)" if stream.undated else ""),
        f"{stream.days:,}",
        stream.first or "",
        stream.last or "",
        f"{math.floor(stream.coverage * 1000) / 10}%" if stream.coverage is not None else "",
        stream.frontier or "",
        f"{gaps:,}" if gaps else "",
    )
