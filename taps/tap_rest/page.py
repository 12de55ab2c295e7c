"""The answer as a value: a whole, checked response body, the records sliced out of it, and exact look-ups in it.

Two readers stand behind `Page.at`: compiled msgspec decoders that read only the way to a value, and a scanner that
finds the slices of members by their tokens alone, for the bodies that msgspec refuses although nothing of them is
missing (lone surrogates, NaN, very deep nesting).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from tap_rest.errors import UnexpectedPage
from tap_rest.request import Request


class Page(msgspec.Struct, frozen=True):
    """One complete response.

    Attributes:
        request: What was asked, without credentials.
        status: HTTP status.
        headers: Names in lower case; repeated headers are joined by ", ".
        body: Decoded (inflated) body bytes, complete as far as the wire can tell.
        url: Where the answer came from after redirects.
        records: Record slices, each the API's own bytes, in order; empty until a records selector has run.
    """

    request: Request
    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str = ""
    records: Sequence[bytes] = ()

    @property
    def content_type(self) -> str:
        """Lower case, with its parameters; empty when the server did not say."""
        return self.headers.get("content-type", "").lower()

    def at(self, path: str) -> Any:
        """The JSON value at a dotted path in the body (`meta.next`, `errors.0.code`), or None.

        Only the way to the value is decoded; a body that is not JSON has no values.
        """
        found = self.slice_at(path)
        return None if found is None else decoded(found)

    def text_at(self, path: str) -> str | None:
        """A scalar at a path as the text to send back: a string's content, a number's own digits; None for null.

        Raises UnexpectedPage where an object or list is found: that is no token, and no sign of an end either.
        """
        found = self.slice_at(path)
        if found is None or found == b"null":
            return None
        if found[:1] in (b"{", b"["):
            raise UnexpectedPage(f"a text or number was expected at {path}, not {found[:40].decode(errors='replace')}…")
        text = str(decoded(found)) if found[:1] == b'"' else found.decode(errors="replace")
        if not text.isascii() and any(0xD800 <= ord(char) <= 0xDFFF for char in text):
            raise UnexpectedPage(f"the text at {path} holds half of a surrogate pair and can't be sent back")
        return text

    def envelope(self, limit: int = 4096) -> dict[str, Any]:
        """The members of the body's object that are smaller than `limit` bytes: what is said around the records."""
        try:
            found = (
                list(members(self.body.removeprefix(BOM)))
                if self.body[:64].lstrip(BOM + b" \r\n\t")[:1] == b"{"
                else []
            )
        except ValueError:
            return {}
        return {name: decoded(value) for name, value in found if len(value) < limit}

    def slice_at(self, path: str) -> bytes | None:
        """The value's own bytes."""
        return slice_at(self.body.removeprefix(BOM), path)


BOM = b"\xef\xbb\xbf"

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[{}\[\]:,]|[^\s"{}\[\]:,]+|"', re.DOTALL)
_PLAIN = msgspec.json.Decoder()
_EXACT = msgspec.json.Decoder(float_hook=Decimal)
_CLOSER = {b"{": b"}", b"[": b"]"}


def slice_at(text: bytes, path: str) -> bytes | None:
    """The bytes of the value at a dotted path (numbers also index lists) in JSON text; None when there is none."""
    for run in _runs(path):
        try:
            found = _compiled_slice(text, run)
        except msgspec.ValidationError:
            return None
        except (msgspec.DecodeError, RecursionError):
            found = _scanned_slice(text, run)
        if found is None:
            return None
        text = found
    return text


def decoded(text: bytes, *, exact: bool = False) -> Any:
    """The value of JSON text; None when it is not JSON. Also reads what msgspec refuses: NaN and lone surrogates.

    Numbers with a point or an exponent become floats, or with `exact` Decimals, which keep their digits.
    """
    try:
        return (_EXACT if exact else _PLAIN).decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        try:
            return json.loads(text.decode(), parse_float=Decimal if exact else None)
        except (ValueError, RecursionError):
            return None


def members(text: bytes) -> Iterator[tuple[str, bytes]]:
    """The members of an object, or the elements of a list with their index as name, each as its own bytes.

    Found by tokens, without recursion. Raises ValueError where the text is not an object or list, or is cut short.
    """
    keyed = text.lstrip()[:1] == b"{"
    step = ("name", ":", "value", ",") if keyed else ("value", ",")
    at, name, index = 0, "", 0
    for unit in _units(text):
        wanted = step[at % len(step)]
        if wanted in (":", ",") and unit != wanted.encode():
            raise ValueError(f"{wanted!r} is missing before {unit[:20]!r}")
        if wanted == "name":
            name = str(decoded(unit)) if unit.startswith(b'"') else ""
        if wanted in ("name", "value") and (unit in (b",", b":") or (wanted == "name" and not unit.startswith(b'"'))):
            raise ValueError(f"a {wanted} is missing before {unit[:20]!r}")
        if wanted == "value":
            yield (name if keyed else str(index)), unit
            index += 1
        at += 1
    if at and step[at % len(step)] != ",":
        raise ValueError("a value is missing at the end")


def _units(text: bytes) -> Iterator[bytes]:
    """What stands directly inside the outer brackets: scalars and punctuation as tokens, a group as one piece."""
    expected: list[bytes] = []
    start = 0
    closed = False
    for match in _TOKEN.finditer(text):
        token = match[0]
        if closed or token == b'"':
            raise ValueError("text after the end" if closed else "cut inside a string")
        if token in _CLOSER:
            start = match.start() if len(expected) == 1 else start
            expected.append(_CLOSER[token])
        elif not expected:
            raise ValueError("not an object or list")
        elif token in (b"}", b"]"):
            if expected.pop() != token:
                raise ValueError(f"{token.decode()!r} closes nothing")
            closed = not expected
            if len(expected) == 1:
                yield text[start : match.end()]
        elif len(expected) == 1:
            yield token
    if not closed:
        raise ValueError("cut short" if expected else "nothing there")


@lru_cache(maxsize=256)
def _runs(path: str) -> tuple[tuple[str, ...], ...]:
    """The steps of a path in runs: names in a row are one compiled look-up, a number (an index or a name) its own."""
    runs: list[tuple[str, ...]] = []
    for key in path.split(".") if path not in ("", "$") else ():
        if runs and not key.isdigit() and not runs[-1][0].isdigit():
            runs[-1] = (*runs[-1], key)
        else:
            runs.append((key,))
    return tuple(runs)


def _compiled_slice(text: bytes, run: tuple[str, ...]) -> bytes | None:
    if run[0].isdigit() and text.lstrip()[:1] == b"[":
        items = _LIST.decode(text)
        return bytes(items[int(run[0])]) if int(run[0]) < len(items) else None
    found: Any = compiled(run, msgspec.Raw).decode(text)
    for _ in run:
        if found is None:
            return None
        found = found.v
    return None if found is None else bytes(found)


def _scanned_slice(text: bytes, run: tuple[str, ...]) -> bytes | None:
    found: bytes | None = text
    for key in run:
        try:
            found = dict(members(found or b"")).get(key)
        except ValueError:
            return None
    return found


_LIST = msgspec.json.Decoder(list[msgspec.Raw])


@lru_cache(maxsize=256)
def compiled(keys: tuple[str, ...], leaf: Any) -> msgspec.json.Decoder[Any]:
    """A decoder of nested one-field structs: `.v.v` is the value below two keys, or None."""
    kind: Any = leaf
    for key in reversed(keys):
        kind = msgspec.defstruct("Step", [("v", kind if kind is msgspec.Raw else kind | None, None)], rename={"v": key})
    return msgspec.json.Decoder(kind)
