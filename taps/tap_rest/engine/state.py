"""The STATE of a run: bookmarks of every stream and partition, the pages in flight, and the claims of this run.

Stands between the STATE that a run is given and the engine. Whatever cannot be understood in a STATE (of another
program, of another version, damaged) is left aside with a warning, always towards reading more rather than less.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from tap_rest.engine.checkpoint import VERSION, Checkpoint, Step, Unit
from tap_rest.engine.evidence import MOST_NAMED, Evidence, Walk
from tap_rest.engine.memory import MOST_PARTITIONS, Memory, Pass, Place, later, unpacked, utc
from tap_rest.errors import ConfigError
from tap_rest.language.declaration import BoundStream
from tap_rest.language.jobs import Errand
from tap_rest.language.partitions import WHOLE, Partition, Scalar, partition
from tap_rest.language.replication import Replication, duration, iso, time_of
from tap_rest.redaction import Redactor
from tap_rest.request import Request

SKEW = 60.0
"""Seconds that this machine's clock may differ from the server's without a word."""
TOKENS_LIVE = 86400.0
"""Seconds after which a page in flight is not gone on with: tokens in it may have expired."""
LARGEST = 32 * 1024
"""Bytes of a checkpoint; with a larger one a unit starts again from its bookmark rather than make STATE heavy."""
MOST_PENDING = 1_000
"""Failed partitions that are kept to be read again although their parents' bookmarks move."""
MOST_VALIDATED = 1_000
"""Partitions of a stream whose validators are held."""


class State:
    """The STATE of a run.

    Args:
        given: The STATE value that the run was started with.
        now: The wall clock at the start, seconds since the epoch.
        secrets: Texts that must not get into STATE.

    Attributes:
        given: As it was given, to be printed once before anything else; empty for none.
        warnings: What could not be understood in it.
    """

    def __init__(self, given: Any, *, now: float, secrets: Sequence[str] = ()) -> None:
        if not isinstance(given, Mapping | None):
            raise ConfigError(
                f"STATE is a {type(given).__name__}, not an object", hint="pass the file of an earlier run"
            )
        self.given: Mapping[str, Any] = given or {}
        self.warnings: list[str] = []
        self._now = now
        self._redactor = Redactor(secrets)
        bookmarks = self.given.get("bookmarks", {})
        if not isinstance(bookmarks, dict):
            self.warnings.append(f"STATE has a {type(bookmarks).__name__} for bookmarks: everything is read again")
            bookmarks = {}
        self._rest = {name: value for name, value in self.given.items() if name not in ("claims", "bookmarks")}
        self._bookmarks: dict[str, Any] = dict(bookmarks)
        self._memories: dict[str, Memory] = {}
        self._claims: dict[str, list[dict[str, Any]]] = {}

    def told(self) -> list[str]:
        """The warnings that have not been told yet."""
        found, self.warnings = self.warnings, []
        return found

    def value(self) -> dict[str, Any]:
        """The STATE value as it is now."""
        own = {name: memory.encoded() for name, memory in self._memories.items()}
        bookmarks = {**self._bookmarks, **own}
        value = {**self._rest, "bookmarks": {name: entry for name, entry in bookmarks.items() if entry != {}}}
        return {**value, "claims": self._claims} if self._claims else value

    def bookmark(self, stream: BoundStream, partition: Partition = WHOLE) -> str | int | None:
        """Where an earlier run ended; None when there is none that can be used."""
        return self.mark(stream, partition.id, stream.declared.replication)

    def mark(self, stream: BoundStream, id_: str, replication: Replication | None) -> str | int | None:
        """The bookmark under an id, which is of this replication key: the stream's own, or of its parent."""
        found = self._memory(stream).value(id_)
        if found is None or replication is None:
            return None
        rank = replication.rank(found)
        if rank is None:
            self._warn(stream, f"the bookmark is not one of {replication.key}: everything is read again")
            return None
        if isinstance(rank, datetime) and rank.timestamp() > self._now + SKEW:
            self._warn(stream, f"the bookmark {found} is in the future, older records will not be asked for")
        return found if isinstance(found, str | int) else str(found)

    def resume(self, unit: Unit) -> Checkpoint | None:
        """The page in flight of a unit, unless it is too old, or what is asked for has changed since."""
        name, found = unit.name, self._memory(unit.stream).place(unit.partition.id).page
        if found is None:
            return None
        try:
            checkpoint = msgspec.convert(found, Checkpoint)
            age = self._now - datetime.fromisoformat(checkpoint.saved).timestamp()
        except (msgspec.ValidationError, ValueError, OverflowError):
            self.warnings.append(f"{name}: the page in flight is not one of ours: it starts again")
            return None
        same = checkpoint.version == VERSION and checkpoint.declaration == unit.stream.fingerprint
        same &= checkpoint.members == _members(unit.partition)
        start_same = checkpoint.start == unit.start
        if unit.start_floats and unit.start and checkpoint.start:
            start_same = time_of(checkpoint.start) <= time_of(unit.start)
        if not (same and start_same and (unit.end_floats or checkpoint.until == unit.until)):
            self.warnings.append(f"{name}: what is asked for has changed: it starts again from its bookmark")
            return None
        if not -3600 < age <= TOKENS_LIVE:
            self.warnings.append(f"{name}: the page in flight is out of date: it starts again")
            return None
        ended = self._memory(unit.stream).round
        if unit.stream.declared.by_change and ended is not None and checkpoint.began < ended.began:
            return None  # its first pages may have changed since, and nothing but the parent's change tells
        return checkpoint

    def proceed(self, unit: Unit, request: Request, walk: Walk, *, now: float, errand: Errand | None = None) -> None:
        """Puts the next request of a unit into STATE. Its bookmark stays: only a whole unit moves it."""
        paged = errand is None or errand.phase == "page"
        checkpoint = Checkpoint(
            version=VERSION,
            declaration=unit.stream.fingerprint,
            saved=datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
            began=unit.began,
            start=unit.start,
            until=unit.until,
            step=Step.between(unit.asked(errand), request) if paged else Step(),
            evidence=walk.evidence,
            seen=walk.seen if isinstance(walk.seen, str | int | None) else str(walk.seen),
            last=walk.last if isinstance(walk.last, str | int | None) else str(walk.last),
            ordered=walk.ordered,
            members=_members(unit.partition),
            before=walk.before,
            tail=walk.tail,
            errand=errand,
        )
        place = self._memory(unit.stream).place(unit.partition.id)
        text = msgspec.json.encode(checkpoint)
        fits = len(text) <= LARGEST and not self._secret(text.decode())
        place.page = msgspec.json.decode(text) if fits else None

    def complete(self, unit: Unit, walk: Walk, bookmark: str | int | None, *, token: str | None = None) -> None:
        """Ends a unit: its bookmark moves, never back, and what it has read is claimed."""
        replication, memory = unit.stream.declared.replication, self._memory(unit.stream)
        place = memory.place(unit.partition.id)
        place.page, place.token = None, token if token is None or not self._secret(token) else None
        place.validators = walk.validators if len(memory.places) <= MOST_VALIDATED else None
        if replication is not None and bookmark is not None and not unit.stream.declared.by_change:
            self._move(memory, unit.partition.id, bookmark, replication)
        self._claim(unit, "complete", walk.evidence)

    def validators(self, unit: Unit) -> tuple[str, str, str] | None:
        """ETag and Last-Modified of the answer that proved the unit's partition whole."""
        return self._memory(unit.stream).place(unit.partition.id).validators

    def token(self, unit: Unit) -> str | None:
        """What an API with sync tokens gave to go on from."""
        return self._memory(unit.stream).place(unit.partition.id).token

    def give_up(self, unit: Unit, evidence: Evidence, *, restart: bool, skipped: bool = False) -> None:
        """Ends a unit that is not whole: nothing is confirmed. With `restart` the next run begins it anew."""
        memory = self._memory(unit.stream)
        if restart:
            memory.place(unit.partition.id).page = None
        self._claim(unit, "skipped" if skipped else "partial", evidence)

    def begin_pass(self, stream: BoundStream, now: float) -> Pass:
        """The pass that an earlier run was in, or a new one where something else is asked for."""
        memory = self._memory(stream)
        if memory.round is None or memory.round.declaration != stream.fingerprint:
            memory.round = Pass(now, declaration=stream.fingerprint)
        return memory.round

    def pending(self, stream: BoundStream) -> list[Partition]:
        """The partitions that failed when their parents had changed."""
        return [partition(values, stream.asked) for values in self._memory(stream).pending.values()]

    def turn(self, stream: BoundStream, of: Partition, start: str | None, until: str, status: str) -> None:
        """A partition, or a batch, has had its turn in the pass: it is `complete`, `skipped` or `failed`."""
        memory = self._memory(stream)
        if (ended := memory.round) is None:
            return
        first = ended.complete + ended.skipped + ended.failures == 0
        ended.start = start if first else later(ended.start, start)
        ended.complete += status == "complete"
        if status == "complete":
            ended.until = min(ended.until or until, until, key=time_of)
        ended.skipped += status == "skipped"
        if status == "failed":
            ended.failures += 1
            ended.failed = [*ended.failed, of.id][:MOST_NAMED]
        if stream.declared.by_change:
            for one in [partition(values, stream.asked) for values in of.members] or [of]:
                known = memory.pending.pop(one.id, None)
                if status == "failed" and (known is not None or len(memory.pending) < MOST_PENDING):
                    memory.pending[one.id] = one.values
                elif status == "failed":
                    ended.unkept = True

    def passed(self, stream: BoundStream, id_: str) -> None:
        """All partitions up to this one have had their turn."""
        if (ended := self._memory(stream).round) is not None:
            ended.through = id_

    def end_pass(
        self,
        stream: BoundStream,
        known: Iterable[str],
        *,
        whole: bool,
        marks: Mapping[str, str | int],
        parent: Replication | None,
    ) -> None:
        """Claims what a pass has read. The bookmarks of parents move, unless too many of their children are pending.

        Args:
            stream: Whose pass it is.
            known: The ids of all partitions; what is kept of others is forgotten when the pass was whole.
            whole: Whether all partitions there are have been found.
            marks: With `only: changed`, the bookmark of each parent that was read to its end.
            parent: How those compare.
        """
        memory = self._memory(stream)
        ended, memory.round = memory.round or Pass(0), None
        if parent is not None and not ended.unkept:
            # What changed later may be of children that an earlier run of this pass has read before.
            last = datetime.fromtimestamp(ended.began - SKEW, UTC) - duration(parent.lag)
            for id_, value in marks.items():
                self._move(memory, id_, value if parent.rank(value) <= last else iso(last), parent)
        if whole and not stream.declared.by_change:
            present = set(known)
            memory.places = {id_: place for id_, place in memory.places.items() if id_ in present}
            memory.keep_days(present)
        problem = "" if whole else "not all partitions could be found"
        evidence = msgspec.structs.replace(ended.evidence, reason=problem or "partitions")
        evidence.changes_only |= stream.declared.by_change
        counts = {"complete": ended.complete, "skipped": ended.skipped, "failed": ended.failures}
        claim = {
            "partition": None,
            "from": _said(stream, ended.start),
            "to": min(utc(ended.began), ended.until or utc(ended.began), key=time_of),
            "status": "complete" if whole and not ended.failures else "partial",
            "partitions": counts | ({"named": ended.failed} if ended.failed else {}),
            "evidence": evidence.claimed(),
        }
        self._claims.setdefault(stream.name, []).append(claim)

    def _move(self, memory: Memory, id_: str, bookmark: str | int, replication: Replication) -> None:
        before, after = replication.rank(memory.value(id_)), replication.rank(bookmark)
        if before is None or type(before) is not type(after) or after > before:
            exact = memory.days is None
            memory.move(id_, bookmark)
            if exact and memory.days is not None:
                self._warn(memory.stream, f"more than {MOST_PARTITIONS:,} partitions: bookmarks are kept to the day")

    def _claim(self, unit: Unit, status: str, evidence: Evidence) -> None:
        memory = self._memory(unit.stream)
        ended, claims = memory.round, self._claims.setdefault(unit.stream.name, [])
        if ended is not None:
            ended.evidence = ended.evidence.with_(evidence)
            if not claims:
                self._claims.pop(unit.stream.name)
            return
        last = claims[-1] if claims else None
        start, until = _said(unit.stream, unit.start), unit.until or utc(unit.began)
        claim = {"partition": None, "from": start, "to": until, "status": status}
        if unit.bookmark is not None and unit.start_floats and time_of(str(unit.bookmark)) < time_of(unit.start or ""):
            claim["lost"] = _said(unit.stream, str(unit.bookmark))  # the API has nothing any longer from there on
        if last and status == last["status"] == "complete" and last["to"] == unit.start:
            evidence = msgspec.convert(last["evidence"], Evidence).with_(evidence)
            claims[-1] = {**last, **claim, "from": last["from"], "evidence": evidence.claimed()}
        else:
            claims.append({**claim, "evidence": evidence.claimed()})

    def _memory(self, stream: BoundStream) -> Memory:
        """What is known of a stream, in our own shape; what another program kept there is left out."""
        if stream.name in self._memories:
            return self._memories[stream.name]
        memory = self._memories[stream.name] = Memory(stream)
        entry = self._bookmarks.get(stream.name, {})
        if not isinstance(entry, dict):
            self._warn(stream, "STATE has no object for it: everything is read again")
            return memory
        try:
            self._read(memory, entry)
        except (msgspec.ValidationError, ValueError, struct.error):
            memory.places, memory.days, memory.round, memory.pending = {}, None, None, {}
            self._warn(stream, "what STATE has of it is not of our shape: everything is read again")
        return memory

    def _read(self, memory: Memory, entry: dict[str, Any]) -> None:
        replication = memory.stream.declared.replication
        same = replication is None or entry.get("replication_key", replication.key) == replication.key
        if not same and any(entry.get(name) for name in ("replication_key_value", "partitions", "days")):
            key = replication.key if replication else ""
            self._warn(memory.stream, f"the bookmark is not one of {key}: everything is read again")
            return
        if memory.stream.declared.for_each is None:
            value = None if replication is None else entry.get("replication_key_value")
            whole = {"value": value, "page": entry.get("page")}
            whole |= {"token": entry.get("sync_token"), "validators": entry.get("validators")}
            memory.places[""] = msgspec.convert(
                {name: found for name, found in whole.items() if found is not None}, Place
            )
            return
        places = entry.get("partitions", {})
        for id_, place in msgspec.convert(places, dict[str, Any]).items():
            memory.places[id_] = msgspec.convert(place if isinstance(place, dict) else {"value": place}, Place)
        memory.days = unpacked(entry["days"]) if "days" in entry else None
        memory.round = msgspec.convert(entry["pass"], Pass) if "pass" in entry else None
        memory.pending = msgspec.convert(entry.get("pending", {}), dict[str, dict[str, Scalar]])

    def _warn(self, stream: BoundStream, problem: str) -> None:
        self.warnings.append(f"{stream.name}: {problem}")

    def learn(self, secrets: Iterable[str]) -> None:
        """Keeps these texts out of STATE too from now on."""
        self._redactor.learn(secrets)

    def _secret(self, text: str) -> bool:
        return self._redactor.values(text) != text


def _members(of: Partition) -> str:
    """Print of what a batch is made of, of which the id names the last; empty for a single partition."""
    return hashlib.blake2b(repr(of.members).encode(), digest_size=8).hexdigest() if of.members else ""


def _said(stream: BoundStream, start: str | None) -> str | None:
    """A start as a claim says it: times that are numbers in the API's records as texts, ids as they are."""
    replication = stream.declared.replication
    if start is None or replication is None or replication.format == "text" or "-" in start[1:]:
        return start
    return iso(time_of(start))
