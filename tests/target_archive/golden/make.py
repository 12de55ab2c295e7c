"""Makes the golden archive of today's format, and notes what the views of every golden archive say.

An archive that a released version wrote must be read, verified and continued by every later one, so each format has one
here, made once by the code of that format; `format-N.json` has the views of its days as of each of its commits, null
where a repair has made one unknowable, and "head" for the latest.

`format-1`: `tickets`, keyed, with a repeat that was dropped and a change in shape; `clicks`, without keys, with equal
lines and an undated one; a dead letter; claims; a pack that a killed run did not publish.

`format-2`: `visits`, keyless events, of which a torn day was repaired and a deleted file is lost; `orders`, entities in
parts, some gone, one of them back; `prices`, a metric whose day was corrected, and pinned; `members`, a snapshot that
was the same for two days and then another; an `acknowledge`; a dead letter; claims; a checkpoint;
a sealed day; a pack that a killed run did not publish.

Run it as `python -m tests.target_archive.golden.make`, only when a format is new: what is here stays as it is.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from target_archive import sealing
from target_archive import writer as writing
from target_archive.archive import Archive
from target_archive.archiver import Archiver
from target_archive.errors import NotHeld
from target_archive.repair import repair
from target_archive.settings import Settings
from target_archive.storage import LocalStorage
from target_archive.writer import open_writer

HERE = Path(__file__).parent
SOURCE = "tap-golden"
STREAMS: dict[str, tuple[str, list[str], bool]] = {
    "visits": ("event", [], True),
    "orders": ("entity", ["id"], True),
    "prices": ("metric", ["id", "of.kind"], True),
    "members": ("snapshot", ["id"], False),
}

Rows = dict[str, Sequence[dict[str, Any]]]


def messages(number: int, rows: Rows) -> list[bytes]:
    """What a tap says that reads each stream whole."""
    found: list[dict[str, Any]] = []
    claims: dict[str, list[Any]] = {}
    for stream, records in rows.items():
        mode, keys, dated = STREAMS[stream]
        schema: dict[str, Any] = {"type": "object", "properties": {"id": {}}, "x-daykeep-mode": mode}
        if dated:
            schema["x-daykeep-day"] = {"field": "at", "tz": "UTC"}
        bookmarks = ["at"] if dated else []
        found.append({"type": "SCHEMA", "stream": stream, "schema": schema, "key_properties": keys})
        found[-1]["bookmark_properties"] = bookmarks
        found += [{"type": "RECORD", "stream": stream, "record": record} for record in records]
        evidence = {"pages": 1, "requests": 1, "records": len(records), "reason": "no_next"}
        claim = {"partition": None, "from": None, "to": "2024-05-10T00:00:00Z", "status": "complete"}
        claims[stream] = [{**claim, "evidence": evidence}]
    bookmarks_of = {stream: {"read": number} for stream in rows}
    found.append({"type": "STATE", "value": {"bookmarks": bookmarks_of, "claims": claims}})
    return [json.dumps(one).encode() for one in found]


def take(root: Path, number: int, rows: Rows, *more: bytes, publish: bool = True) -> None:
    """Run `number`, a day later than the one before."""
    with open_writer(LocalStorage(root), SOURCE, run=f"run-{number}", now=lambda: at(number)) as writer:
        archiver = Archiver(writer, Settings(), lambda _: None, now=lambda: at(number))
        archiver.take([*messages(number, rows), *more])
        if publish:
            archiver.finish()
        else:
            archiver._commit_to_state()


def at(number: int) -> datetime:
    return datetime(2024, 6, 1, 12, tzinfo=UTC) + timedelta(days=number)


def row(number: int, day: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "at": f"2024-05-{day:02d}T10:00:00Z", **more}


def make(root: Path) -> None:
    """Write an archive of today's format below `root`."""
    writing.CHECKPOINT_EVERY, writing.PART_SIZE = 5, 120
    visits, people = [row(1, 1), row(1, 1), row(2, 2, page="/ä")], [{"id": 1, "name": "A"}, {"id": 2, "name": "B"}]
    orders = [row(number, 1 + number // 8, total=number * 1.10) for number in range(12)]
    prices = [row(1, 3, of={"kind": "day"}, price=1), row(1, 3, of={"kind": "night"}, price=2)]
    take(root, 1, {"visits": visits, "orders": orders, "prices": prices, "members": people}, b"no message")
    take(root, 2, {"orders": orders[1:], "prices": [{**prices[0], "price": 9}], "members": people})
    take(root, 3, {"orders": orders, "members": [*people, {"id": 3, "name": "C", "new": True}]})
    take(root, 4, {"visits": [*visits, *(row(number, 4) for number in range(9)), {"id": 0, "at": "once"}]})
    day = root / SOURCE / "visits/2024-05-04.jsonl.gz"
    day.write_bytes(day.read_bytes()[:-14])
    (root / SOURCE / "orders/2024-05-02.jsonl.gz").unlink()
    repair(LocalStorage(root), SOURCE, run="repair", now=lambda: at(5))
    with open_writer(LocalStorage(root), SOURCE, run="person", now=lambda: at(6)) as writer:
        writer.pin("prices", "2024-05-03", 1)
        writer.acknowledge(["members"])
        list(sealing.seal(LocalStorage(root), writer, until="2024-05-02"))
    take(root, 7, {"visits": [*visits, row(7, 5)], "orders": [*orders[:7], *orders[8:], row(20, 6)]}, publish=False)
    (root / SOURCE / "_meta/lock").write_bytes(b"")  # it names a machine


def views(root: Path) -> dict[str, Any]:
    """The view of each day of each stream, as of each commit and now."""
    archive = Archive(root, SOURCE)
    found: dict[str, Any] = {}
    for stream in archive.streams():
        for day in [*archive.days(stream), "undated"]:
            one: dict[str, Any] = {"head": [line.decode() for line in archive.view(stream, day)]}
            found[f"{stream} {day}"] = one
            for seq in range(1, archive.log.seq + 1):
                try:
                    one[str(seq)] = [line.decode() for line in archive.view(stream, day, as_of=seq)]
                except NotHeld:
                    one[str(seq)] = None
    return found


def main() -> None:
    shutil.rmtree(HERE / "format-2", ignore_errors=True)
    make(HERE / "format-2")
    for name in ("format-1", "format-2"):
        noted = json.dumps(views(HERE / name), indent=1, ensure_ascii=False)
        (HERE / f"{name}.json").write_text(noted + "\n")


if __name__ == "__main__":
    main()
