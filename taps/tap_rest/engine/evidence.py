"""What a walk through a unit has seen: the evidence that it is whole, and where its bookmark may move.

The engine adds each page; nothing of a record is kept but an 8-byte hash of its key. Claims of the declaration (sorted,
keyed, so many rows) are checked here, because an API that breaks one would otherwise lose records in silence.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from operator import ne
from typing import Any

import msgspec

from tap_rest.formats.fields import KeyReader
from tap_rest.formats.streamed import checksum
from tap_rest.language.declaration import BoundStream
from tap_rest.language.replication import duration

KEYS_COUNTED = 1_000_000
MOST_NAMED = 100
_ENDLESS = 1 << 64


class GivenUp(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request whose answer is not in the archive: why, and what it takes to ask again. No secret is in it.

    Attributes:
        request: Its fingerprint.
        method: GET or POST.
        url: With its parameters.
        reason: Why it was left out or given up.
        status: Of the last answer; None where none came.
        partition: The values that made it; none for a stream without partitions.
        start: Where its unit begins.
        until: Where it ends, exclusive.
    """

    request: str
    method: str
    url: str
    reason: str
    status: int | None = None
    partition: Mapping[str, str | int] = {}
    start: str | None = None
    until: str | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.url}: {self.reason}"


class Evidence(msgspec.Struct, omit_defaults=True):
    """What stands behind a claim.

    Attributes:
        pages: Pages whose records were written.
        requests: Requests sent, tries included.
        records: Records written.
        unique_keys: Different primary keys among them; None when unknown: no key is declared, more than a million, or
            the walk began in an earlier run.
        declared_total: How many the API said there are, on the last page that said so.
        reason: What ended the unit: the paginator's word, or the problem.
        digest: Sum of the CRC-32 of every record modulo 2^64: the same for the same records in any order.
        unplaced: Records whose replication key is null, absent or not comparable.
        repeated: Records that came a second time on purpose, as the overlap of two pages, and were written once.
        older: Records older than the start that a stream with `client_side` left out.
        changes_only: An unchanged answer or a sync token brought what has changed, not all there is.
        given_up: Requests that were given up, or whose answer the declaration tells to skip; at most 100.
        warnings: What a person should look at.
    """

    pages: int = 0
    requests: int = 0
    records: int = 0
    unique_keys: int | None = None
    declared_total: int | None = None
    reason: str = ""
    digest: str = "crc32-sum:0000000000000000"
    unplaced: int = 0
    repeated: int = 0
    older: int = 0
    changes_only: bool = False
    given_up: list[GivenUp] = []
    warnings: list[str] = []

    def claimed(self) -> dict[str, Any]:
        """As it stands in a claim: every count is there, also when it is 0 or unknown."""
        whole: dict[str, Any] = {name: getattr(self, name) for name in self.__struct_fields__}
        rare = ("unplaced", "repeated", "older", "changes_only", "given_up", "warnings")
        return {name: value for name, value in whole.items() if value or name not in rare}

    def with_(self, other: Evidence) -> Evidence:
        """What stands behind two stretches together."""

        def total(one: int | None, two: int | None) -> int | None:
            return None if one is None or two is None else one + two

        first = not (self.requests or self.records or self.reason)
        digest = (int(self.digest[10:], 16) + int(other.digest[10:], 16)) % _ENDLESS
        return Evidence(
            pages=self.pages + other.pages,
            requests=self.requests + other.requests,
            records=self.records + other.records,
            unique_keys=other.unique_keys if first else total(self.unique_keys, other.unique_keys),
            declared_total=other.declared_total if first else total(self.declared_total, other.declared_total),
            reason=other.reason,
            digest=f"crc32-sum:{digest:016x}",
            unplaced=self.unplaced + other.unplaced,
            repeated=self.repeated + other.repeated,
            older=self.older + other.older,
            changes_only=self.changes_only or other.changes_only,
            given_up=[*self.given_up, *other.given_up][:MOST_NAMED],
            warnings=list(dict.fromkeys([*self.warnings, *other.warnings]))[:MOST_NAMED],
        )


class Walk:
    """One walk through a unit.

    Args:
        stream: What is read.
        evidence: Of the part that an earlier run has written.
        seen: The highest replication key value of that part.
        before: Signature of its last page.
        tail: Prints of that page's last rows, where the next page brings them again.
        last: The replication key value of its last record.
        ordered: Whether it has all been as sorted as was declared.

    Attributes:
        validators: ETag and Last-Modified of its first answer, and the print of that request.
    """

    def __init__(
        self,
        stream: BoundStream,
        evidence: Evidence | None = None,
        seen: Any = None,
        before: str = "",
        tail: Sequence[str] = (),
        last: Any = None,
        *,
        ordered: bool = True,
    ) -> None:
        self.evidence = evidence or Evidence()
        self.seen = seen
        self.before = before
        self.tail = tail
        self.last = last
        self.ordered = ordered
        self.warned: list[str] = []
        self.validators: tuple[str, str, str] | None = None
        self._stream = stream
        self._replication = replication = stream.declared.replication
        self._keys = tuple(stream.declared.primary_keys)
        fields = list(self._keys)
        if replication is not None and replication.key not in fields:
            fields.append(replication.key)
        self._place = fields.index(replication.key) if replication is not None else 0
        self._reader = KeyReader(fields) if fields else None
        self._hashes: array[int] | None = array("q") if self._keys and evidence is None else None
        self._lag = duration(replication.lag) if replication is not None else timedelta()
        self._lowest: Any = None
        self._signed: tuple[Sequence[bytes], str] = ((), "")

    def repeats(self, records: Sequence[bytes]) -> bool:
        """Whether a page holds the same records as the one before it."""
        self._signed = (records, signature(records))
        return bool(records) and self._signed[1] == self.before

    @property
    def mark(self) -> str:
        """Signature of the page that `repeats` was asked about; empty for one without records."""
        return self._signed[1]

    def turn(self, total: int | None) -> None:
        """Begins a page, the one that `repeats` was asked about."""
        self.evidence.pages += 1
        if total is not None:
            if self.evidence.declared_total not in (None, total):
                self.warn(
                    f"the declared total went from {self.evidence.declared_total:,} to {total:,} while it was read"
                )
            self.evidence.declared_total = total
        self.before = self._signed[1]

    def overlapped(self, records: Sequence[bytes], overlap: int) -> Sequence[bytes] | None:
        """The records of a page without those that the page before it had as its last ones; None where none is there.

        Then rows have moved by more than the overlap, and some may have been missed.
        """
        rows: Sequence[Any] = records
        if self._keys and self._reader is not None:
            rows = [row[: len(self._keys)] for row in self._reader.read(records)]
        prints = [hashlib.blake2b(repr(row).encode(), digest_size=8).hexdigest() for row in rows]
        tail, self.tail = self.tail, prints[-overlap:] if len(prints) > overlap else ()
        fresh = [record for record, one in zip(records, prints, strict=True) if one not in tail]
        if tail and len(fresh) == len(prints):
            return None
        self.evidence.repeated += len(prints) - len(fresh)
        return fresh

    def recent(self, records: Sequence[bytes], start: str | int | None) -> Sequence[bytes]:
        """The records that are not older than a start; those whose place is unknown stay."""
        first = self._rank(start)
        if first is None or self._reader is None:
            return records
        ranks = [self._rank(row[self._place]) for row in self._reader.read(records)]
        return [
            record
            for record, rank in zip(records, ranks, strict=True)
            if type(rank) is not type(first) or rank >= first
        ]

    def add(self, records: Sequence[bytes]) -> None:
        """Counts records that are about to be written: those of the page, or a batch of them."""
        if not records:
            return
        evidence, (known, mark) = self.evidence, self._signed
        evidence.records += len(records)
        added = int((mark if known is records else signature(records)).rpartition(":")[2], 16)
        evidence.digest = f"crc32-sum:{(int(evidence.digest[10:], 16) + added) % _ENDLESS:016x}"
        if self._reader is None:
            return
        rows = self._reader.read(records)
        if self._hashes is not None:
            self._count(rows)
        if self._replication is not None:
            self._order([row[self._place] for row in rows])

    def _count(self, rows: Sequence[tuple[Any, ...]]) -> None:
        width = len(self._keys)
        keys = rows if len(rows[0]) == width else [row[:width] for row in rows]
        try:
            found = list(map(hash, keys))
        except TypeError:  # a key that is a list or an object
            found = [hash(repr(key)) for key in keys]
        if (None,) * width in keys:
            self.warn(f"records without {', '.join(self._keys)} are kept, but nothing tells them apart")
        elif len(set(found)) < len(found):
            self.warn(f"records of one page share their {', '.join(self._keys)}, which is declared to be their key")
        hashes = self._hashes or array("q")
        hashes.extend(found)
        self._hashes = hashes if len(hashes) <= KEYS_COUNTED else None

    def _order(self, values: list[Any]) -> None:
        """Takes the page's key values into account: the highest, and whether they are as sorted as was declared."""
        placed, ranks = self._ranked(values)
        if len(placed) < len(values):
            self.evidence.unplaced += len(values) - len(placed)
            self.warn(f"records without a comparable {self._key} are kept, they do not move the bookmark")
        if not ranks:
            return
        highest, lowest = max(ranks), min(ranks)
        known = self._rank(self.seen)
        if known is None or self._rank(placed[ranks.index(highest)]) > known:
            self.seen = placed[ranks.index(highest)]
        self._lowest = self._rank(placed[ranks.index(lowest)])
        first = self._rank(placed[0])
        descending = self._order_declared == "descending"
        in_order = ranks == sorted(ranks, reverse=descending)
        before, self.last = self._rank(self.last), placed[-1]
        joined = before is None or (before >= first if descending else before <= first)
        if self._order_declared != "none" and self.ordered and not (in_order and joined):
            self.ordered = False
            self.warn(f"is declared {self._order_declared} by {self._key} but is not sorted so: it is read to its end")

    def _ranked(self, values: list[Any]) -> tuple[list[Any], list[Any]]:
        """The values that have a place in the order, and what they compare by.

        UTC times of one length, written alike, compare as text; so most pages need no time to be parsed.
        """
        if (
            isinstance(values[0], str)
            and set(map(type, values)) == {str}
            and len(set(map(len, values))) == 1
            and {value[-1:] for value in values} == {"Z"}
            and self._rank(max(values)) is not None
            and self._rank(min(values)) is not None
        ):
            return values, values
        ranks = [(value, rank) for value in values if (rank := self._rank(value)) is not None]
        kinds = {type(rank) for _, rank in ranks}
        if len(kinds) > 1:  # numbers among texts
            ranks = [(value, rank) for value, rank in ranks if isinstance(rank, type(ranks[0][1]))]
        return [value for value, _ in ranks], [rank for _, rank in ranks]

    def passed(self, start: str | None) -> bool:
        """Whether a stream that is read newest first has come below its bookmark; false once it was seen unsorted."""
        rank = self._rank(start)
        return (
            self._order_declared == "descending"
            and self.ordered
            and rank is not None
            and self._lowest is not None
            and bool(self._lowest < rank)
        )

    def stays_above(self, bookmark: str | int | None) -> bool:
        """Whether even the oldest record seen is newer than a bookmark."""
        rank = self._rank(bookmark)
        return rank is not None and self._lowest is not None and bool(self._lowest > rank)

    def bookmark(self, began: float) -> str | int | None:
        """The highest key value seen, but never later than `began`: a record dated ahead would hide those between."""
        rank = self._rank(self.seen)
        signpost = datetime.fromtimestamp(began, UTC) - self._lag
        if isinstance(rank, datetime) and rank > signpost:
            return signpost.isoformat().replace("+00:00", "Z")
        return str(self.seen) if isinstance(self.seen, Decimal | float) else self.seen

    def finish(self, reason: str) -> None:
        self.evidence.reason = reason
        if self._hashes is not None:
            ordered = sorted(self._hashes)
            self.evidence.unique_keys = bool(ordered) + sum(map(ne, ordered, islice(ordered, 1, None)))

    def missing(self) -> int:
        """How many rows short of the declared total; by unique keys, by records where those are unknown."""
        evidence = self.evidence
        if evidence.reason == "bookmark_reached":
            return 0
        came = evidence.records if evidence.unique_keys is None else evidence.unique_keys
        return max(0, (evidence.declared_total or 0) - came - evidence.older)

    def warn(self, text: str) -> None:
        """Notes what a person should look at, once."""
        if text not in self.evidence.warnings:
            self.evidence.warnings.append(text)
            self.warned.append(text)

    def _rank(self, value: Any) -> Any:
        return None if self._replication is None or value is None else self._replication.rank(value)

    @property
    def _key(self) -> str:
        return "" if self._replication is None else self._replication.key

    @property
    def _order_declared(self) -> str:
        return "none" if self._replication is None else self._replication.order


def signature(records: Sequence[bytes]) -> str:
    """What tells a page from the one before it: how many records, and the sum of the CRC-32 of each; "" for none."""
    return f"{len(records)}:{checksum(records):x}" if records else ""
