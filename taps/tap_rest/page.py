"""The answer as a value: a whole, checked response body, the records sliced out of it, and exact look-ups in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from tap_rest.errors import UnexpectedPage
from tap_rest.formats.json_text import BOM, check_whole, decoded, entries
from tap_rest.formats.places import kind_of, slice_at
from tap_rest.formats.spool import Spool, whole
from tap_rest.formats.streamed import Streamed
from tap_rest.request import Request


class Page(msgspec.Struct, frozen=True):
    """One complete response.

    Attributes:
        request: What was asked, without credentials.
        status: HTTP status.
        headers: Names in lower case; repeated headers are joined by ", ".
        body: Decoded (inflated) body bytes, complete as far as the wire can tell. Of a body in a file it is the
            beginning only, and what stands around the records once they were found in it.
        url: Where the answer came from after redirects.
        records: Record slices, each the API's own bytes, in order; empty until a records selector has run. Those of a
            large body are read from its file each time they are asked for.
        spool: A body too large to be held, until it is read.
        framed: Whether the answer said itself where its body ends.
    """

    request: Request
    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str = ""
    records: Sequence[bytes] = ()
    spool: Spool | None = None
    framed: bool = True

    def batches(self) -> Iterator[Sequence[bytes]]:
        """The records in parts that can be held: an ordinary page is one, of a large one each is about a mebibyte."""
        if not isinstance(self.records, Streamed):
            yield self.records
            return
        for batch in self.records.batches:
            yield batch.read()

    def contains(self, text: bytes) -> bool:
        """Whether a text occurs in the body, its records included."""
        if self.spool is not None:
            return self.spool.contains(text)
        large = isinstance(self.records, Streamed)
        return text in self.body or (large and any(text in b",".join(records) for records in self.batches()))

    def whole(self) -> bytes:
        """The body as it came. Raises UnexpectedPage where it is larger than what is held at most."""
        return whole(self.spool or self.body)

    @property
    def is_json(self) -> bool:
        """Whether the body is one whole JSON text."""
        try:
            check_whole(self.body.removeprefix(BOM))
        except UnexpectedPage:
            return False
        return True

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
        body = self.body.removeprefix(BOM)
        try:
            found = entries(body) if kind_of(body) == "an object" else []
        except ValueError:
            return {}
        return {name: decoded(value) for name, value in found if len(value) < limit}

    def slice_at(self, path: str) -> bytes | None:
        """The value's own bytes."""
        return slice_at(self.body.removeprefix(BOM), path)
