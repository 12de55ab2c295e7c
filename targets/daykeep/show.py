"""`daykeep show`: the records of a stream, byte for byte as they are archived, as they stand or stood."""

from __future__ import annotations

import sys
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from functools import partial
from itertools import chain, islice
from typing import get_args

import click
import msgspec

from daykeep import options
from daykeep.root import find_root
from daykeep.terminal import say
from target_archive import layout
from target_archive.archive import Archive
from target_archive.errors import BadSettings
from target_archive.quality import Policy


@click.command()
@options.stream_argument
@options.day
@options.as_of
@click.option("--first", is_flag=True, help="The version of each record that came first, gone or not.")
@click.option("--all-versions", is_flag=True, help="Every archived line, in the order of arrival.")
@click.option("--head-policy", type=click.Choice(get_args(Policy)), default="latest", help="Which revision of a day.")
@click.option("--limit", metavar="N", type=click.IntRange(min=0), help="At most so many records.")
@options.source
@options.root
@options.as_json
def show(
    stream: str,
    day: str | None,
    as_of: str | None,
    head_policy: Policy,
    limit: int | None,
    source: str | None,
    root: str | None,
    *,
    first: bool,
    all_versions: bool,
    as_json: bool,
) -> None:
    """Print the records of STREAM, all days in order, each the bytes that came.

    Of each record the latest version is shown, and none that a complete read found to be gone. A pinned day is shown
    as pinned, unless --as-of is given. --head-policy: `latest`; `latest_complete`, the latest revision that a complete
    read has proved and that is not suspect; `max_rows`; `pinned`, pinned days only.

    \b
    --json goes with --all-versions, and prints a line for each:
      {day, line, commit, at, gone, record}
    `line` counts the lines of the day from 1; `gone` is null, or when a
    complete read found it to be gone.
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    if first + all_versions + (head_policy != "latest") > 1:
        raise BadSettings("--first, --all-versions and --head-policy are three ways to choose", hint="use one")
    if as_json and not all_versions:
        raise BadSettings("--json goes with --all-versions", hint="without it, what is printed is JSON already")
    archive = find_root(root).holding(stream, source)
    if day:
        check_day(archive, stream, day)
    seq = archive.commit_at(as_of) if as_of is not None else None
    left_out: list[str] = []
    read: Callable[[str], Iterable[bytes]] = partial(_view, archive, stream, seq, head_policy, left_out)
    if first:
        read = partial(archive.first, stream, as_of=seq)
    elif all_versions:
        read = partial(_versions, archive, stream, as_of=seq, as_json=as_json)
    days = [day] if day else [*archive.days(stream), layout.UNDATED]
    for line in islice(chain.from_iterable(map(read, days)), limit):
        sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()
    if left_out:
        where = left_out[0] if len(left_out) == 1 else f"{len(left_out):,} days, {left_out[0]} to {left_out[-1]}"
        say(f"left out, for want of a revision that is complete and not suspect: {where}")


def _view(
    archive: Archive, stream: str, as_of: int | None, policy: Policy, left_out: list[str], day: str
) -> list[bytes]:
    shown = archive.view(stream, day, as_of=as_of, policy=policy)
    if policy == "latest_complete" and not shown and archive.view(stream, day, as_of=as_of):
        left_out.append(day)
    return shown


def _versions(archive: Archive, stream: str, day: str, as_of: int | None, *, as_json: bool) -> Iterator[bytes]:
    for version in archive.versions(stream, day, as_of=as_of):
        told = {"day": day, **msgspec.structs.asdict(version)}
        yield msgspec.json.encode(told) if as_json else bytes(version.record)


def check_day(archive: Archive, stream: str, day: str) -> None:
    """Raise BadSettings for a text that is no day, or a day of which nothing is held or known."""
    held = archive.days(stream)
    if day in held or day == layout.UNDATED or archive.statuses(stream).get(day) in {"empty", "empty_suspect"}:
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
