"""Names of streams and sources as names of files."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_archive import layout

HOSTILE = [
    "../../x",
    "/etc/passwd",
    "a\0b",
    "a\nb",
    "x" * 300,
    "CON",
    "con.txt",
    "-rf",
    ".hidden",
    "_meta",
    "",
    ".",
    "..",
    "a.",
]


@pytest.mark.case("X8")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_becomes_one_plain_file_name(name: str) -> None:
    safe = layout.safe_name(name)
    assert re.fullmatch(r"[A-Za-z0-9%@+~][A-Za-z0-9%@+~._-]*", safe)
    assert len(PurePosixPath(safe).parts) == 1
    assert len(safe) <= 120
    assert not safe.endswith(".")


@pytest.mark.case("X8")
@given(st.text(), st.text())
def test_two_names_never_share_a_file_name(one: str, other: str) -> None:
    assert (layout.safe_name(one) == layout.safe_name(other)) == (one == other)


@pytest.mark.case("X8")
@pytest.mark.parametrize(("one", "other"), [("Users", "users"), ("USERS", "users")])
def test_twins_by_case_get_folders_that_no_file_system_confuses(one: str, other: str) -> None:
    first = layout.folder_for(one, [])
    second = layout.folder_for(other, [first])
    assert first.casefold() != second.casefold()


def test_only_numbered_names_are_numbers() -> None:
    assert layout.number("00000042.json") == 42
    assert layout.number("00000042.pack") == 42
    assert [layout.number(name) for name in ("42.json", ".record.00000001.tmp", "00000042.json~", "x")] == [None] * 4


def test_a_plain_name_stays_as_it_is() -> None:
    assert layout.safe_name("tap-github@acme") == "tap-github@acme"
    assert layout.safe_name("issue_comments") == "issue_comments"
