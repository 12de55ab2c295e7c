"""What a walk through a unit has seen: the evidence that it is whole, and where its bookmark may move.

The engine adds each page; nothing of a record is kept but an 8-byte hash of its key. Claims of the declaration (sorted,
keyed, so many rows) are checked here, because an API that breaks one would otherwise lose records in silence.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from operator import ne
from typing import Any

import msgspec
from isal import isal_zlib

from tap_rest.formats.fields import KeyReader
from tap_rest.language.declaration import BoundStream

KEYS_COUNTED = 1_000_000
_ENDLESS = 1 << 64


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
    warnings: list[str] = []

    def claimed(self) -> dict[str, Any]:
        """As it stands in a claim: every count is there, also when it is 0 or unknown."""
        whole: dict[str, Any] = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in whole.items() if value or name not in ("unplaced", "warnings")}


class Walk:
    """One walk through a unit.

    Args:
        stream: What is read.
        evidence: Of the part that an earlier run has written.
        seen: The highest replication key value of that part.
        before: Signature of its last page.
    """

    def __init__(
        self, stream: BoundStream, evidence: Evidence | None = None, seen: Any = None, before: str = ""
    ) -> None:
        self.evidence = evidence or Evidence()
        self.seen = seen
        self.before = before
        self.warned: list[str] = []
        self._stream = stream
        self._replication = replication = stream.declared.replication
        self._keys = tuple(stream.declared.primary_keys)
        fields = list(self._keys)
        if replication is not None and replication.key not in fields:
            fields.append(replication.key)
        self._place = fields.index(replication.key) if replication is not None else 0
        self._reader = KeyReader(fields) if fields else None
        self._hashes: array[int] | None = array("q") if self._keys and evidence is None else None
        self._last: Any = None
        self._lowest: Any = None
        self._ordered = True
        self._signed: tuple[Sequence[bytes], str] = ((), "")

    def repeats(self, records: Sequence[bytes]) -> bool:
        """Whether a page holds the same records as the one before it."""
        self._signed = (records, signature(records))
        return bool(records) and self._signed[1] == self.before

    def add(self, records: Sequence[bytes], total: int | None) -> None:
        """Counts a page that is about to be written."""
        evidence = self.evidence
        evidence.pages += 1
        evidence.records += len(records)
        if total is not None:
            evidence.declared_total = total
        known, mark = self._signed
        self.before = mark if known is records else signature(records)
        if not records:
            return
        added = int(self.before.rpartition(":")[2], 16)
        evidence.digest = f"crc32-sum:{(int(evidence.digest[10:], 16) + added) % _ENDLESS:016x}"
        if self._reader is None:
            return
        rows = self._reader.read(records)
        if self._hashes is not None:
            self._count(rows)
        if self._replication is not None:
            self._order([row[self._place] for row in rows])

    def _count(self, rows: Sequence[tuple[Any, ...]]) -> None:
        hashes, width = self._hashes or array("q"), len(self._keys)
        keys = rows if len(rows[0]) == width else [row[:width] for row in rows]
        try:
            hashes.extend(map(hash, keys))
        except TypeError:  # a key that is a list or an object
            hashes.extend(hash(repr(key)) for key in keys)
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
        first, last = self._rank(placed[0]), self._rank(placed[-1])
        descending = self._order_declared == "descending"
        in_order = ranks == sorted(ranks, reverse=descending)
        joined = self._last is None or (self._last >= first if descending else self._last <= first)
        self._last = last
        if self._order_declared != "none" and self._ordered and not (in_order and joined):
            self._ordered = False
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
            and self._ordered
            and rank is not None
            and self._lowest is not None
            and bool(self._lowest < rank)
        )

    def bookmark(self, began: float) -> str | int | None:
        """The highest key value seen, but never later than `began`: a record dated ahead would hide those between."""
        rank = self._rank(self.seen)
        signpost = datetime.fromtimestamp(began, UTC)
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
        came = evidence.records if evidence.unique_keys is None else evidence.unique_keys
        return max(0, (evidence.declared_total or 0) - came)

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
    return f"{len(records)}:{sum(map(isal_zlib.crc32, records)):x}" if records else ""
