"""Paths in JSON text: what stands at a dotted path with `*` in it, and what to say where nothing does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from tap_rest.errors import UnexpectedPage
from tap_rest.formats.json_text import compiled, elements, entries, members, slice_at

_KINDS = {b"{": "an object", b"[": "a list", b'"': "a text", b"n": "null", b"t": "a boolean", b"f": "a boolean"}

Place = tuple[tuple[str, ...], tuple[str, ...], bytes | None]


def steps_of(path: str) -> tuple[str, ...]:
    return () if path == "$" else tuple(path.split("."))


def straight_list(text: bytes, keys: tuple[str, ...]) -> Sequence[bytes] | None:
    """The list at a path, read in one pass; None where it takes a closer look.

    That is where a name may stand twice on the way, which JSON readers answer by silently taking one of them.
    """
    if keys and (b"\\u" in text or not all(text.count(b'"%b"' % key.encode()) == 1 for key in keys)):
        return None
    try:
        found = compiled(keys, list[msgspec.Raw]).decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    for _ in keys:
        if found is None:
            return None
        found = found.v
    records: Sequence[bytes] | None = found
    return records


def places(
    text: bytes, steps: tuple[str, ...], way: tuple[str, ...] = (), names: tuple[str, ...] = ()
) -> Iterator[Place]:
    """Every place that a path with `*` leads to: the way there, the names at the `*`, and what is there, None for null.

    Raises UnexpectedPage where a name on the way stands twice.
    """
    text = bytes(text)
    head = text.lstrip()[:1]
    if head == b"n" or (steps and head not in (b"{", b"[")):
        yield (*way, *steps), names, None
    elif not steps:
        yield way, names, text
    elif steps[0] == "*":
        for name, value in entries(text):
            yield from places(value, steps[1:], (*way, name), (*names, name))
    else:
        values = [value for name, value in entries(text) if name == steps[0]]
        if len(values) > 1:
            raise UnexpectedPage(f"{steps[0]} stands {len(values)} times in {'.'.join(way) or 'the body'}")
        if values:
            yield from places(values[0], steps[1:], (*way, steps[0]), names)
        else:
            yield (*way, *steps), names, None


def list_at(text: bytes, path: str) -> Sequence[bytes]:
    ((way, _, value),) = list(places(text, steps_of(path)))
    return listed(text, value or b"", ".".join(way) or "$")


def listed(text: bytes, value: bytes, at: str) -> Sequence[bytes]:
    try:
        return elements(value)
    except ValueError:
        raise not_there(text, at, "a list") from None


def not_there(text: bytes, path: str, wanted: str) -> UnexpectedPage:
    """Says what is there instead: the deepest step that exists, and the names to choose from."""
    steps = [] if path == "$" else path.split(".")
    for depth in range(len(steps), -1, -1):
        found = slice_at(text, ".".join(steps[:depth]))
        if found is None:
            continue
        at = ".".join(steps[:depth]) or "the body"
        if depth == len(steps):
            return UnexpectedPage(f"{at} is {kind_of(found)}, not {wanted}", hint=names_in(found))
        return UnexpectedPage(f"the body has no {path}: {at} is {kind_of(found)}", hint=names_in(found))
    return UnexpectedPage(f"the body has no {path}")


def names_in(text: bytes) -> str:
    try:
        names = [name for name, _ in members(text)] if text.lstrip()[:1] == b"{" else []
    except ValueError:
        names = []
    return f"its members are {', '.join(names[:12])}" if names else ""


def kind_of(text: bytes) -> str:
    return _KINDS.get(text.lstrip()[:1], "a number")
