"""`daykeep revisions`: what each run has changed in a day of a stream, and how good that looks."""

from __future__ import annotations

import click
import msgspec

from daykeep import options
from daykeep.root import find_root
from daykeep.show import check_day
from daykeep.terminal import printable
from target_archive.quality import Revision


@click.command()
@options.stream_argument
@click.option("--day", metavar="YYYY-MM-DD", required=True, help="The day, or `undated`.")
@options.source
@options.root
@options.as_json
def revisions(stream: str, day: str, source: str | None, root: str | None, *, as_json: bool) -> None:
    """List the revisions of a day of STREAM: what each run added, found gone, and whether it looks right.

    A revision is compared with the latest before it that is not suspect. It is suspect if it loses a field that every
    record had, or more than 20 % of the rows of a day that had been over for more than 7 days.

    \b
    --json is an array of
      {number, commit, at, run, added, gone, rows, rows_delta, fields_lost,
       null_deltas: {FIELD: SHARE}, total_deltas: {FIELD: SUM}, complete,
       suspect: [REASON], same_as, repaired, pinned}
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    archive = find_root(root).holding(stream, source)
    check_day(archive, stream, day)
    found = archive.revisions(stream, day)
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    for one in found:
        counts = f"{one.rows:,} rows, +{one.added:,} -{one.gone:,}"
        click.echo(printable(f"{one.number} · commit {one.commit} · {one.at} · {one.run} · {counts} · {_about(one)}"))
    if not found:
        click.echo("no revisions")


def _about(one: Revision) -> str:
    parts = [
        "pinned" if one.pinned else "",
        f"suspect: {'; '.join(one.suspect)}" if one.suspect else "",
        "complete" if one.complete else "not proved complete",
        f"the same as {one.same_as}" if one.same_as else "",
        "what a repair has left" if one.repaired else "",
        *(f"nulls of {path} {share:+.1%}" for path, share in one.null_deltas.items()),
        *(f"sum of {path} {total:+,.15g}" for path, total in one.total_deltas.items()),
    ]
    shown = [part for part in parts if part]
    return " · ".join(shown[:6]) + (f" · … {len(shown) - 6} more in --json" if len(shown) > 6 else "")
