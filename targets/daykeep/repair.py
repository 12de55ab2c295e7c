"""`daykeep repair`: mends what `verify` finds, and keeps what it found."""

from __future__ import annotations

import click
import msgspec

from daykeep import options
from daykeep.root import find_root
from daykeep.terminal import printable
from daykeep.verify import chosen_folders, tell_findings
from target_archive import integrity
from target_archive import repair as repairing
from target_archive.errors import ArchiveError, ArchiveLocked
from target_archive.integrity import Finding
from target_archive.repair import Mended
from target_archive.writer import new_run_id


@click.command()
@options.source
@options.root
@click.option("--strangers", is_flag=True, help="Move files aside that the commit log does not name.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@options.as_json
def repair(source: str | None, root: str | None, *, strangers: bool, dry_run: bool, as_json: bool) -> int:
    """Mend what `verify` finds. Exit status 0: all is well now, 1: something is left.

    Of a damaged day the lines stay that are proved to be as they were written, and the day counts as partly held until
    a complete read has covered it again. Every damaged file is kept as it was found, below _meta/damaged.

    \b
    --json is {mended: [{source, path, done, lost, saved}], left: [{source, path, problem}]};
    `lost` counts lines, `saved` is where the file lies as it was found, "" for nowhere.
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    place = find_root(root)
    mended: list[tuple[str, Mended]] = []
    left: list[tuple[str, Finding]] = []
    for folder in chosen_folders(place, source):
        name, run = integrity.name_of(folder) or folder, new_run_id()
        try:
            done = repairing.repair(place.storage, folder, run=run, strangers=strangers, dry_run=dry_run)
        except ArchiveLocked:
            raise
        except ArchiveError as error:  # one source that cannot be mended does not keep the others from it
            left.append((name, Finding(error.where, f"{error.problem}: {error.hint}")))
        else:
            mended += [(name, one) for one in done.mended]
            left += [(name, one) for one in done.left]
    if as_json:
        told = {
            what: [{"source": name, **msgspec.structs.asdict(one)} for name, one in found]
            for what, found in (("mended", mended), ("left", left))
        }
        click.echo(msgspec.json.encode(told))
    else:
        _print([one for _, one in mended], [one for _, one in left], dry_run=dry_run)
    return 1 if left or (dry_run and mended) else 0


def _print(mended: list[Mended], left: list[Finding], *, dry_run: bool) -> None:
    for one in mended:
        lost = f"; lines lost: {one.lost:,}" if one.lost else ""
        saved = f"; as it was found: {printable(one.saved)}" if one.saved else ""
        click.echo(f"{printable(one.path)}: {printable(one.done)}{lost}{saved}")
    tell_findings(left)
    if dry_run and mended:
        click.echo("nothing was touched: leave out --dry-run to have this done")
    elif not mended and not left:
        click.echo("all is as it was written")
    if left:
        click.echo(f"left as they are: {len(left):,}; --strangers moves files aside that the commit log does not name")
