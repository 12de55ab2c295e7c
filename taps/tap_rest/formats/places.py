"""Paths in JSON text: what stands at a dotted path, with `*` in it or not, and what to say where nothing does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tap_rest.errors import UnexpectedPage
from tap_rest.formats.json_text import elements, entries

_KINDS = {b"{": "an object", b"[": "a list", b'"': "a text", b"n": "null", b"t": "a boolean", b"f": "a boolean"}

Place = tuple[tuple[str, ...], tuple[str, ...], bytes | None]


def steps_of(path: str) -> tuple[str, ...]:
    return () if path in ("", "$") else tuple(path.split("."))


def slice_at(text: bytes, path: str) -> bytes | None:
    """The bytes of the value at a path (numbers also index lists); None where there is none."""
    for step in steps_of(path):
        try:
            text = dict(entries(text))[step]
        except (ValueError, KeyError):
            return None
    return bytes(text)


def places(
    text: bytes, steps: tuple[str, ...], way: tuple[str, ...] = (), names: tuple[str, ...] = ()
) -> Iterator[Place]:
    """Every place that a path with `*` leads to: the way there, the names at the `*`, and what is there, None for null.

    Raises UnexpectedPage where a name on the way stands twice.
    """
    head = bytes(text).lstrip()[:1]
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


def values_at(
    text: bytes, path: str, wanted: str, *, missing_ok: bool = False
) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """Every value that a path with `*` leads to, with the names at the `*`; null or nothing may be `missing_ok`.

    Raises UnexpectedPage where something else is there than is wanted (`a list`), or a name on the way stands twice.
    """
    for way, names, value in places(text, steps_of(path)):
        if value is not None and kind_of(value) == wanted:
            yield names, value
        elif value is not None or not missing_ok:
            raise not_there(text, ".".join(way), wanted)


def value_at(text: bytes, path: str, wanted: str) -> bytes:
    """The value at a path without `*`; as for `values_at`."""
    found = [value for _, value in values_at(text, path, wanted)]
    if len(found) != 1:
        raise UnexpectedPage(f"{path} stands for {len(found)} places, one is wanted")
    return found[0]


def list_at(text: bytes, path: str) -> Sequence[bytes]:
    return elements(value_at(text, path, "a list"))


def not_there(text: bytes, path: str, wanted: str) -> UnexpectedPage:
    """Says what is there instead: the deepest step that exists, and the names to choose from."""
    at = ""
    for step in steps_of(path):
        if (inner := slice_at(text, step)) is None:
            problem = f"the body has no {path}: {at or 'the body'} is {kind_of(text)}"
            return UnexpectedPage(problem, hint=names_in(text))
        at, text = f"{at}.{step}" if at else step, inner
    return UnexpectedPage(f"{at or 'the body'} is {kind_of(text)}, not {wanted}", hint=names_in(text))


def names_in(text: bytes) -> str:
    try:
        names = [name for name, _ in entries(text)] if kind_of(text) == "an object" else []
    except ValueError:
        names = []
    return f"its members are {', '.join(names[:12])}" if names else ""


def kind_of(text: bytes) -> str:
    return _KINDS.get(bytes(text).lstrip()[:1], "a number")
