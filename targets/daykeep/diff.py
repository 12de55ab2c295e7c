"""`daykeep diff`: what became of a day's records from one time to another."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from daykeep import options
from daykeep.root import find_root
from daykeep.show import check_day
from daykeep.terminal import printable
from target_archive.views import Field


@click.command()
@options.stream_argument
@click.argument("day")
@click.argument("before", metavar="T1")
@click.argument("after", metavar="[T2]", required=False)
@options.source
@options.root
@options.as_json
def diff(
    stream: str, day: str, before: str, after: str | None, source: str | None, root: str | None, *, as_json: bool
) -> None:
    """Show how DAY of STREAM differs as of T1 and as of T2, or as it stands: records added, removed, changed.

    T1 and T2 are days (their end, in UTC), times such as 2024-05-01T12:00:00+02:00, or numbers of commits as
    `daykeep revisions` lists them. Pins are left aside. Exit status 0 with or without a difference.

    \b
    --json is an object
      {added: [{key: {NAME: VALUE}, record}], removed: [{key, record}],
       changed: [{key, fields: [{path, before, after}]}]}
    `before` or `after` is left out where the field is missing. In a stream
    without keys, a changed record is one removed and one added.
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    archive = find_root(root).holding(stream, source)
    check_day(archive, stream, day)
    found = archive.diff(stream, day, before, after)
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    for mark, rows in (("+", found.added), ("-", found.removed)):
        for row in rows:
            click.echo(printable(f"{mark} {bytes(row.record).decode()}"))
    for changed in found.changed:
        fields = ", ".join(_in_words(field) for field in changed.fields) or "the same in other bytes"
        click.echo(printable(f"~ {msgspec.json.encode(changed.key).decode()}: {fields}"))
    if not (found.added or found.removed or found.changed):
        click.echo("no difference")


def _in_words(field: Field) -> str:
    before, after = (_text(value) for value in (field.before, field.after))
    return f"{field.path or 'record'} {before} → {after}"


def _text(value: Any) -> str:
    return bytes(value).decode() if isinstance(value, msgspec.Raw) else "missing"
