"""`daykeep seal`: makes the files of finished days as small as they get."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click
import msgspec

from daykeep import options
from daykeep.root import find_root
from daykeep.terminal import printable, say
from target_archive.errors import BadSettings
from target_archive.sealing import Sealed
from target_archive.sealing import seal as sealing
from target_archive.writer import new_run_id, open_writer


@click.command()
@click.option("--older-than", metavar="DAYS", default="30d", show_default=True, help="Days that ended so long ago.")
@options.source
@options.stream
@options.root
@options.as_json
def seal(older_than: str, source: str | None, stream: str | None, root: str | None, *, as_json: bool) -> int:
    """Compress the files of finished days anew, whole and at the highest level. Their text stays the same.

    --json is an array of {source, path, before, after}: bytes of each file that got smaller.
    """
    found = re.fullmatch(r"(\d{1,5})d?", older_than)
    if not found:
        raise BadSettings(f"`{older_than}` is not a number of days", hint="write it as 30d")
    until = (datetime.now(UTC).date() - timedelta(days=int(found[1]))).isoformat()
    place = find_root(root)
    storage, problems = place.storage, list[str]()
    sealed: list[tuple[str, Sealed]] = []
    archives = place.archives(source) if stream is None else [place.holding(stream, source)]
    for archive in archives:
        with open_writer(storage, archive.source, run=new_run_id()) as writer:
            sealed += [(archive.source, one) for one in sealing(storage, writer, until=until, stream=stream)]
            problems += writer.problems
    for problem in problems:
        say(problem)
    if as_json:
        click.echo(msgspec.json.encode([{"source": name, **msgspec.structs.asdict(one)} for name, one in sealed]))
    else:
        for _, one in sealed:
            click.echo(f"{printable(one.path)}: {one.before:,} to {one.after:,} bytes")
        saved = sum(one.before - one.after for _, one in sealed)
        click.echo(f"files: {len(sealed):,}, saved: {saved:,} bytes" if sealed else "nothing to gain")
    return 1 if problems else 0
