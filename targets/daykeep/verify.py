"""`daykeep verify`: reads the whole archive and tells what is not as it was written."""

from __future__ import annotations

import click
import msgspec
from rich.console import Console

from daykeep import options
from daykeep.root import Root, find_root, unknown
from daykeep.terminal import printable
from target_archive import integrity, layout
from target_archive.errors import ArchiveError
from target_archive.integrity import Finding


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
        for folder in chosen_folders(place, source):
            name = integrity.name_of(folder) or folder
            progress.update(f"reading every file of {printable(name)} …")
            try:
                found += [(name, finding) for finding in integrity.verify(place.storage, folder)]
            except ArchiveError as error:  # what cannot be read does not keep the other sources from being checked
                found.append((name, Finding(error.where, f"{error.problem}: {error.hint}")))
    if as_json:
        click.echo(
            msgspec.json.encode([{"source": name, **msgspec.structs.asdict(finding)} for name, finding in found])
        )
    else:
        tell_findings([finding for _, finding in found])
        click.echo(f"findings: {len(found):,}" if found else "all is as it was written")
    return 1 if found else 0


def chosen_folders(place: Root, source: str | None) -> list[str]:
    """The folder of the one source, or of all, also where `format.json` cannot be read."""
    folders = integrity.folders(place.storage)
    if not folders:
        place.sources()  # says that there is none
    if source is None:
        return folders
    if (folder := layout.safe_name(source)) not in folders:
        names = {integrity.name_of(one) or one for one in folders}
        raise unknown("source", source, names, where=f"{place.path}, from {place.origin}")
    return [folder]


def tell_findings(found: list[Finding]) -> None:
    for finding in found:
        click.echo(f"{printable(finding.path)}: {printable(finding.problem)}")
