"""Partitions: the same stream read once for each repository, account or region, and where those come from.

A partition is its values: what `{repo.full_name}` stands for in the stream's templates. Its identity is made of the
values that requests ask with, and of nothing else of the parent's record.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from tap_rest.component import Component
from tap_rest.formats.fields import KeyReader

LONGEST_ID = 64
"""Characters of a partition's identity in STATE; a longer one is replaced by a hash."""

Scalar = str | int


class ForEach(Component, frozen=True, kw_only=True):
    """Reads a stream once for each record of another one, for each item of a list, or of a setting.

    Partitions are read in the order of their identities; each has a bookmark of its own, kept to the day where there
    are more than 10,000. One that fails stops no other and moves no bookmark.

    Attributes:
        stream: The parent: all its records, or with `only: changed` those that changed since this stream was last read.
        items: Or a list of texts, numbers or mappings.
        setting: Or a setting with texts separated by commas.
        name: What the templates call it (`as`): `{repo.full_name}` for a field of the parent's record or of a mapping,
            `{region}` for an item itself.
        only: `changed` reads the whole of a partition when its parent is new or has changed, by the parent's
            replication key; those that failed are read again in the next run.
        batch: So many in one request, their values joined by commas, for look-ups by id.
    """

    stream: str | None = None
    items: list[str | int | dict[str, str | int]] | None = None
    setting: str | None = None
    name: Annotated[str, msgspec.Meta(pattern="^[A-Za-z_][A-Za-z0-9_]{0,30}$")] = msgspec.field(name="as")
    only: Literal["all", "changed"] = "all"
    batch: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None

    def __post_init__(self) -> None:
        if sum(source is not None for source in (self.stream, self.items, self.setting)) != 1:
            raise ValueError("`for_each` needs exactly one of `stream`, `items` and `setting`")
        if self.only == "changed" and self.stream is None:
            raise ValueError("`only: changed` needs a parent `stream`")

    def fixed(self, text: str | None, asked: Collection[str]) -> list[Partition]:
        """The partitions of a list, or of a setting's text."""
        found: Iterable[Any] = self.items or []
        if self.setting is not None:
            found = [item for part in (text or "").split(",") if (item := part.strip())]
        named = [
            {f"{self.name}.{key}": value for key, value in item.items()}
            if isinstance(item, dict)
            else {self.name: item}
            for item in found
        ]
        return list({one.id: one for one in (partition(values, asked) for values in named)}.values())


class Partition(msgspec.Struct, frozen=True):
    """What the templates of a stream stand for in one reading of it; no values for a stream without partitions.

    Attributes:
        values: By the names that templates ask for; of a batch, of its last member.
        id: What STATE and reports call it; empty for a stream without partitions.
        members: The values of all members of a batch.
    """

    values: Mapping[str, Scalar] = {}
    id: str = ""
    members: Sequence[Mapping[str, Scalar]] = ()

    @property
    def texts(self) -> dict[str, str]:
        """What to put into templates."""
        if self.members:
            return {name: ",".join(str(member[name]) for member in self.members) for name in self.values}
        return {name: str(value) for name, value in self.values.items()}


def partition(values: Mapping[str, Scalar], asked: Collection[str]) -> Partition:
    """The partition with these values, of which those that requests ask with are its identity."""
    found = [str(value) for name, value in sorted(values.items()) if name in asked] or list(map(str, values.values()))
    text = found[0] if len(found) == 1 else json.dumps(found, ensure_ascii=False)[1:-1]
    if len(text) > LONGEST_ID:
        text = f"{text[:31]}~{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    return Partition(values, text)


WHOLE = Partition()
"""The one partition of a stream that has none."""


def batches(partitions: Sequence[Partition], size: int) -> Iterator[Partition]:
    """Partitions put together, in their order."""
    for start in range(0, len(partitions), size):
        group = partitions[start : start + size]
        yield Partition(group[-1].values, group[-1].id, [one.values for one in group])


class Children:
    """Collects the partitions that a parent's records make.

    The child's templates call the parent by `name`, and ask for the names `wanted`, of which those `asked` make the
    identity; those of the parent's own parents are taken over.
    """

    def __init__(self, name: str, wanted: Iterable[str], asked: Collection[str]) -> None:
        self.found: dict[str, Partition] = {}
        self.without: int = 0
        self._asked = asked
        self._wanted = [slot for slot in wanted if slot.startswith(f"{name}.")]
        self._taken_over = [slot for slot in wanted if slot not in self._wanted]
        self._reader = KeyReader([slot.removeprefix(f"{name}.") for slot in self._wanted])

    def add(self, records: Sequence[bytes], parent: Partition) -> None:
        """Takes the records of a page; one that lacks a value is counted in `without`."""
        above = {slot: parent.values[slot] for slot in self._taken_over}
        for row in self._reader.read(records):
            if all(isinstance(value, str | int) and not isinstance(value, bool) and value != "" for value in row):
                one = partition({**above, **dict(zip(self._wanted, row, strict=True))}, self._asked)
                self.found[one.id] = one
            else:
                self.without += 1
