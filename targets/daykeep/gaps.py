"""`daykeep gaps`: the days that are not known to be whole, why, and where the evidence stands."""

from __future__ import annotations

import gc
import sys
from functools import cache

import click
import msgspec

from daykeep import options
from daykeep.root import find_root, unknown
from daykeep.terminal import printable
from target_archive.archive import Archive
from target_archive.commit import Commit
from target_archive.coverage import Coverage, Evidence, Stretch, evidence
from target_archive.reading import read_commit
from target_archive.storage import Storage

_SHOWN = 3


@click.command()
@options.source
@options.stream
@options.root
@options.as_json
def gaps(source: str | None, stream: str | None, root: str | None, *, as_json: bool) -> None:
    """List the days that are missing, in doubt or not proved complete. Exit status 0 with or without gaps.

    \b
    --json is an array of {source, stream, first, last, days, status, cause,
      reason, commit, evidence: null | {run, at, requests: [{method, url,
      reason, status, partition, start, until}]}}
    `first` and `last` are days, both included. status is unknown, failed,
    partial, unavailable or empty_suspect; cause is transient, auth, data,
    refused, forbidden, gone, retention, skipped, lost or empty. commit is the
    number of the commit that says so, 0 for none, and evidence what it holds:
    its run, its time, and the requests that were given up.
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    gc.disable()  # what is made here is large, lives until the end, and has no cycles
    place = find_root(root)
    archives = place.archives(source)
    names = {name for archive in archives for name in archive.streams()}
    if stream is not None and stream not in names:
        raise unknown("stream", stream, names, where=str(place.path))
    found = [one for archive in archives for one in _gaps(archive, place.storage, stream)]
    if as_json:
        told = [{"source": name, **msgspec.structs.asdict(gap), "evidence": why} for name, gap, why in found]
        click.echo(msgspec.json.encode(told))
        return
    lines = [line for name, gap, why in found for line in _lines(name, gap, why)]
    sys.stdout.write("".join(f"{printable(line)}\n" for line in lines or ["no gaps"]))


def _gaps(archive: Archive, storage: Storage, stream: str | None) -> list[tuple[str, Stretch, Evidence | None]]:
    @cache
    def commit(seq: int) -> Commit:
        return read_commit(storage, archive.log.source, seq)

    known = Coverage(archive.log)
    found = [gap for name in archive.streams() if stream in {None, name} for gap in known.gaps(name)]
    return [(archive.source, gap, evidence(commit(gap.commit), gap) if gap.commit else None) for gap in found]


def _lines(source: str, gap: Stretch, why: Evidence | None) -> list[str]:
    days = gap.first if gap.days == 1 else f"{gap.first} to {gap.last}, {gap.days:,} days"
    status = gap.status.replace("_", " ") + (f" ({gap.cause})" if gap.cause else "")
    told = [f"{source} {gap.stream}: {days}: {status}: {gap.reason}"]
    if why is not None:
        told[0] += f" [commit {gap.commit}, run {why.run}]"
        told += [f"  {one.method} {one.url}: {one.reason}" for one in why.requests[:_SHOWN]]
        if len(why.requests) > _SHOWN:
            told.append(f"  and {len(why.requests) - _SHOWN:,} more requests")
    return told
