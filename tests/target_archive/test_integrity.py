"""What `verify` finds, what `repair` makes of it, and that no kill in a repair or a seal costs anything."""

from __future__ import annotations

import json
import random
import shutil
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.target_archive.simulated import PowerLoss, SimulatedStorage

from target_archive import commit as records
from target_archive import dayfile, integrity, layout, sealing
from target_archive import repair as mending
from target_archive import writer as writing
from target_archive.archiver import Archiver
from target_archive.commit import DayFile
from target_archive.errors import ArchiveLocked, CorruptArchive, FormatError
from target_archive.integrity import Finding
from target_archive.log import Log
from target_archive.reading import DayReader, open_log
from target_archive.repair import Repaired, repair
from target_archive.sealing import Sealed
from target_archive.settings import Settings
from target_archive.storage import LocalStorage, Storage
from target_archive.views import head
from target_archive.writer import open_writer

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
DAYS = ("2024-05-01", "2024-05-02", "2024-05-03")


def row(number: int, day: int) -> bytes:
    return b'{"id":%d,"t":"2024-05-%02dT00:00:00Z","v":"%x"}' % (number, day, number * 7919 % 65521)


def rows(run: int, day: int) -> list[bytes]:
    return [row(run * 100 + day * 10 + number, day) for number in range(4)]


def take(
    storage: Storage, run: int, days: Iterator[int] | list[int], *, keys: str = '["id"]', publish: bool = True
) -> None:
    properties = '{"properties":{"t":{"format":"date-time"}}}'
    schema = (
        f'{{"type":"SCHEMA","stream":"s","schema":{properties},"key_properties":{keys},"bookmark_properties":["t"]}}'
    )
    messages = [schema.encode()]
    for day in days:
        messages += [b'{"type":"RECORD","stream":"s","record":%s}' % one for one in rows(run, day)]
    messages += [b'{"type":"STATE","value":{"bookmarks":{"s":{"at":%d}}}}' % run, b"no message"]
    with open_writer(storage, "tap", run=f"run-{run}", now=lambda: NOW) as writer:
        archiver = Archiver(writer, Settings(), lambda _: None, now=lambda: NOW)
        archiver.take(messages)
        if publish:
            archiver.finish()
        else:
            archiver._commit_to_state()
            archiver._commit_all()


def make(storage: Storage) -> None:
    """Three runs that were published, and one that was killed before it could: 2024-05-03 is pending with its packs."""
    for run in (1, 2, 3):
        take(storage, run, [1, 2])
    take(storage, 4, [2, 3], publish=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "CHECKPOINT_EVERY", 4)
        root = tmp_path_factory.mktemp("made")
        make(LocalStorage(root))
        yield root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "archive")
    return tmp_path / "archive"


def found(root: Path) -> list[Finding]:
    return list(integrity.verify(LocalStorage(root), "tap"))


def paths(root: Path) -> list[str]:
    return [finding.path for finding in found(root)]


def mend(root: Path, *, strangers: bool = False, dry_run: bool = False) -> Repaired:
    return repair(LocalStorage(root), "tap", run="repair", strangers=strangers, dry_run=dry_run, now=lambda: NOW)


def lines(root: Path, day: str) -> list[bytes]:
    return DayReader(LocalStorage(root), log_of(root)).lines("s", day)


def log_of(root: Path) -> Log:
    return open_log(LocalStorage(root), "tap")


def of_day(day: int, runs: tuple[int, ...] = (1, 2, 3)) -> list[bytes]:
    return [one for run in runs for one in rows(run, day)]


def every_file(root: Path) -> list[Path]:
    """All that is checked: not the lock, the samples of drift, and what runs said of themselves."""
    meta = root / "tap/_meta"
    left_out = (meta / "drift", meta / "runs", meta / "lock")
    return sorted(one for one in root.rglob("*") if one.is_file() and not any(map(one.is_relative_to, left_out)))


def content(root: Path) -> dict[str, bytes]:
    return {str(one.relative_to(root)): one.read_bytes() for one in every_file(root)}


DAY_1 = "tap/s/2024-05-01.jsonl.gz"


# Verify -------------------------------------------------------------------------------------------------------------


def test_an_archive_that_a_killed_run_has_left_is_as_it_was_written(root: Path) -> None:
    assert found(root) == []
    assert any(layout.checkpoint_number(one.name) for one in every_file(root)), "made with a checkpoint"
    assert list((root / "tap/_meta/packs").iterdir()), "made with pending packs"


@pytest.mark.case("A13")
def test_any_flipped_byte_is_found(root: Path) -> None:
    rng = random.Random(5)
    for path in every_file(root):
        data = path.read_bytes()
        for place in {0, len(data) - 1, *(rng.randrange(len(data)) for _ in range(25))}:
            flipped = bytearray(data)
            flipped[place] ^= 1 << rng.randrange(8)
            path.write_bytes(flipped)
            try:
                assert str(path.relative_to(root)) in paths(root) or _is_line_end(data, place), (path, place)
            except FormatError:
                assert path.name == "format.json", "it seems to be of a newer format"
            if path.name == "format.json" and found_nothing(root):
                assert json.loads(flipped)["format"] == 1  # the next writer sets it right, a reader does not look at it
        path.write_bytes(data)
    assert found(root) == []


def found_nothing(root: Path) -> bool:
    try:
        return not found(root)
    except FormatError:
        return False


def _is_line_end(data: bytes, place: int) -> bool:
    """Behind the digest of a record: nothing stands there."""
    return place == len(data) - 1 and data[place] == ord("\n")


def test_any_cut_is_found(root: Path) -> None:
    rng = random.Random(6)
    for path in every_file(root):
        data = path.read_bytes()
        for length in {0, len(data) - 2, *(rng.randrange(len(data) - 1) for _ in range(5))}:
            path.write_bytes(data[:length])
            assert str(path.relative_to(root)) in paths(root), (path, length)
        path.write_bytes(data)


def test_any_file_that_is_deleted_is_found(root: Path) -> None:
    last = max((root / "tap/_meta/commits").glob("0*.json"))
    for path in every_file(root):
        data = path.read_bytes()
        path.unlink()
        if layout.checkpoint_number(path.name):
            assert found(root) == [], "a checkpoint is no part of the truth"
        elif path == last:
            assert paths(root) == [f"tap/_meta/packs/{path.stem}.pack"], "what the last record told of is still there"
        else:
            assert str(path.relative_to(root)) in paths(root)
        path.write_bytes(data)


def test_every_missing_and_damaged_record_below_a_checkpoint_is_told(root: Path) -> None:
    commits = root / "tap/_meta/commits"
    (commits / "00000002.json").unlink()
    (commits / "00000004.json").write_bytes(b"{}\n")
    (root / DAY_1).unlink()
    assert paths(root) == ["tap/_meta/commits/00000002.json", "tap/_meta/commits/00000004.json", DAY_1]


def test_commits_that_were_swapped_are_found(root: Path) -> None:
    commits = root / "tap/_meta/commits"
    one, other = (commits / f"{number:08d}.json" for number in (1, 3))
    first, third = one.read_bytes(), other.read_bytes()
    one.write_bytes(third)
    other.write_bytes(first)
    assert paths(root)[0] == "tap/_meta/commits/00000001.json"


def test_a_checkpoint_that_says_something_else_than_the_commits_is_found(root: Path) -> None:
    (path,) = (root / "tap/_meta/commits").glob("checkpoint-*")
    body = json.loads(path.read_bytes().splitlines()[0])
    body["log"]["streams"]["s"]["key_properties"] = ["v"]
    path.write_bytes(records.with_digest(json.dumps(body).encode())[0])
    assert [(one.path, one.problem) for one in found(root)] == [
        (str(path.relative_to(root)), "does not say what the commits say")
    ]
    assert mend(root).left == []
    assert not path.exists()
    assert found(root) == []


@pytest.mark.parametrize(
    "name",
    [
        "s/x",
        "s/2024-05-01.p002.jsonl.gz",
        "s/.hidden.tmp",
        "new/a/b",
        "y",
        "_meta/z",
        "_meta/commits/x",
        "_meta/packs/x",
    ],
)
def test_an_extra_file_is_found_and_moved_aside_only_if_asked(root: Path, name: str) -> None:
    path = root / "tap" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"mine")
    assert paths(root) == [f"tap/{name}"]
    if name in {"s/.hidden.tmp", "_meta/packs/x"}:
        (kept,) = mend(root).mended  # any writer takes it for what a killed one has left
        assert (root / kept.saved).read_bytes() == b"mine"
        return
    assert [one.path for one in mend(root).left] == [f"tap/{name}"]
    assert path.read_bytes() == b"mine"
    (moved,) = mend(root, strangers=True).mended
    assert (root / moved.saved).read_bytes() == b"mine"
    assert not path.exists()
    assert found(root) == []
    assert not list((root / "tap/_meta/damaged").rglob("*.jsonl*"))


def test_a_pack_that_is_needed_no_longer_is_told_and_kept_by_a_repair(root: Path) -> None:
    pack = root / "tap/_meta/packs/00000001.pack"
    pack.write_bytes(b"old")
    assert [(one.path, one.problem) for one in found(root)] == [(str(pack.relative_to(root)), "is needed no longer")]
    (mended,) = mend(root).mended
    assert (root / mended.saved).read_bytes() == b"old"
    assert found(root) == []


def test_a_newer_format_is_not_taken_for_damage(root: Path) -> None:
    facts = root / "tap/_meta/format.json"
    facts.write_bytes(facts.read_bytes().replace(b'"format":2', b'"format":3'))
    with pytest.raises(FormatError, match="format 3"):
        found(root)


def test_a_source_whose_format_file_is_missing_is_still_seen_and_mended(root: Path) -> None:
    (root / "tap/_meta/format.json").unlink()
    assert integrity.folders(LocalStorage(root)) == ["tap"]
    assert paths(root) == ["tap/_meta/format.json"]
    assert mend(root).left == []
    assert found(root) == []


# Repair -------------------------------------------------------------------------------------------------------------


def untouched(root: Path, before: dict[str, bytes]) -> bool:
    return content(root) == before


@pytest.mark.case("A13")
def test_of_a_cut_day_the_whole_lines_before_the_cut_stay(root: Path) -> None:
    path = root / DAY_1
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 5 // 6])
    done = mend(root)
    left = lines(root, DAYS[0])
    assert left == of_day(1)[: len(left)]
    assert 8 <= len(left) < 12, "the first two members at least"
    assert (done.mended[0].lost, done.left) == (12 - len(left), [])
    assert (root / done.mended[0].saved).read_bytes() == data[: len(data) * 5 // 6]
    assert found(root) == []
    assert log_of(root).day("s", DAYS[0]).lost == log_of(root).seq


@pytest.mark.parametrize("zeros", [False, True])
def test_a_tail_of_zeros_is_a_cut(root: Path, zeros: bool) -> None:
    path = root / DAY_1
    data = path.read_bytes()
    path.write_bytes(data[:-20] + bytes(5000 if zeros else 0))
    left_lines = 12 - mend(root).mended[0].lost
    assert lines(root, DAYS[0]) == of_day(1)[:left_lines]
    assert left_lines >= 8


def test_of_a_day_with_a_flipped_byte_the_members_before_it_stay(root: Path) -> None:
    path = root / DAY_1
    data = bytearray(path.read_bytes())
    data[len(data) - 30] ^= 4
    path.write_bytes(data)
    assert mend(root).mended[0].lost == 4
    assert lines(root, DAYS[0]) == of_day(1, (1, 2))
    assert found(root) == []


@pytest.mark.parametrize("compressed", [True, False])
def test_whatever_bit_is_flipped_or_wherever_it_is_cut_only_lines_as_written_stay(compressed: bool) -> None:
    text = b"".join(one + b"\n" for one in of_day(1))
    parts = [text[: len(text) // 3], text[len(text) // 3 :]]
    data = b"".join(map(dayfile.compress, parts)) if compressed else text
    name = layout.day_file(DAYS[0], 1, "gzip" if compressed else "none")
    file = DayFile("s", DAYS[0], 1, name, len(data), 12, records.digest(data), 1)
    for place in range(len(data)):
        for bit in range(8):
            flipped = data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]
            assert text.startswith(mending._whole(flipped, file, [file])), (place, bit)
        cut = mending._whole(data[:place], file, [file])
        assert text.startswith(cut)
        assert text.startswith(mending._whole(data[:place] + bytes(4096), file, [file]))
    assert len(cut) > len(text) // 2, "a file that lacks a byte keeps most of its lines"


def test_an_older_copy_of_a_day_that_was_repaired_since_is_not_taken_for_it(root: Path) -> None:
    path = root / DAY_1
    older = path.read_bytes()
    path.write_bytes(older[: len(older) // 2])
    mend(root)
    left = lines(root, DAYS[0])
    take(LocalStorage(root), 9, [1])
    path.write_bytes(older)
    assert mend(root).mended[0].lost == 4
    assert lines(root, DAYS[0]) == left


def test_of_an_edited_day_only_what_the_log_proves_stays(root: Path) -> None:
    path = root / DAY_1
    text = zlib.decompress(path.read_bytes(), 31)
    reader = zlib.decompressobj(31)
    reader.decompress(path.read_bytes())
    first = path.read_bytes()[: -len(reader.unused_data)]
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    path.write_bytes(first + packer.compress(b'{"id":1,"forged":true}\n') + packer.flush())
    assert mend(root).mended[0].lost == 8
    assert b"\n".join(lines(root, DAYS[0])) + b"\n" == text


def test_a_day_that_has_grown_is_put_back_without_a_commit(root: Path) -> None:
    path, seq = root / DAY_1, log_of(root).seq
    data = path.read_bytes()
    path.write_bytes(data + b"mine")
    assert [one.problem for one in found(root)] == ["has grown since it was written"]
    (mended,) = mend(root).mended
    assert (mended.lost, path.read_bytes()) == (0, data)
    assert (root / mended.saved).read_bytes() == data + b"mine"
    assert log_of(root).seq == seq
    assert found(root) == []


def test_a_later_read_brings_the_lines_of_a_deleted_day_again(root: Path) -> None:
    shutil.rmtree(root / "tap/s")
    before = log_of(root).lines_of("s", DAYS[1])
    done = mend(root)
    assert {one.path: one.lost for one in done.mended} == {DAY_1: 12, f"tap/s/{DAYS[1]}.jsonl.gz": 12}
    assert log_of(root).lines_of("s", DAYS[1]) == before - 12, "what was pending is untouched"
    for run in (1, 2, 3):
        take(LocalStorage(root), run, [1, 2])
    assert lines(root, DAYS[0]) == of_day(1)
    assert sorted(lines(root, DAYS[1])) == sorted(of_day(2, (1, 2, 3, 4)))
    assert found(root) == []


@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_of_a_damaged_pack_what_is_whole_goes_into_the_day_and_a_writer_can_go_on(root: Path, damage: str) -> None:
    take(LocalStorage(root), 1, [])
    make(LocalStorage(root))  # everything again is a repeat
    take(LocalStorage(root), 5, [3], publish=False)
    take(LocalStorage(root), 6, [3], publish=False)
    take(LocalStorage(root), 7, [3], publish=False)
    seq, hit = log_of(root).day("s", DAYS[2]).pending[2]
    pack = root / layout.pack("tap", seq)
    data = bytearray(pack.read_bytes())
    if damage == "flip":
        data[hit.offset + hit.size // 2] ^= 8
    pack.write_bytes(data if damage == "flip" else data[: hit.offset + hit.size // 2])
    if damage == "delete":
        pack.unlink()
    before = of_day(3, (4, 5, 6, 7))
    assert {one.path for one in found(root)} >= {str(pack.relative_to(root))}
    with pytest.raises(CorruptArchive, match="pack"):
        lines(root, DAYS[2])
    done = mend(root)
    lost = next(one.lost for one in done.mended if one.path == str(pack.relative_to(root)))
    left = lines(root, DAYS[2])
    assert (len(left), set(left) < set(before)) == (16 - lost, True)
    assert left == [one for one in before if one in left]
    assert found(root) == []
    take(LocalStorage(root), 5, [3])
    take(LocalStorage(root), 8, [3])
    assert found(root) == []
    assert set(rows(5, 3)) <= set(lines(root, DAYS[2]))


def test_a_damaged_record_cannot_be_mended_and_nothing_is_touched(root: Path) -> None:
    path = root / "tap/_meta/commits/00000002.json"
    path.write_bytes(path.read_bytes()[:-70])
    (root / DAY_1).unlink()
    before = content(root)
    with pytest.raises(CorruptArchive, match=r"00000002\.json.*nothing was touched"):
        mend(root)
    assert untouched(root, before)


def test_a_dry_run_says_what_a_repair_then_does(root: Path) -> None:
    path = root / DAY_1
    path.write_bytes(path.read_bytes()[:-9])
    (root / f"tap/s/{DAYS[1]}.jsonl.gz").write_bytes(b"")
    (root / "tap/s/mine").write_bytes(b"")
    before = content(root)
    planned = mend(root, dry_run=True)
    assert untouched(root, before)
    assert mend(root) == planned
    assert len(planned.mended) == 2
    after = content(root)
    assert mend(root).mended == []
    assert untouched(root, after)


def test_what_was_gone_stays_gone_when_lines_before_it_are_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "PART_SIZE", 1)
    storage = LocalStorage(tmp_path)
    for run in (1, 2, 3):
        take(storage, run, [1])
    with open_writer(storage, "tap", run="x") as writer:
        writer.commit(None, found=writing.Found(gone={"s": {DAYS[0]: (2, 6, 11)}}))
    (tmp_path / f"tap/s/{DAYS[0]}.p002.jsonl.gz").unlink()
    mend(tmp_path)
    held = log_of(tmp_path).day("s", DAYS[0])
    assert lines(tmp_path, DAYS[0]) == of_day(1, (1, 3))
    assert held.gone_lines() == {2, 7}
    assert head(lines(tmp_path, DAYS[0]), ["id"], held.gone_lines()) == [
        of_day(1, (1, 3))[n] for n in (0, 2, 3, 4, 5, 7)
    ]


@pytest.mark.parametrize("part", ["", ".p002"])
def test_parts_keep_their_order_when_one_is_mended_or_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setattr(writing, "PART_SIZE", 1)
    for run in (1, 2, 3):
        take(LocalStorage(tmp_path), run, [1])
    path = tmp_path / f"tap/s/{DAYS[0]}{part}.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-8])
    assert mend(tmp_path).mended[0].lost == 0, "all but its checksum is there"
    assert lines(tmp_path, DAYS[0]) == of_day(1)
    seal(LocalStorage(tmp_path))
    assert lines(tmp_path, DAYS[0]) == of_day(1)
    assert found(tmp_path) == []


def test_a_new_copy_that_comes_after_a_repair_is_no_repeat_of_what_was_left(tmp_path: Path) -> None:
    """Without keys, from a page on: which of the lines came since the STATE cannot be told, so all news are kept."""
    storage, state = LocalStorage(tmp_path), b'{"type":"STATE","value":{"bookmarks":{"s":{"page":%d}}}}'
    schema = b'{"type":"SCHEMA","stream":"s","schema":{"properties":{"t":{"format":"date-time"}}},"key_properties":[],'
    schema += b'"bookmark_properties":["t"]}'
    record = b'{"type":"RECORD","stream":"s","record":%s}' % row(1, 1)

    def run(*messages: bytes) -> None:
        with open_writer(storage, "tap", run="run") as writer:
            archiver = Archiver(writer, Settings(), lambda _: None)
            archiver.take(list(messages))
            archiver.finish()

    run(schema, record, state % 1)
    run(state % 1, schema, record, state % 2)
    path = tmp_path / DAY_1
    path.write_bytes(path.read_bytes()[:-1])
    damaged = path.read_bytes()
    path.write_bytes(damaged[: len(damaged) // 2])
    assert mend(tmp_path).mended[0].lost == 1
    run(state % 2, schema, record, state % 3)
    assert lines(tmp_path, DAYS[0]) == [row(1, 1)] * 2


def test_a_repair_waits_for_no_writer_and_none_for_it(root: Path) -> None:
    with open_writer(LocalStorage(root), "tap", run="w"), pytest.raises(ArchiveLocked):
        mend(root)


# Power losses -------------------------------------------------------------------------------------------------------


def damage(storage: SimulatedStorage, rng: random.Random) -> list[bytes]:
    """Up to three files of a day or a pack are flipped, cut or lost; what is there of them."""
    left: list[bytes] = []
    chosen = [f"{folder}/{name}" for folder in ("tap/s", "tap/_meta/packs") for name in storage.names(folder)]
    for path in rng.sample(chosen, rng.randint(1, min(3, len(chosen)))):
        folder, name = path.rsplit("/", 1)
        inode = storage.now[folder][name]
        data = storage.content[inode][0]
        kind = rng.choice(["flip", "cut", "drop", "grow"])
        match kind:
            case "flip":
                place = rng.randrange(len(data))
                data = data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]
            case "cut":
                data = data[: rng.randrange(len(data))]
            case "grow":
                data += b"more"
            case "drop":
                del storage.now[folder][name]
                storage.durable[folder].pop(name, None)
        storage.content[inode] = (data, data)
        if kind != "drop" and not (kind == "grow" and "packs" in path):  # what is behind a pack's end belongs to nobody
            left.append(data)
    return left


def saved(storage: SimulatedStorage) -> set[bytes]:
    """What repairs have kept."""
    paths = integrity.files_below(storage, layout.meta("tap", "damaged"))
    return {storage.read(path) or b"" for path in paths}


def survivors(storage: SimulatedStorage) -> dict[str, list[bytes]]:
    log = open_log(storage, "tap")
    return {day: DayReader(storage, log).lines("s", day) for day in log.held["s"]}


def simulated(seed: int) -> tuple[SimulatedStorage, list[bytes]]:
    storage = SimulatedStorage(random.Random(seed))
    make(storage)
    return storage, damage(storage, random.Random(seed))


@pytest.mark.case("A1")
def test_a_power_loss_at_any_point_of_a_repair_costs_nothing_more() -> None:
    crashes = 0
    for seed in range(60):
        whole, _ = simulated(seed)
        repair(whole, "tap", run="r", now=lambda: NOW)
        expected = survivors(whole)
        assert list(integrity.verify(whole, "tap")) == []
        for fail_at in range(1 + seed % 3, 200, 3):
            storage, left = simulated(seed)
            storage.rng = random.Random(fail_at)
            storage.operations, storage.fail_at = 0, fail_at
            try:
                repair(storage, "tap", run="r", now=lambda: NOW)
            except PowerLoss:
                crashes += 1
                storage = storage.after_power_loss()
                repair(storage, "tap", run="r", now=lambda: NOW)
            assert survivors(storage) == expected, (seed, fail_at)
            assert saved(storage) >= set(left), (seed, fail_at)
            assert list(integrity.verify(storage, "tap")) == [], (seed, fail_at)
            if storage.fail_at is not None:
                break
    assert crashes > 500


def seal(storage: Storage, until: str = "2024-06-01") -> list[Sealed]:
    with open_writer(storage, "tap", run="seal") as writer:
        return list(sealing.seal(storage, writer, until=until))


def test_a_sealed_day_has_the_same_lines_in_fewer_bytes(root: Path) -> None:
    before = {day: lines(root, day) for day in DAYS}
    sizes = {one.name: one.stat().st_size for one in (root / "tap/s").iterdir()}
    sealed = seal(LocalStorage(root))
    assert [one.path for one in sealed] == [DAY_1, f"tap/s/{DAYS[1]}.jsonl.gz"]
    assert all(one.before == sizes[one.path.rpartition("/")[2]] > one.after for one in sealed)
    assert {day: lines(root, day) for day in DAYS} == before
    assert found(root) == []
    assert seal(LocalStorage(root)) == [], "there is nothing more to gain"
    take(LocalStorage(root), 9, [1])
    assert lines(root, DAYS[0]) == [*before[DAYS[0]], *rows(9, 1)]
    assert seal(LocalStorage(root), until=DAYS[0]) == [], "not finished"
    assert DAY_1 in [one.path for one in seal(LocalStorage(root))]


def test_a_damaged_day_is_not_sealed(root: Path) -> None:
    (root / DAY_1).write_bytes(b"mine")
    with open_writer(LocalStorage(root), "tap", run="seal") as writer:
        assert len(list(sealing.seal(LocalStorage(root), writer, until="2024-06-01"))) == 1
        assert writer.problems == [f"{DAY_1} is not as it was written: it is left alone"]
    assert (root / DAY_1).read_bytes() == b"mine"


@pytest.mark.case("A1")
def test_a_power_loss_at_any_point_of_a_seal_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "STAGED_BYTES", 1)  # a commit for each file
    crashes = 0

    def prepared() -> SimulatedStorage:
        storage = SimulatedStorage(random.Random(1))
        make(storage)
        storage.operations = 0
        return storage

    expected = survivors(prepared())
    for fail_at in range(1, 80):
        for seed in range(3):
            storage = prepared()
            storage.rng, storage.fail_at = random.Random(seed), fail_at
            try:
                seal(storage)
            except PowerLoss:
                crashes += 1
                storage = storage.after_power_loss()
            storage.fail_at = None
            assert survivors(storage) == expected
            assert not [one for one in integrity.verify(storage, "tap") if one.path.startswith("tap/s/")]
            seal(storage)
            assert survivors(storage) == expected
            assert list(integrity.verify(storage, "tap")) == []
    assert crashes > 30
