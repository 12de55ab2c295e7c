"""`daykeep gaps`: the days that no run has covered or proved complete."""

from __future__ import annotations

import click
import msgspec

from daykeep import options
from daykeep.root import find_root, unknown
from daykeep.terminal import printable


@click.command()
@options.source
@options.stream
@options.root
@options.as_json
def gaps(source: str | None, stream: str | None, root: str | None, *, as_json: bool) -> None:
    """List the days that are missing or not proved complete. Exit status 0 with or without gaps.

    --json is an array of {source, stream, first, last, days, reason}; `first` and `last` are days, both included.
    """
    place = find_root(root)
    archives = place.archives(source)
    names = {name for archive in archives for name in archive.streams()}
    if stream is not None and stream not in names:
        raise unknown("stream", stream, names, where=str(place.path))
    found = [
        (archive.source, gap)
        for archive in archives
        for name in archive.streams()
        if stream in {None, name}
        for gap in archive.gaps(name)
    ]
    if as_json:
        click.echo(msgspec.json.encode([{"source": name, **msgspec.structs.asdict(gap)} for name, gap in found]))
        return
    for name, gap in found:
        days = gap.first if gap.days == 1 else f"{gap.first} to {gap.last}, {gap.days:,} days"
        click.echo(f"{printable(name)} {printable(gap.stream)}: {days}: {gap.reason}")
    if not found:
        click.echo("no gaps")
