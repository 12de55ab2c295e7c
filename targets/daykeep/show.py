"""`daykeep show`: the lines of a stream, byte for byte as they are archived."""

from __future__ import annotations

import sys
from bisect import bisect
from datetime import date

import click

from daykeep import options
from daykeep.root import find_root, unknown
from target_archive import layout
from target_archive.archive import Archive
from target_archive.errors import BadSettings


@click.command()
@options.stream_argument
@options.day
@options.source
@options.root
def show(stream: str, day: str | None, source: str | None, root: str | None) -> None:
    """Print the archived lines of STREAM, all days in order, raw."""
    place = find_root(root)
    archives = place.archives(source)
    holding = [archive for archive in archives if stream in archive.streams()]
    if not holding:
        names = {name for archive in archives for name in archive.streams()}
        raise unknown("stream", stream, names, where=str(place.path))
    if len(holding) > 1:
        names = {archive.source for archive in holding}
        raise BadSettings(f"several sources have a stream `{stream}`", hint=f"use --source: {', '.join(sorted(names))}")
    archive = holding[0]
    if day:
        _check_day(archive, stream, day)
    for line in archive.lines(stream, day):
        sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def _check_day(archive: Archive, stream: str, day: str) -> None:
    held = archive.days(stream)
    if day in held or day == layout.UNDATED or archive.statuses(stream).get(day) == "empty":
        return
    try:
        date.fromisoformat(day)
    except ValueError:
        raise BadSettings(f"`{day}` is not a day", hint="write it as 2013-02-08, or `undated`") from None
    place = bisect(held, day)
    near = held[max(0, place - 1) : place + 1]
    raise BadSettings(
        f"nothing is held of `{stream}` on {day}", hint=f"nearest: {' and '.join(near)}" if near else "no day is held"
    )
