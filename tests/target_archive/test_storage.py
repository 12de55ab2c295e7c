"""What an archive asks of its storage, asked of each kind: a disk, memory, S3, Azure and Google."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path

import pytest
from tests.target_archive import stores
from tests.target_archive.stores import Environment

from target_archive import layout
from target_archive.errors import ArchiveLocked, BadSettings
from target_archive.storage import LocalStorage, Storage, storage_of

SERVERS: dict[str, Callable[[], AbstractContextManager[Environment]]] = {
    "s3": stores.s3_server,
    "az": stores.azurite,
    "gs": stores.google,
    "memory": lambda: nullcontext({}),
}
KINDS = ["local", *SERVERS]
STORES = list(SERVERS)


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[str], Environment]]:
    """Starts the server of a kind when it is first needed."""
    started: dict[str, Environment] = {}
    with ExitStack() as stack:

        def environment(kind: str) -> Environment:
            if kind not in started:
                started[kind] = stack.enter_context(SERVERS[kind]())
            return started[kind]

        yield environment


@pytest.fixture
def root(
    request: pytest.FixtureRequest,
    servers: Callable[[str], Environment],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """An empty root of the kind that the test is parametrised with."""
    kind: str = request.param
    if kind == "local":
        return str(tmp_path)
    for name, value in servers(kind).items():
        monkeypatch.setenv(name, value)
    return f"{kind}://bucket/{uuid.uuid4().hex}"


@pytest.fixture
def storage(root: str) -> Storage:
    made = storage_of(root)
    made.make_folder("a/b")
    return made


of_each_kind = pytest.mark.parametrize("root", KINDS, indirect=True)
of_each_store = pytest.mark.parametrize("root", STORES, indirect=True)


@of_each_kind
@pytest.mark.parametrize("content", [b"", b"text\n", bytes(range(256)) * 7], ids=["empty", "text", "binary"])
def test_what_is_written_is_read(storage: Storage, content: bytes) -> None:
    storage.write("a/b/one", content)
    storage.create("a/b/two", content)
    for name in ("a/b/one", "a/b/two"):
        assert (storage.read(name), storage.size(name)) == (content, len(content))


@of_each_kind
def test_what_is_not_there_is_none(storage: Storage) -> None:
    assert (storage.read("a/b/none"), storage.read("a/b/none", 3, 4), storage.size("a/b/none")) == (None, None, None)
    assert storage.names("a/b") == storage.names("nowhere") == []
    storage.remove("a/b/none")


@of_each_kind
def test_parts_are_read_as_a_file_gives_them(storage: Storage) -> None:
    storage.write("a/b/file", b"0123456789")
    storage.write("a/b/empty", b"")
    for start, length in [(0, 4), (3, 4), (8, 10), (10, 5), (20, 5), (0, 0), (2, 0), (4, -1), (10, -1)]:
        end = None if length < 0 else start + length
        assert storage.read("a/b/file", start, length) == b"0123456789"[start:end]
        assert storage.read("a/b/empty", start, length) == b""


@of_each_kind
def test_write_replaces_and_remove_removes_and_both_show_at_once(storage: Storage) -> None:
    for content in (b"first", b"", b"second"):
        storage.write("a/b/file", content)
        assert (storage.read("a/b/file"), storage.names("a/b")) == (content, ["file"])
    storage.remove("a/b/file")
    assert (storage.read("a/b/file"), storage.names("a/b")) == (None, [])


@of_each_kind
def test_create_refuses_a_taken_name_and_leaves_it_as_it_was(storage: Storage) -> None:
    storage.create("a/b/file", b"mine")
    with pytest.raises(FileExistsError):
        storage.create("a/b/file", b"yours")
    assert (storage.read("a/b/file"), storage.names("a/b")) == (b"mine", ["file"])


@of_each_kind
def test_rename_replaces(storage: Storage) -> None:
    for content in (b"first", b"second"):
        storage.write("a/b/.file.tmp", content)
        storage.rename("a/b/.file.tmp", "a/b/file")
        storage.sync("a/b")
        assert (storage.read("a/b/file"), storage.names("a/b")) == (content, ["file"])


@of_each_kind
def test_names_are_those_of_files_and_folders_right_below(storage: Storage) -> None:
    storage.make_folder("a/b/deep/er")
    storage.make_folder("ab")
    storage.write("a/b/deep/er/file", b"")
    storage.write("a/b/file", b"")
    storage.write("ab/other", b"")
    assert (storage.names("a/b"), storage.names("a"), storage.names("")) == (["deep", "file"], ["b"], ["a", "ab"])


@of_each_kind
def test_a_folder_of_200_names_is_listed_whole(storage: Storage) -> None:
    names = [f"{number:08d}.json" for number in range(200)]
    for name in names:
        storage.write(f"a/b/{name}", name.encode())
    assert storage.names("a/b") == names


@of_each_kind
@pytest.mark.parametrize("plain", ["Größe", "a/b?c#d", "100%", "日本語", ".hidden", "a b+c&d", "CON", "x" * 200])
def test_every_safe_name_comes_back_as_it_is(storage: Storage, plain: str) -> None:
    name = layout.safe_name(plain)
    storage.make_folder(f"a/{name}")
    storage.create(f"a/{name}/{name}.jsonl.gz", b"1")
    assert name in storage.names("a")
    assert storage.names(f"a/{name}") == [f"{name}.jsonl.gz"]
    assert storage.read(f"a/{name}/{name}.jsonl.gz") == b"1"


@of_each_kind
def test_20_megabytes_pass_whole(storage: Storage) -> None:
    content = os.urandom(20 << 20)
    storage.write("a/b/.large.tmp", content)
    storage.rename("a/b/.large.tmp", "a/b/large")
    storage.create("a/b/other", content)
    assert storage.read("a/b/large") == storage.read("a/b/other") == content
    assert storage.read("a/b/large", 12_345_678, 5) == content[12_345_678:12_345_683]


CREATING = """
import sys
from target_archive.storage import storage_of
storage = storage_of(sys.argv[1])
print("ready", flush=True)
for number in range(int(sys.stdin.readline())):
    try:
        storage.create(f"a/b/{number}", sys.argv[2].encode())
    except FileExistsError:
        print("lost")
    else:
        print("won")
"""


@pytest.mark.case("A17")
@pytest.mark.parametrize("root", ["local", "s3", "az", "gs"], indirect=True)
def test_of_two_processes_that_create_a_name_one_wins(root: str, storage: Storage) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CREATING, root, who], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for who in ("first", "second")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("25\n")
        process.stdin.flush()
    first, second = (process.communicate(timeout=60)[0].split() for process in processes)
    for number, fates in enumerate(zip(first, second, strict=True)):
        assert sorted(fates) == ["lost", "won"]
        assert storage.read(f"a/b/{number}") == (b"first" if fates[0] == "won" else b"second")
    assert len(storage.names("a/b")) == len(first) == 25


def test_of_many_threads_that_create_a_name_in_memory_one_wins() -> None:
    storage, won, start = storage_of("memory:///threads"), list[int](), threading.Barrier(8)

    def create(number: int) -> None:
        start.wait()
        try:
            storage.create("a/file", b"%d" % number)
        except FileExistsError:
            return
        won.append(number)

    threads = [threading.Thread(target=create, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [b"%d" % number for number in won] == [storage.read("a/file")]


@of_each_kind
def test_a_lock_can_be_taken_again_after_it_was_given_back(root: str) -> None:
    for _ in range(3):
        storage = storage_of(root)
        storage.make_folder("a")
        with storage.lock("a/lock"):
            storage.write("a/file", b"")


@of_each_store
@pytest.mark.case("A17")
def test_a_writer_that_was_paused_cannot_write_over_what_came_after_it(root: str) -> None:
    paused, other = storage_of(root), storage_of(root)
    paused.write("a/day", b"old")
    assert paused.read("a/day") == b"old"
    paused.write("a/.paused.tmp", b"old and mine")
    other.write("a/.other.tmp", b"newer")
    other.rename("a/.other.tmp", "a/day")
    with pytest.raises(ArchiveLocked):
        paused.rename("a/.paused.tmp", "a/day")
    assert paused.read("a/day") == b"newer"


@of_each_store
def test_a_writer_that_found_no_object_cannot_write_over_one_that_came_after(root: str) -> None:
    paused, other = storage_of(root), storage_of(root)
    assert paused.read("a/day") is None
    paused.write("a/.paused.tmp", b"mine")
    other.create("a/day", b"newer")
    with pytest.raises(ArchiveLocked):
        paused.rename("a/.paused.tmp", "a/day")
    assert paused.read("a/day") == b"newer"


@of_each_store
def test_a_writer_whose_object_was_removed_cannot_bring_it_back(root: str) -> None:
    paused, other = storage_of(root), storage_of(root)
    other.write("a/day", b"old")
    assert paused.read("a/day") == b"old"
    paused.write("a/.paused.tmp", b"old and mine")
    other.remove("a/day")
    with pytest.raises(ArchiveLocked):
        paused.rename("a/.paused.tmp", "a/day")
    assert paused.read("a/day") is None


@of_each_store
def test_a_rename_that_was_cut_off_can_be_made_again_by_the_next_writer(root: str) -> None:
    first, second = storage_of(root), storage_of(root)
    first.write("a/.day.tmp", b"new")
    first.write("a/day", b"new")  # it was put, and the temporary object not yet removed
    second.rename("a/.day.tmp", "a/day")
    assert (second.read("a/day"), second.names("a")) == (b"new", ["day"])


@of_each_store
def test_a_temporary_object_that_another_writer_took_away_is_told(root: str) -> None:
    with pytest.raises(ArchiveLocked):
        storage_of(root).rename("a/.gone.tmp", "a/day")


def test_a_root_without_a_scheme_is_a_folder(tmp_path: Path) -> None:
    assert isinstance(storage_of(tmp_path), LocalStorage)
    assert isinstance(storage_of("some/folder"), LocalStorage)


@pytest.mark.parametrize("root", ["ftp://host/x", "S3:/x://y", "az://container/x", "s3://"])
def test_a_root_that_leads_nowhere_is_a_wrong_setting(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(BadSettings):
        storage_of(root)


def test_without_the_extra_a_store_is_a_wrong_setting_that_tells_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "target_archive.objects", raising=False)
    with pytest.raises(BadSettings) as caught:
        storage_of("s3://bucket/x")
    assert caught.value.hint == "pip install 'daykeep[cloud]'"
