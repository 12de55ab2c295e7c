"""Options that several verbs share, and what the Tab key offers for them."""

from __future__ import annotations

import click

from daykeep.root import ENVIRONMENT_VARIABLE, find_root
from target_archive.archive import Archive
from target_archive.errors import ArchiveError


def _archives(context: click.Context) -> list[Archive]:
    try:
        return find_root(context.params.get("root")).archives(context.params.get("source"))
    except ArchiveError:
        return []  # nothing to offer; the command itself will say what is wrong


def source_names(context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
    return [archive.source for archive in _archives(context) if archive.source.startswith(typed)]


def _streams(context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
    names = {stream for archive in _archives(context) for stream in archive.streams()}
    return sorted(name for name in names if name.startswith(typed))


root = click.option(
    "--root",
    metavar="FOLDER",
    type=click.Path(),
    help=f"The archive; or ${ENVIRONMENT_VARIABLE}, target-archive's root in the nearest meltano.yml, or ./archive",
)
source = click.option("--source", metavar="NAME", shell_complete=source_names, help="This source only.")
stream = click.option("--stream", metavar="NAME", shell_complete=_streams, help="This stream only.")
stream_argument = click.argument("stream", shell_complete=_streams)
day = click.option("--day", metavar="YYYY-MM-DD", help="This day only, or `undated`.")
as_of = click.option("--as-of", metavar="TIME", help="As it stood then: a day (its end, UTC), a time, or a commit.")
as_json = click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")
