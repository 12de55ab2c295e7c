"""Where partitions come from: lists, settings, and the records of parents, read here where nobody has read them yet.

What is walked through here is not written. A parent is read once for all its children that start at the same bookmark,
and not at all where its own stream has just been read from there.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

from tap_rest.engine.job_reader import reader_of
from tap_rest.engine.reader import Reader
from tap_rest.engine.sending import Ask, RunAborted, Sending
from tap_rest.engine.state import State
from tap_rest.engine.telling import Teller
from tap_rest.engine.turns import Turn, Turns
from tap_rest.errors import CredentialsRefused, Postponed, TapError, UnexpectedPage, UnitIncomplete
from tap_rest.language.declaration import Bound, BoundStream
from tap_rest.language.paging import End
from tap_rest.language.partitions import WHOLE, Children, Partition
from tap_rest.language.replication import Replication
from tap_rest.request import Request


@dataclass
class Found:
    """The partitions of a stream, and what came of looking for them.

    Attributes:
        partitions: In the order of their ids.
        errors: Of parents that could not be read to their end.
        marks: With `only: changed`, the bookmark that each parent's partition has been read to.
        replication: How those compare.
    """

    partitions: list[Partition] = field(default_factory=list)
    errors: list[TapError] = field(default_factory=list)
    marks: dict[str, str | int] = field(default_factory=dict)
    replication: Replication | None = None


@dataclass
class _Fed:
    """The partitions of a child that one parent's records made.

    Attributes:
        children: The partitions.
        turn: In which the parent was read.
        seen: How far.
    """

    children: Children
    turn: Turn
    seen: str | int | None


class Parents:
    """Finds partitions.

    Args:
        bound: All streams.
        state: Knows how far children have been read.
        sending: Asks for parents.
        teller: Is told what is sent.
        turns: Makes turns.
    """

    def __init__(self, bound: Bound, state: State, sending: Sending, teller: Teller, turns: Turns) -> None:
        self._bound, self._state, self._sending, self._teller, self._turns = bound, state, sending, teller, turns
        self.selected: Sequence[BoundStream] = ()
        self._fed: dict[tuple[str, str], _Fed] = {}

    def depth(self, stream: BoundStream) -> int:
        """How many parents stand above a stream."""
        each = stream.declared.for_each
        return 0 if each is None or each.stream is None else 1 + self.depth(self._bound.streams[each.stream])

    def collectors(self, parent: BoundStream, *more: BoundStream) -> dict[str, Children]:
        """By its name, what collects the partitions of each selected stream, and of these, that has this parent."""
        return {
            child.name: Children(each.name, child.wanted, child.asked)
            for child in (*self.selected, *more)
            if (each := child.declared.for_each) and each.stream == parent.name
        }

    def collect(self, collected: dict[str, Children], reader: Reader, records: Sequence[bytes]) -> None:
        """Takes a parent's records, but for those that are older than what was to be read."""
        unit = reader.unit
        for children in collected.values():
            children.add(reader.walk.recent(records, None if unit.bookmark is None else unit.start), unit.partition)

    def feed(self, collected: dict[str, Children], turn: Turn, seen: str | int | None) -> None:
        """Takes the partitions that the records of a parent have made, when its turn is complete."""
        for name, children in collected.items():
            self._fed[name, turn.partition.id] = _Fed(children, turn, seen)

    def find(self, stream: BoundStream) -> Found:
        """What a stream is read once for each of."""
        each = stream.declared.for_each
        if each is None or each.stream is None:
            return Found(self.fixed(stream))
        parent, of = self._bound.streams[each.stream], {one.id: one for one in self._state.pending(stream)}
        above = self.find(parent)
        found = Found(errors=above.errors)
        found.replication = parent.declared.replication if stream.declared.by_change else None
        for one in above.partitions:
            try:
                fed = self._read(stream, parent, one, self._state.mark(stream, one.id, found.replication))
            except (Postponed, CredentialsRefused, RunAborted):
                raise
            except TapError as error:
                found.errors.append(error)
                continue
            of |= fed.children.found
            if fed.seen is not None:
                found.marks[one.id] = fed.seen
            if fed.children.without:
                problem = f"{fed.children.without} records of {parent.name} lack a value of {', '.join(stream.wanted)}"
                found.errors.append(UnexpectedPage(problem, where=stream.name))
        found.partitions = [of[id_] for id_ in sorted(of)]
        return found

    def fixed(self, stream: BoundStream) -> list[Partition]:
        """The one partition of a stream without any; those of a list or a setting."""
        each = stream.declared.for_each
        if each is None:
            return [WHOLE]
        found = each.fixed(stream.values.get(f"settings.{each.setting}"), stream.asked)
        return sorted(found, key=lambda one: one.id)

    def walk(self, turn: Turn) -> Iterator[tuple[Sequence[bytes], Reader]]:
        """The records of a turn, one request after another. Raises TapError where it ends incomplete."""
        while not turn.is_over:
            reader = reader_of(unit := turn.unit())
            try:
                end = yield from self._pages(reader)
            finally:
                if (ask := reader.abandoned()) is not None:
                    self._sending.fetch(ask)
            if end.reason == "result_cap" and turn.halved(unit):
                continue
            if not end.complete or reader.walk.missing():
                raise UnitIncomplete(f"ended incomplete: {end.reason}", where=unit.name)
            if not turn.completed(unit):
                return

    def _read(self, stream: BoundStream, parent: BoundStream, above: Partition, mark: str | int | None) -> _Fed:
        """The partitions that one of the parent's makes, from a bookmark on; read unless that has been done."""
        whole, known = not stream.declared.by_change, self._fed.get((stream.name, above.id))
        if known is not None and (known.turn.is_whole if whole else known.turn.bookmark == mark):
            return known
        collected, seen = self.collectors(parent, stream), None
        turn = self._turns.turn(parent, above, mark, whole=whole)
        for records, reader in self.walk(turn):
            self.collect(collected, reader, records)
            seen = reader.walk.bookmark(reader.unit.began) or seen
        self.feed(collected, turn, seen)
        return self._fed[stream.name, above.id]

    def _pages(self, reader: Reader) -> Generator[tuple[Sequence[bytes], Reader], None, End]:
        following: Request | End = reader.request
        while isinstance(following, Request):
            ask: Ask | None = reader.ask()
            while ask is not None:
                try:
                    answer = self._sending.fetch(ask)
                    ask = reader.take(answer)
                except TapError as error:
                    ask = reader.mended(error)
            for records in reader.records(answer):
                yield records, reader
            following = reader.following(answer)
            self._teller.drain()
        return following
