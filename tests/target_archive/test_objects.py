"""An archive in an object store: answers that get lost, leases, and writers that meet."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.target_archive import stores
from tests.target_archive.stores import Fault

from target_archive.errors import ArchiveLocked, StorageFailed
from target_archive.lease import Lease
from target_archive.objects import ObjectStorage
from target_archive.storage import Storage, storage_of


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with stores.moto() as url:
        yield url


@pytest.fixture
def root(moto: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty root on a line that works."""
    for name, value in stores.s3(moto).items():
        monkeypatch.setenv(name, value)
    return f"s3://bucket/{uuid.uuid4().hex}"


@pytest.fixture
def faults(moto: str, root: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Fault]]:
    """Faults of the line that storages made from now on talk through."""
    found: list[Fault] = []
    with stores.bad_line(moto, found) as url:
        monkeypatch.setenv("AWS_ENDPOINT", url)
        yield found


def puts(*fates: str | int | None) -> Fault:
    """What becomes of one put after the other; those after the last one arrive."""
    left = iter(fates)
    return lambda method, _: next(left, None) if method == "PUT" else None


def memory(**options: float) -> Callable[[], ObjectStorage]:
    """Opens one store of this process again and again."""
    root = f"memory:///{uuid.uuid4().hex}"
    return lambda: ObjectStorage.of(root, **options)


# The line ---------------------------------------------------------------------------------------------------------


@pytest.mark.case("D1")
@pytest.mark.parametrize(
    "fates", [["lose"], [409], [503], [503, "lose"], [409, 409, "lose"], ["lose", "lose", "lose"]], ids=str
)
def test_an_object_is_made_once_however_often_the_answer_is_lost(
    root: str, faults: list[Fault], fates: list[str | int]
) -> None:
    storage = storage_of(root)
    faults[:] = [puts(*fates)]
    storage.create("a/file", b"mine")
    assert storage.read("a/file") == b"mine"


@pytest.mark.case("D1")
@pytest.mark.parametrize("fates", [["lose"], [409], [503], []], ids=str)
def test_a_taken_name_is_told_however_often_the_answer_is_lost(
    root: str, faults: list[Fault], fates: list[str | int]
) -> None:
    storage = storage_of(root)
    storage.create("a/file", b"theirs")
    faults[:] = [puts(*fates)]
    with pytest.raises(FileExistsError):
        storage.create("a/file", b"mine")
    assert storage.read("a/file") == b"theirs"


@pytest.mark.case("D1")
@pytest.mark.parametrize("fates", [["lose"], [409], [503], [409, "lose"]], ids=str)
def test_an_object_is_replaced_once_however_often_the_answer_is_lost(
    root: str, faults: list[Fault], fates: list[str | int]
) -> None:
    storage = storage_of(root)
    storage.write("a/day", b"old")
    storage.write("a/.day.tmp", b"new")
    assert storage.read("a/day") == b"old"
    faults[:] = [puts(*fates)]
    storage.rename("a/.day.tmp", "a/day")
    assert (storage.read("a/day"), storage.names("a")) == (b"new", ["day"])


@pytest.mark.case("D4")
def test_a_store_that_ignores_conditions_is_refused_unless_one_writer_is_promised(
    root: str, faults: list[Fault]
) -> None:
    faults[:] = [puts(*["unconditional"] * 100)]
    with pytest.raises(StorageFailed) as caught, storage_of(root).lock("a/lock"):
        pytest.fail("the lock was taken")
    assert "single_writer: assumed" in caught.value.hint
    storage = storage_of(root, assume_single_writer=True)
    with storage.lock("a/lock"):
        storage.create("a/file", b"first")
        with pytest.raises(FileExistsError):
            storage.create("a/file", b"second")
        for content in (b"third", b"fourth"):
            storage.write("a/.day.tmp", content)
            storage.rename("a/.day.tmp", "a/day")
            assert storage.read("a/day") == content


@pytest.mark.case("D6")
def test_a_missing_permission_is_told_with_what_is_needed(root: str, faults: list[Fault]) -> None:
    storage = storage_of(root)
    faults[:] = [lambda *_: 403]
    for ask in (
        lambda: storage.create("a/file", b""),
        lambda: storage.write("a/file", b""),
        lambda: storage.read("a/file"),
        lambda: storage.names("a"),
        lambda: storage.remove("a/file"),
    ):
        with pytest.raises(StorageFailed, match="AccessDenied") as caught:
            ask()
        assert "read, write, delete and list" in caught.value.hint
        assert caught.value.where.startswith(root)


@pytest.mark.case("D6")
def test_a_missing_bucket_is_told(root: str) -> None:
    storage = storage_of("s3://nobucket/x")
    with pytest.raises(StorageFailed, match="NoSuchBucket"), storage.lock("a/lock"):
        pytest.fail("the lock was taken")
    with pytest.raises(StorageFailed, match="NoSuchBucket"):
        storage.names("")


def test_no_signature_of_a_url_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "x")
    monkeypatch.setenv("AZURE_STORAGE_SAS_KEY", "sv=2023&sig=topsecret%3D")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:1/x")
    monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    with pytest.raises(StorageFailed) as caught:
        storage_of("az://bucket/x").read("a")
    assert "topsecret" not in str(caught.value)


@pytest.mark.case("D4")
def test_a_store_without_conditional_puts_is_refused_with_what_to_set(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    with pytest.raises(StorageFailed) as caught, storage_of(root).lock("a/lock"):
        pytest.fail("the lock was taken")
    assert "single_writer: assumed" in caught.value.hint
    with storage_of(root, assume_single_writer=True).lock("a/lock"):
        pass


# The lease --------------------------------------------------------------------------------------------------------


def test_a_lease_that_was_given_back_is_taken_at_once() -> None:
    make = memory(lease_seconds=1e6)  # were it waited for, this would never end
    for _ in range(3):
        with make().lock("a/lock"):
            pass


@pytest.mark.case("A17")
def test_a_living_holder_keeps_others_out_and_is_named() -> None:
    make = memory(lease_seconds=3)
    with make().lock("a/lock"):
        with pytest.raises(ArchiveLocked) as caught, make().lock("a/lock"):
            pytest.fail("the lock was taken twice")
        assert caught.value.where.startswith("pid ")
    with make().lock("a/lock"):
        pass


@contextmanager
def dead(storage: Storage, seconds: float = 0.6) -> Iterator[Lease]:
    """A lease whose holder is not heard of any more, and its process may wake up later."""
    lease = Lease(storage, "a/lock", seconds=seconds)
    lease._thread = threading.Thread()
    lease.take()
    yield lease


@pytest.mark.case("A17")
def test_a_dead_holder_is_followed_once_its_lease_has_run_out_and_told_when_it_wakes_up() -> None:
    make = memory(lease_seconds=0.6)
    with dead(make()) as lease:
        lease.check()
        storage = make()
        with storage.lock("a/lock"):
            storage.write("a/file", b"")
            time.sleep(0.7)
            with pytest.raises(ArchiveLocked, match="taken over"):
                lease.check()
            storage.write("a/file", b"")
    with make().lock("a/lock"):
        pass


def test_a_holder_that_was_paused_and_not_followed_goes_on() -> None:
    now = [0.0]
    storage = memory()()
    lease = Lease(storage, "a/lock", clock=lambda: now[0])
    lease.take()
    try:
        now[0] = 1e6
        lease.check()
        assert storage.names("a/lock") == ["00000002"]
    finally:
        lease.release()


@pytest.mark.case("A17")
def test_of_many_that_follow_a_dead_holder_one_gets_the_lease() -> None:
    make = memory(lease_seconds=3)
    fates: list[str] = []
    go_on = threading.Event()

    def follow() -> None:
        try:
            with make().lock("a/lock"):
                fates.append("held")
                go_on.wait(60)
        except ArchiveLocked:
            fates.append("locked")

    with dead(make(), 3):
        threads = [threading.Thread(target=follow) for _ in range(5)]
        for thread in threads:
            thread.start()
        while len(fates) < 5:
            time.sleep(0.05)
        go_on.set()
        for thread in threads:
            thread.join()
    assert sorted(fates) == ["held", *["locked"] * 4]


@pytest.mark.parametrize("gone_on", [1, 4], ids=["next", "far"])
def test_a_lease_is_lost_to_one_that_has_gone_on_and_cleaned_up_since(gone_on: int) -> None:
    storage, now = memory()(), [0.0]
    lease = Lease(storage, "a/lock", clock=lambda: now[0])
    lease._thread = threading.Thread()
    lease.take()
    storage.create(f"a/lock/{1 + gone_on:08d}", storage.read("a/lock/00000001") or b"")
    storage.remove("a/lock/00000001")
    now[0] = 1e6
    storage.write("a/lock/00000002", b"") if gone_on == 1 else None
    with pytest.raises(ArchiveLocked):
        lease.check()


def test_a_line_that_is_down_for_a_moment_does_not_end_a_lease(root: str, faults: list[Fault]) -> None:
    storage, asked = ObjectStorage.of(root, lease_seconds=1.5), itertools.count()
    with storage.lock("a/lock"):
        faults[:] = [lambda method, _: 403 if method == "PUT" and next(asked) < 2 else None]
        for _ in range(600):
            if "00000002" in storage.names("a/lock"):
                return
            time.sleep(0.1)
    pytest.fail("the lease was not renewed")


HOLDING = """
import sys
from target_archive.errors import ArchiveError
from target_archive.objects import ObjectStorage
storage = ObjectStorage.of(sys.argv[1], lease_seconds=1.5)
with storage.lock("a/lock"):
    print("held", flush=True)
    sys.stdin.readline()
    try:
        storage.write("a/day", b"stale")
    except ArchiveError as error:
        print(type(error).__name__, flush=True)
"""


@pytest.mark.case("A17")
def test_a_process_that_was_stopped_past_its_lease_writes_nothing_when_it_wakes_up(root: str) -> None:
    command = [sys.executable, "-c", HOLDING, root]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGSTOP)
        storage = ObjectStorage.of(root, lease_seconds=1.5)
        with storage.lock("a/lock"):
            storage.write("a/day", b"newer")
            process.send_signal(signal.SIGCONT)
            assert process.communicate("\n", timeout=60)[0] == "ArchiveLocked\n"
            assert storage.read("a/day") == b"newer"


def test_the_lease_says_who_holds_it(root: str) -> None:
    storage = storage_of(root)
    with storage.lock("a/lock"):
        holder = json.loads(storage.read("a/lock/00000001") or b"")
    assert holder.keys() == {"nonce", "pid", "host", "since"}
    released = json.loads(storage.read("a/lock/00000002") or b"")
    assert released == {**holder, "released": True}
