"""YAML without surprises, with lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tap_rest.errors import DeclarationError
from tap_rest.language.yaml_source import Source, read


def parsed(folder: Path, text: str) -> Source:
    path = folder / "api.yaml"
    path.write_text(text, encoding="utf-8")
    return read(path)


@pytest.mark.case("X6")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("off", "off"),
        ("y", "y"),
        ("2022-11-28", "2022-11-28"),
        ("2022-11-28T10:00:00Z", "2022-11-28T10:00:00Z"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("007", "007"),
        ("0x1F", "0x1F"),
        ("1.10", "1.10"),
        ("1e3", "1e3"),
        ("+5", "+5"),
        (".5", ".5"),
        ("12345678901234567890123", "12345678901234567890123"),
        (".inf", ".inf"),
        ("5", 5),
        ("-5", -5),
        ("0.5", 0.5),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ('"5"', "5"),
        ("'true'", "true"),
        ("!!str 5", "5"),
        ("|\n  5", "5"),
        ("5000/h", "5000/h"),
    ],
)
def test_a_scalar_is_what_it_looks_like(tmp_path: Path, text: str, value: Any) -> None:
    found = parsed(tmp_path, f"key: {text}").data["key"]
    assert found == value
    assert type(found) is type(value)


def test_every_key_and_item_has_its_line(tmp_path: Path) -> None:
    source = parsed(tmp_path, "a: 1\nb:\n  - c: 2\n  - {d: 3,\n     e: 4}\n")
    lines = {("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 0, "c"): 3, ("b", 1): 4, ("b", 1, "d"): 4, ("b", 1, "e"): 5}
    assert source.lines == lines
    assert source.data == {"a": 1, "b": [{"c": 2}, {"d": 3, "e": 4}]}


def test_an_alias_is_its_value(tmp_path: Path) -> None:
    assert parsed(tmp_path, "a: &x {n: 1}\nb: *x\n").data == {"a": {"n": 1}, "b": {"n": 1}}


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.case("X6")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", r"api\.yaml:3: `a` is there twice.*the first is in line 1"),
        ("x: {a: 1, a: 2}\n", r"api\.yaml:1: `a` is there twice"),
        ("a: !!python/object/apply:os.system [ls]\n", r"api\.yaml:1: the tag .*python.* is not allowed"),
        ("a: !secret x\n", "the tag '!secret' is not allowed"),
        ("? [a, b]\n: 1\n", "a key must be a plain word"),
        (BOMB, "aliases or nesting"),
        ("a: &a [*a]\n", "."),
        ("a: " + "[" * 100 + "]" * 100, "aliases or nesting"),
        ("a: " + "[" * 5000, "not YAML|aliases"),
        ("a: [1\nb: 2\n", r"api\.yaml:2: not YAML"),
        ("a: 1\n---\nb: 2\n", "not YAML"),
        ("a: \x07", "not YAML"),
        ("a: *nobody", r"api\.yaml:1: not YAML"),
        ("x" * 1_000_001, "larger than a megabyte"),
    ],
    ids=range(14),
)
def test_what_yaml_allows_but_nobody_means_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        parsed(tmp_path, text)


def test_all_double_keys_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError) as caught:
        parsed(tmp_path, "a: 1\na: 2\nb: {c: 1, c: 2}\n")
    assert [mistake.where.rpartition(":")[2] for mistake in caught.value.mistakes] == ["2", "3"]


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"none\.yaml: the declaration can't be read: No such file"):
        read(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    with pytest.raises(DeclarationError, match="not UTF-8"):
        read(tmp_path / "latin.yaml")
