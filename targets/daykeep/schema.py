"""`daykeep schema`: what the records of each stream look like, how that has changed, and that someone has seen it."""

from __future__ import annotations

import sys

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from daykeep import options
from daykeep.root import Root, find_root, unknown
from daykeep.terminal import printable
from target_archive import layout
from target_archive.archive import Archive
from target_archive.drift import Presence, declared, in_words, load_sample
from target_archive.reading import read_commits
from target_archive.shape import places
from target_archive.storage import Storage
from target_archive.writer import new_run_id, open_writer


class Field(msgspec.Struct, frozen=True):
    """A place in a stream's records.

    `presence` is the share of the objects around it that have it, `nulls` the share of nulls among its values, both
    from a sample; `first_seen` is when the first record that had it was archived, `last_seen` the day of the last
    sampled one.
    """

    field: str
    types: tuple[str, ...]
    declared: tuple[str, ...]
    presence: float | None
    nulls: float | None
    first_seen: str | None
    last_seen: str | None


@click.group(invoke_without_command=True)
@click.pass_context
def schema(context: click.Context) -> int | None:
    """Show what records look like, how that has changed, and acknowledge it.

    The shape of every record is compared with all before it. Without a command: `show`.
    """
    return context.invoke(show) if context.invoked_subcommand is None else None


@schema.command()
@options.source
@options.stream
@options.root
@options.as_json
def show(source: str | None, stream: str | None, root: str | None, *, as_json: bool) -> None:
    """Show every field: types, how often it is there and null, first and last seen.

    `payload.commits[].sha` is a field of the objects in an array, `labels.*` any key of a map.

    \b
    --json is an array of
      {source, stream, fields: [{field, types, declared, presence, nulls,
                                 first_seen, last_seen}]}
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    place = find_root(root)
    found = [
        (archive.source, name, _fields(archive, place.storage, name))
        for archive, name in _streams(place, source, stream)
    ]
    if as_json:
        click.echo(msgspec.json.encode([{"source": one, "stream": name, "fields": all_} for one, name, all_ in found]))
        return
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    for one, name, fields in found:
        console.print(Text(printable(f"{one} {name}"), "bold"))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("field", "types", "there", "null", "first archived", "last day"):
            table.add_column(heading, justify="right" if heading in {"there", "null"} else "left")
        for field in fields:
            shares = (_percent(field.presence), _percent(field.nulls))
            table.add_row(
                Text(printable(field.field)),
                " ".join(field.types),
                *shares,
                (field.first_seen or "")[:10],
                field.last_seen,
            )
        console.print(table)


@schema.command()
@options.source
@options.stream
@options.root
@options.as_json
def log(source: str | None, stream: str | None, root: str | None, *, as_json: bool) -> None:
    """List every change, oldest first; those that nobody has acknowledged are marked with `!`.

    `daykeep show STREAM --day DAY --all-versions | sed -n LINEp` prints the record that showed a change first.

    \b
    --json is an array of
      {source, stream, kind, path, severity, before, after, day, line, commit,
       run, at, acknowledged}
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    found = [
        (archive.source, noted)
        for archive, name in _streams(find_root(root), source, stream)
        for noted in archive.log.changes
        if noted.stream == name
    ]
    found.sort(key=lambda one: (one[1].at, one[0], one[1].seq))
    if as_json:
        rows = [
            {"source": one, "stream": noted.stream, **msgspec.structs.asdict(noted.change), "commit": noted.seq}
            | {"run": noted.run, "at": noted.at, "acknowledged": noted.acknowledged}
            for one, noted in found
        ]
        click.echo(msgspec.json.encode(rows))
        return
    for one, noted in found:
        mark = " " if noted.acknowledged else "!"
        place = f"{noted.at[:10]} {noted.change.severity:8} {one} {noted.stream}"
        click.echo(printable(f"{mark} {place}: {in_words(noted.change)}"))
    if not found:
        click.echo("no changes")


@schema.command()
@options.source
@options.stream
@options.root
def ack(source: str | None, stream: str | None, root: str | None) -> None:
    """Acknowledge the changes so far: runs no longer fail for them. Exit status 11 while a run is writing."""
    place = find_root(root)
    chosen = _streams(place, source, stream)
    count = 0
    for one in sorted({archive.source for archive, _ in chosen}):
        with open_writer(place.storage, one, run=new_run_id()) as writer:
            names = {name for archive, name in chosen if archive.source == one}
            waiting = [noted.stream for noted in writer.log.changes if noted.stream in names and not noted.acknowledged]
            if waiting:
                writer.acknowledge(sorted(set(waiting)))
            count += len(waiting)
    click.echo(f"acknowledged: {count:,}")


def _streams(place: Root, source: str | None, stream: str | None) -> list[tuple[Archive, str]]:
    archives = place.archives(source)
    if stream is not None and not any(stream in archive.streams() for archive in archives):
        raise unknown("stream", stream, {name for one in archives for name in one.streams()}, where=str(place.path))
    return [(archive, name) for archive in archives for name in archive.streams() if stream in {None, name}]


def _fields(archive: Archive, storage: Storage, stream: str) -> list[Field]:
    log = archive.log
    facts, shape = log.streams[stream], log.shapes.get(stream)
    if shape is None:
        return []
    said = declared(facts.schema)
    sample = load_sample(storage.read(layout.sample(log.source, facts.folder)) or b"")
    first: dict[str, str] = {}
    for commit, _ in read_commits(storage, log.source):
        new = commit.drift[stream].shape if stream in commit.drift else None
        for path, _ in places(new) if new else ():
            first.setdefault(path, commit.at)
    return [
        Field(path, one.types, said.get(path, ()), *_shares(sample, path), first.get(path), _last(sample, path))
        for path, one in places(shape)
        if path
    ]


def _shares(sample: dict[str, Presence], path: str) -> tuple[float | None, float | None]:
    place = sample.get(path)
    if place is None:
        return None, None
    parent = sample.get(place.parent) if place.parent is not None else None
    presence = place.present / parent.objects if parent and parent.objects else None
    return presence, place.nulls / place.present


def _last(sample: dict[str, Presence], path: str) -> str | None:
    return sample[path].last if path in sample else None


def _percent(share: float | None) -> str:
    return "" if share is None else f"{int(share * 1000) / 10:g}%"
