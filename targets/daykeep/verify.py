"""`daykeep verify`: reads the whole archive and tells what is not as it was written."""

from __future__ import annotations

import click
import msgspec
from rich.console import Console

from daykeep import options
from daykeep.root import find_root
from daykeep.terminal import printable
from target_archive.archive import Archive, Finding
from target_archive.errors import ArchiveError


@click.command()
@options.source
@options.root
@options.as_json
def verify(source: str | None, root: str | None, *, as_json: bool) -> int:
    """Check every file against the commit log. Exit status 0: all is well, 1: something is not.

    --json is an array of {source, path, problem}; `path` is relative to the root.
    """
    place = find_root(root)
    found: list[tuple[str, Finding]] = []
    with Console(stderr=True).status("") as progress:
        for name in place.chosen(source):
            progress.update(f"reading every file of {printable(name)} …")
            try:
                found += [(name, finding) for finding in Archive(place.path, name).verify()]
            except (
                ArchiveError
            ) as error:  # a log that cannot be read does not keep the other sources from being checked
                found.append((name, Finding(error.where, f"{error.problem}: {error.hint}")))
    if as_json:
        click.echo(
            msgspec.json.encode([{"source": name, **msgspec.structs.asdict(finding)} for name, finding in found])
        )
    else:
        for _, finding in found:
            click.echo(f"{printable(finding.path)}: {printable(finding.problem)}")
        click.echo(f"findings: {len(found):,}" if found else "all is as it was written")
    return 1 if found else 0
