"""`daykeep dead-letters`: what came in and could not be archived as a record, and another attempt at it."""

from __future__ import annotations

import base64
from collections import Counter, defaultdict

import click
import msgspec

from daykeep import options
from daykeep.root import Root, find_root, unknown
from daykeep.terminal import printable, say
from target_archive import layout
from target_archive.archive import Archive
from target_archive.dead_letters import Letter, open_letters, replay
from target_archive.settings import parse
from target_archive.target import read_config
from target_archive.writer import new_run_id, open_writer

_SHOWN = 3
_WIDTH = 160

_source = click.argument("source", required=False, shell_complete=options.source_names)


@click.group(name="dead-letters", invoke_without_command=True)
@click.pass_context
def dead_letters(context: click.Context) -> int | None:
    """Show what came in and could not be archived as a record, and archive it where it can be by now.

    Without a command: `list`.
    """
    return context.invoke(show) if context.invoked_subcommand is None else None


@dead_letters.command("list")
@_source
@options.stream
@click.option("--reason", metavar="TEXT", help="Those only whose reason holds this text.")
@options.root
@options.as_json
def show(
    source: str | None = None,
    stream: str | None = None,
    reason: str | None = None,
    root: str | None = None,
    *,
    as_json: bool = False,
) -> None:
    """Count the open dead letters of SOURCE, or of all, by reason, and show how the first of each begin.

    \b
    --json is an array of
      {source, undated: {STREAM: records},
       letters: [{day, number, commit, at, run, stream, reason,
                  line | line_base64}]}
    `line` is what came, `line_base64` where it is no UTF-8; `run` and `stream`
    are empty where they are not known. `undated` counts the records that are
    archived without a day: `daykeep show STREAM --day undated`.
    """  # noqa: D301 - click's mark for a paragraph that keeps its lines
    told = []
    for archive in _archives(find_root(root), source, stream):
        letters = [one for one in _open(archive, stream) if reason is None or reason in one.reason]
        undated = {name: archive.log.lines_of(name, layout.UNDATED) for name in archive.streams()}
        undated = {name: count for name, count in undated.items() if count and stream in {None, name}}
        if as_json:
            told.append({"source": archive.source, "undated": undated, "letters": [_as_json(one) for one in letters]})
        else:
            _print(archive.source, letters, undated)
    if as_json:
        click.echo(msgspec.json.encode(told))


@dead_letters.command("replay")
@_source
@options.stream
@options.root
def again(source: str | None, stream: str | None, root: str | None) -> int:
    """Archive those open dead letters of SOURCE, or of all, that can be archived by now.

    A letter can be once it is a record of a stream whose SCHEMA is known and, under target-archive's settings as they
    are now, no bad one; and if no later version of its record is archived. The others stay open. Exit status 11 while
    a run is writing.
    """
    place, status = find_root(root), 0
    for archive in _archives(place, source, stream):
        if not archive.log.open_letters:
            continue
        storage = place.storage
        given = {**place.settings, **read_config(("ENV",)), "root": str(storage.root), "source": archive.source}
        settings = parse(given)
        with open_writer(storage, archive.source, run=new_run_id(), compression=settings.compression) as writer:
            done = replay(writer, settings, stream)
        click.echo(printable(f"{archive.source}: {_counts(done.archived)}, already held {done.held.total():,}"))
        for reason, count in done.left.most_common():
            click.echo(printable(f"  left {count:,}: {reason}"))
        for problem in writer.problems:
            say(printable(problem))
            status = 1
    return status


def _archives(place: Root, source: str | None, stream: str | None) -> list[Archive]:
    """The archives to look at. Raises BadSettings for a stream that neither they nor their dead letters know."""
    archives = place.archives(source)
    if stream is not None:
        names = {name for one in archives for name in one.streams()}
        if stream not in names and not any(_open(one, stream) for one in archives):
            raise unknown("stream", stream, names, where=str(place.path))
    return archives


def _open(archive: Archive, stream: str | None) -> list[Letter]:
    return [
        letter
        for day in archive.log.days(layout.DEAD_LETTERS)
        for letter in open_letters(day, archive.versions(layout.DEAD_LETTERS, day))
        if stream in {None, letter.stream}
    ]


def _as_json(letter: Letter) -> dict[str, object]:
    told = msgspec.structs.asdict(letter)
    line = told.pop("line")
    try:
        return {**told, "line": line.decode()}
    except UnicodeDecodeError:
        return {**told, "line_base64": base64.b64encode(line).decode()}


def _print(source: str, letters: list[Letter], undated: dict[str, int]) -> None:
    by_reason = defaultdict[str, list[Letter]](list)
    for letter in letters:
        by_reason[letter.reason].append(letter)
    click.echo(printable(f"{source}: dead letters {len(letters):,}"))
    for reason, found in sorted(by_reason.items(), key=lambda one: -len(one[1])):
        click.echo(printable(f"  {len(found):,}: {reason}"))
        for letter in found[:_SHOWN]:
            text = printable(letter.line[: _WIDTH + 1].decode(errors="backslashreplace"))
            click.echo(f"    {letter.at[:19]} {text[:_WIDTH]}" + ("…" if len(text) > _WIDTH else ""))
    for stream, count in undated.items():
        click.echo(printable(f"  undated {count:,}: `daykeep show {stream} --day {layout.UNDATED}`"))


def _counts(archived: Counter[str]) -> str:
    return "archived " + (" · ".join(f"{stream} {count:,}" for stream, count in sorted(archived.items())) or "none")
