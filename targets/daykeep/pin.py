"""`daykeep pin`: which revision of a day is to be shown, until it is cleared."""

from __future__ import annotations

import click

from daykeep import options
from daykeep.root import find_root
from daykeep.show import check_day
from target_archive.errors import BadSettings
from target_archive.writer import new_run_id, open_writer


@click.command()
@options.stream_argument
@click.argument("day")
@click.option("--revision", metavar="N", type=int, help="By its number in `daykeep revisions`.")
@options.as_of
@click.option("--clear", is_flag=True, help="Show the day as it stands again.")
@options.source
@options.root
def pin(
    stream: str, day: str, revision: int | None, as_of: str | None, source: str | None, root: str | None, *, clear: bool
) -> int:
    """Have DAY of STREAM shown as one of its revisions, whatever later runs bring. Nothing is lost by it.

    `show`, `export` and every --head-policy follow a pin; --as-of and `diff` do not. Exit status 11 while a run is
    writing.
    """
    if (revision is not None) + (as_of is not None) + clear != 1:
        raise BadSettings("a pin needs one of --revision, --as-of and --clear")
    place = find_root(root)
    archive = place.holding(stream, source)
    check_day(archive, stream, day)
    seq = 0
    if not clear:
        found = archive.revisions(stream, day)
        until = archive.commit_at(as_of) if as_of is not None else archive.log.seq
        fitting = [one for one in found if revision in {None, one.number} and one.commit <= until]
        if not fitting:
            hint = f"`daykeep revisions {stream} --day {day}` lists them"
            raise BadSettings(f"there is no such revision of `{stream}` on {day}", hint=hint)
        if fitting[-1].same_as:
            raise BadSettings(f"the snapshot equals that of {fitting[-1].same_as}", hint="pin that day")
        seq = fitting[-1].commit
    changed = archive.log.day(stream, day).pin != seq
    if changed:
        with open_writer(place.storage, archive.source, run=new_run_id()) as writer:
            writer.pin(stream, day, seq)
    click.echo(f"{stream} {day}: " + (f"pinned to commit {seq}" if seq else "not pinned"))
    return 0
