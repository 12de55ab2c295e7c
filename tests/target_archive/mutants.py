"""Mistakes in the commit protocol, one at a time, each of which the simulated disk must bring to light."""

from __future__ import annotations
import __future__

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from tests.target_archive.histories import Source, changing, history, keyed, keyless, late, whole
from tests.target_archive.interleaved import interleave
from tests.target_archive.simulated import SimulatedStorage

from target_archive import writer
from target_archive.archiver import Archiver, Start
from target_archive.dedupe import CopiesReadAgain, LatestVersion
from target_archive.log import Log
from target_archive.writer import Writer

Make = Callable[..., Source]
ENTITIES: Make = partial(whole, "entity")
SNAPSHOTS: Make = partial(whole, "snapshot")
MOST = 1000
"""Seeds that are tried until a mutant is noticed."""


@dataclass(frozen=True)
class Mutant:
    """A piece of a function's source that says something else.

    Attributes:
        name: What is wrong.
        owner: The class or module of the function.
        function: Its name.
        old, new: The piece, and what takes its place.
        make: Of the histories that notice it; None for interleavings of two writers.
        from_archive: Of the histories, see `History.play`.
    """

    name: str
    owner: Any
    function: str
    old: str
    new: str
    make: Make | None = keyed
    from_archive: bool | None = None

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        real = inspect.unwrap(getattr(self.owner, self.function))
        source = textwrap.dedent(inspect.getsource(real))
        assert source.count(self.old) == 1, f"`{self.name}` does not fit the code any longer"
        world, made = vars(sys.modules[real.__module__]), dict[str, Any]()
        flags = __future__.annotations.compiler_flag
        exec(compile(source.replace(self.old, self.new), self.name, "exec", flags), world, made)  # noqa: S102 - our own source
        patch.setattr(self.owner, self.function, made[self.function])


@dataclass(frozen=True)
class Skipped:
    """An operation of the disk that silently does not happen, see `SimulatedStorage.skip`."""

    name: str
    make: Make = keyed


SYNCS = [
    Skipped("fsync packs"),
    Skipped("fsync commits"),
    Skipped("fsync model/s"),
    Skipped("fsync format.json"),
    Skipped("sync packs"),
    Skipped("sync commits"),
    Skipped("sync model/s"),
    Skipped("mkdir model/s"),
]

PROTOCOL = [
    Mutant(
        "a STATE is told before its commit",
        Archiver,
        "_commit_to_state",
        "self._writer.commit(",
        "self._tell(state); self._writer.commit(",
    ),
    Mutant(
        "a STATE takes lines along that came after it",
        Writer,
        "commit",
        "else lines.cut for",
        "else len(lines.lines) for",
        partial(keyless, resumes_pages=True),
        from_archive=True,
    ),
    Mutant("a STATE does not take its lines along", Writer, "mark_state", "len(lines.lines)", "0"),
    Mutant(
        "a commit is made before its pack",
        Writer,
        "commit",
        "self._create(layout.pack(self._source, seq), pack)",
        "append = self._append; self._append = lambda kind, **fields: (delattr(self, '_append'),"
        " append(kind, **fields), self._create(layout.pack(self._source, seq), pack))",
    ),
    Mutant(
        "day files take their places before the commit",
        Writer,
        "place",
        "self._append(kind, files=tuple(files), **fields)\n    self._rename(files, self.log.seq)",
        "self._rename(files, self.log.seq + 1)\n    self._append(kind, files=tuple(files), **fields)",
    ),
    Mutant(
        "packs are removed before the day files that hold their lines are durable",
        Writer,
        "place",
        "self._append(kind,",
        "[self._storage.remove(f'{layout.packs(self._source)}/{name}')"
        " for name in self._storage.names(layout.packs(self._source))]; self._append(kind,",
    ),
    Mutant(
        "day files are not durable beside their places when a commit names them",
        Writer,
        "place",
        "self._sync_folders(files)\n    self._append",
        "self._append",
    ),
    Mutant(
        "day files are not durable in their places",
        Writer,
        "place",
        "self._rename(files, self.log.seq)\n    self._sync_folders(files)",
        "self._rename(files, self.log.seq)",
    ),
    Mutant(
        "day files that a killed run has put in their places are not durable there",
        Writer,
        "_recover",
        "self._sync_folders(last.files)",
        "pass",
        late,
    ),
    Mutant(
        "what a killed run has left is acted upon before it is durable",
        writer,
        "open_writer",
        "storage.sync(name)",
        "pass",
    ),
    Mutant("nothing is recovered", Writer, "_recover", "commits = layout", "return; commits = layout"),
    Mutant(
        "recovery removes day files that wait for their places",
        Writer,
        "_recover",
        "for file in last.files\n",
        "for file in ()\n",
    ),
    Mutant("packs that are needed are removed", Writer, "remove_used_packs", "number not in needed", "True"),
    Mutant(
        "a day file says that it holds a commit less than it does",
        Writer,
        "_stage",
        "through=pending[-1][0]",
        "through=pending[-1][0] - 1",
    ),
    Mutant(
        "a day file says that it holds commits that it does not",
        Writer,
        "_stage",
        "(number, segment) for number, segment in pending]",
        "(number, segment) for number, segment in pending[: max(1, len(pending) - 1)]]",
    ),
    Mutant(
        "what is published stays pending",
        Log,
        "apply",
        "held.pending = [one for one in held.pending if one[0] > file.through]",
        "pass",
    ),
    Mutant(
        "a next part takes the place of the one before",
        Writer,
        "_stage",
        "head.part + 1 if head else 1",
        "1",
        changing,
    ),
    Mutant(
        "a checkpoint lacks the last commit that it claims",
        Writer,
        "_write_checkpoint",
        "encode_checkpoint(self.log)",
        "records.with_digest(encode_checkpoint(self.log).partition(b'\\n')[0]"
        ".replace(b'\"pending\":', b'\"was\":'))[0]",
    ),
    Mutant("nothing is a repeat", Start, "dedupe", "if in_mid_run:", "if True:", keyless),
    Mutant("nothing with a key is a repeat", LatestVersion, "is_repeat", "if latest == content:", "if False:"),
    Mutant(
        "what equals an older version is a repeat",
        LatestVersion,
        "is_repeat",
        "known[slot] = self._content(old)",
        "known.setdefault(slot, self._content(old))",
        changing,
    ),
    Mutant(
        "a copy is matched any number of times",
        CopiesReadAgain,
        "is_repeat",
        "copies[content] -= 1",
        "pass",
        keyless,
    ),
    Mutant(
        "what is gone counts as there when it comes back",
        LatestVersion,
        "is_repeat",
        "if number in gone:",
        "if False:",
        ENTITIES,
    ),
    Mutant(
        "what is gone is committed before the read that proves it",
        Archiver,
        "finish",
        "self._commit_to_state()",
        'self._writer._append("data", gone=self._found.gone); self._found = None; self._commit_to_state()',
        ENTITIES,
    ),
    Mutant(
        "a read that was cut off says what is gone",
        Archiver,
        "_commit_all",
        "self._writer.commit(None,",
        'self._found = find_out(self._writer, self.sinks, {name: claims_of(b\'{"claims":{"s":[{"status":"complete",\''
        ' b\'"to":"2024-07-01","evidence":{"records":%d}}]}}\' % sink.received)[\'s\']'
        " for name, sink in self.sinks.items()}); self._writer.commit(None,",
        ENTITIES,
    ),
    Mutant(
        "a snapshot is let go without a look at the earlier one",
        sys.modules["target_archive.rereads"],
        "_same_as",
        "return earlier if same else None",
        "return earlier",
        SNAPSHOTS,
    ),
    Mutant(
        "a snapshot is let go, but its lines are not",
        Log,
        "_apply_same",
        "self.held.get(stream, {}).pop(day, None)",
        "pass",
        SNAPSHOTS,
    ),
]

WRITERS = [
    Mutant(
        "a commit takes the place of another one of its number",
        SimulatedStorage,
        "link",
        "raise FileExistsError(name)",
        "pass",
        None,
    ),
    Mutant(
        "a pack is written over",
        Writer,
        "commit",
        "self._create(layout.pack(self._source, seq), pack)",
        "self._storage.write(layout.pack(self._source, seq), pack); self._storage.sync(layout.packs(self._source))",
        None,
    ),
    Mutant(
        "another writer's pack is removed before its number is taken",
        Writer,
        "_recover",
        'self._append("data")',
        "[self._storage.remove(f'{layout.packs(self._source)}/{name}')"
        " for name in self._storage.names(layout.packs(self._source)) if (layout.number(name) or 0) > self.log.seq]",
        None,
    ),
    Mutant(
        "another writer's day file is removed before its number is taken",
        Writer,
        "_recover",
        " or any(commits not in path for path in temporaries)",
        "",
        None,
    ),
    Mutant("packs of later commits are removed", Writer, "remove_used_packs", "number <= self.log.seq and ", "", None),
]


def first_seed(mutant: Mutant | Skipped) -> int | None:
    """The first seed whose history, or interleaving, shows that something is wrong; None for none."""
    with pytest.MonkeyPatch.context() as patch:
        if isinstance(mutant, Mutant):
            mutant.apply(patch)
        found: Iterator[bool] = (bool(_problems(mutant, seed)) for seed in range(MOST))
        return next((seed for seed, wrong in enumerate(found) if wrong), None)


def _problems(mutant: Mutant | Skipped, seed: int) -> list[str]:
    if isinstance(mutant, Skipped):
        return history(seed, mutant.make, skip=[mutant.name]).problems
    if mutant.make is None:
        return interleave(seed)[1]
    return history(seed, mutant.make, from_archive=mutant.from_archive).problems
