"""From an answer that is no refusal to its records: format → the declared errors once more → records selector.

Stands between the verdict on the answer as it came and the paginator, which looks for the next page in the JSON text.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import msgspec

from tap_rest.formats.places import steps_of
from tap_rest.formats.spool import Spool, whole
from tap_rest.formats.streamed import Batch, Streamed, checksum
from tap_rest.language.verdicts import Verdict, judge
from tap_rest.language.vocabulary import Stream
from tap_rest.page import Page

_PATHS = ("path", "token_path", "total", "total_pages", "has_more", "at_end")
"""Options of paginators."""


def read(page: Page, stream: Stream, verdict: Verdict, now: float) -> tuple[Page, Verdict]:
    """The page with its body as JSON text and its records, where it also is ok when read so.

    The files of an archive are read one after another; in the page's body they are the elements of a list. Of a text in
    a file only what stands around its records becomes the body, if they can be streamed.

    Raises:
        UnexpectedPage: The body is not of its format, or not shaped as declared.
        SpoolFailed: There is no room for a large one.
    """
    body = page.spool or page.body
    texts = stream.format.texts(body)
    among = _looks_among(stream)
    large = [stream.records.streamed(text) if isinstance(text, Spool) and not among else None for text in texts]
    held = [part.around if part else whole(text) for part, text in zip(large, texts, strict=True)]
    if held != [body]:
        page = msgspec.structs.replace(
            page, body=held[0] if len(held) == 1 else b"[" + b",".join(held) + b"]", spool=None
        )
        if any(large):
            parts = [part or _batch(stream.records.slices(text)) for part, text in zip(large, held, strict=True)]
            streamed = Streamed(page.body, [batch for part in parts for batch in part.batches])
            page = msgspec.structs.replace(page, records=streamed)
        verdict = judge(page, stream.errors, now=now)  # now that there are paths in it
        if verdict.kind != "ok":
            return msgspec.structs.replace(page, records=()), verdict
    if page.records:
        return page, verdict
    found = [stream.records.slices(text) for text in held]
    records = found[0] if len(found) == 1 else [record for part in found for record in part]
    return msgspec.structs.replace(page, records=records) if among else _lightened(page, records), verdict


def _looks_among(stream: Stream) -> bool:
    """Whether the paginator looks for something among the records, `items.99.id`."""
    where = tuple(takewhile("*".__ne__, steps_of(getattr(stream.records, "path", "$"))))
    paths = [getattr(stream.paginator, name, None) for name in _PATHS]
    return any(steps_of(path)[: len(where)] == where for path in paths if path)


def _batch(records: Sequence[bytes]) -> Streamed:
    return Streamed(b"", [Batch(len(records), checksum(records), lambda: records)])


def _lightened(page: Page, records: Sequence[bytes]) -> Page:
    """The page with its records, and a body in which they are left out: whatever is looked up there is around them.

    Only where they provably stand side by side in the body; else the body stays as it is.
    """
    body = page.body
    if len(records) > 1:
        first, last = body.find(records[0]), body.rfind(records[-1])
        if last + len(records[-1]) - first == len(records) - 1 + sum(map(len, records)):
            body = body[:first] + body[last + len(records[-1]) :]
    return msgspec.structs.replace(page, body=body, records=records)
