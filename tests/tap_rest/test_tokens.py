"""Tokens on disk: who may read them, what a crash leaves, and who may renew them."""

from __future__ import annotations

import logging
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.tap_rest.harness import FastClock

from tap_rest.auth.flow import Token
from tap_rest.auth.oauth import OAuth2Auth
from tap_rest.engine import tokens as tokens_module
from tap_rest.engine.signals import Waiter
from tap_rest.engine.tokens import RunTokens, TokenFile
from tap_rest.errors import ConfigError, TapError
from tap_rest.page import Page
from tap_rest.request import Private, Request

ROTATING = OAuth2Auth(grant="refresh_token", token_url="https://x.test/t", client_id="me", refresh_token="first")
REQUEST = Request("https://x.test/a")


@pytest.fixture
def clock() -> Iterator[FastClock]:
    clock = FastClock()
    yield clock
    clock.close()


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "state" / "tokens", "tap-x", ("a",))


def only_json(folder: Path) -> Path:
    (found,) = folder.rglob("[!.]*.json")
    return found


@pytest.mark.case("X5")
@pytest.mark.case("trap:1.toolkit-tokens-in-tmp")
def test_only_the_owner_can_read_whatever_the_umask(file: TokenFile, tmp_path: Path, clock: FastClock) -> None:
    before = os.umask(0)
    try:
        with file.locked(clock):
            file.write(Token("access", "refresh", 5.0))
    finally:
        os.umask(before)
    assert file.read() == Token("access", "refresh", 5.0)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").rglob("*")}
    assert modes.pop("tokens") == 0o700
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert "access" not in "".join(modes)


@pytest.mark.case("X5")
@pytest.mark.parametrize("name", ["the file", "the folder"])
def test_a_symbolic_link_is_not_followed(file: TokenFile, tmp_path: Path, name: str) -> None:
    file.write(Token("access"))
    path = only_json(tmp_path)
    linked = path if name == "the file" else path.parent
    linked.rename(tmp_path / "elsewhere")
    linked.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError):
        file.read()
    if name == "the folder":
        with pytest.raises(ConfigError):
            file.write(Token("other"))


@pytest.mark.case("X5")
def test_what_others_can_read_is_warned_of(file: TokenFile, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.write(Token("access"))
    only_json(tmp_path).chmod(0o644)
    only_json(tmp_path).parent.chmod(0o755)
    with caplog.at_level(logging.WARNING):
        file.read()
    assert "chmod 600" in caplog.text
    assert "chmod 700" in caplog.text
    file.write(Token("access"))
    assert stat.S_IMODE(only_json(tmp_path).stat().st_mode) == 0o600


@pytest.mark.case("X5")
def test_a_file_of_someone_else_is_not_believed(file: TokenFile, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    file.write(Token("access"))
    os.chown(only_json(tmp_path), 12345, 12345)
    with pytest.raises(ConfigError, match="belongs to someone else"):
        file.read()


def test_a_damaged_file_is_named(file: TokenFile, tmp_path: Path) -> None:
    file.write(Token("access"))
    only_json(tmp_path).write_text('{"access": 5')
    with pytest.raises(ConfigError, match="is damaged: remove it"):
        file.read()


def test_a_file_in_the_way_of_the_folder_is_named(file: TokenFile, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(ConfigError, match="token folder can't be used"):
        file.write(Token("access"))


def test_two_log_ins_have_two_files(tmp_path: Path) -> None:
    for identity in (("a",), ("a", "b"), ("ab",)):
        TokenFile(tmp_path, "tap-x", identity).write(Token("".join(identity)))
    assert len(list(tmp_path.iterdir())) == 3
    assert TokenFile(tmp_path, "tap-x", ("a",)).read() == Token("a")


def test_the_lock_keeps_a_second_holder_out_until_the_first_is_done(file: TokenFile, clock: FastClock) -> None:
    with file.locked(clock), pytest.raises(TapError, match="for too long"), file.locked(clock):
        pass
    with file.locked(clock):
        pass


class Killed(BaseException):
    """The process is gone: nothing after this runs but what closes files, as the system does."""


class DyingOs:
    """The module `os`, which kills at its n-th call that changes or reads something."""

    def __init__(self, calls: int) -> None:
        self.left, self.path = calls, os.path

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in ("open", "unlink", "write", "fsync", "rename", "read", "fstat"):
            return real

        def call(*args: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Killed(name)
            return real(*args, **options)

        return call


class Server:
    """Gives a new refresh token each time and takes each once."""

    def __init__(self) -> None:
        self.good, self.asked = "first", 0

    def answer(self, asked: Request) -> Page:
        assert isinstance(asked, Private)
        self.asked += 1
        given = dict(pair.split("=") for pair in asked.body.split("&"))["refresh_token"]
        if given != self.good:
            return Page(asked, 400, {}, b'{"error":"invalid_grant"}')
        self.good = f"r{self.asked}"
        return Page(asked, 200, {}, b'{"access_token":"a%d","refresh_token":"r%d"}' % (self.asked, self.asked))


def renew(server: Server, file: TokenFile) -> Request:
    clock = Waiter()
    try:
        flow = ROTATING.flow(REQUEST, RunTokens(clock, (), file))
        sent = next(flow)
        return flow.send(server.answer(sent)) if isinstance(sent, Private) else sent
    finally:
        clock.close()


@pytest.mark.case("C16")
def test_a_kill_between_any_two_steps_loses_no_token_that_was_written_and_says_what_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = lost = kept = 0
    for calls in range(1000):
        server, file = Server(), TokenFile(tmp_path / str(calls), "tap-x", ("a",))
        monkeypatch.setattr(tokens_module, "os", DyingOs(calls))
        try:
            used = renew(server, file)
        except Killed:
            used = None
        monkeypatch.setattr(tokens_module, "os", os)
        if used is not None:
            assert file.read().refresh == server.good
            assert dict(used.headers)["Authorization"] == f"Bearer {file.read().access}"
            break
        killed, issued = killed + 1, server.asked
        try:
            renew(server, file)
            kept += 1
            assert file.read().refresh == server.good
        except TapError as error:
            lost += issued == 1 and "an earlier run asked for a token and never saw the answer" in str(error)
            assert file.read() == Token(asked=True) or not file.read().access
    assert killed == lost + kept > 15
    assert lost > 0
    assert kept > 5


@pytest.mark.case("C15")
@pytest.mark.case("R002-7")
@pytest.mark.case("R003-12")
def test_one_renewal_serves_any_number_of_threads(tmp_path: Path) -> None:
    server, clock = Server(), Waiter()
    file = TokenFile(tmp_path, "tap-x", ("a",))
    file.write(Token("expired", "first", due=1.0))
    tokens = RunTokens(clock, (), file)
    barrier, used = threading.Barrier(20), []

    def work() -> None:
        flow = ROTATING.flow(REQUEST, tokens)
        barrier.wait()
        sent = next(flow)
        if isinstance(sent, Private):
            sent = flow.send(server.answer(sent))
        used.append(sent)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clock.close()
    assert server.asked == 1
    assert len(used) == 20
    assert len(set(used)) == 1


@pytest.mark.case("C16")
def test_a_process_that_waited_takes_what_another_has_got(tmp_path: Path) -> None:
    server, clock = Server(), Waiter()
    late = RunTokens(clock, (), TokenFile(tmp_path, "tap-x", ("a",)))
    assert late.current() == Token()
    first = renew(server, TokenFile(tmp_path, "tap-x", ("a",)))
    assert next(ROTATING.flow(REQUEST, late)) == first
    clock.close()
    assert server.asked == 1


def test_what_can_not_be_stored_is_not_asked_for(tmp_path: Path) -> None:
    server = Server()
    (tmp_path / "full").write_text("")
    with pytest.raises(TapError, match="token folder can't be used"):
        renew(server, TokenFile(tmp_path / "full", "tap-x", ("a",)))
    assert server.asked == 0


@pytest.mark.case("C16")
def test_a_token_that_can_not_be_stored_after_all_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, file, clock = Server(), TokenFile(tmp_path, "tap-x", ("a",)), Waiter()
    flow = ROTATING.flow(REQUEST, RunTokens(clock, (), file))
    page = server.answer(next(flow))

    class FullDisk(DyingOs):
        def write(self, *_: Any) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tokens_module, "os", FullDisk(1000))
    with pytest.raises(TapError, match=r"the token was asked for, but tokens can't be stored \(No space left"):
        flow.send(page)
    monkeypatch.setattr(tokens_module, "os", os)
    assert file.read() == Token(asked=True)
    clock.close()
