"""Requests, pages and archives made by hand, for parts of the language that are asked without a server."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

from tap_rest.page import Page
from tap_rest.request import Request

START = Request("https://x.test/v1/rows", params=(("q", "a"),), headers=(("Accept", "x"),))


def page(
    rows: int | list[Any] = 2, around: Mapping[str, Any] | None = None, link: str = "", request: Request = START
) -> Page:
    """A page of records, or of so many that are numbered, in the member `data`."""
    found = [{"id": number} for number in range(rows)] if isinstance(rows, int) else rows
    headers = {"link": link} if link else {}
    body = json.dumps({"data": found, **(around or {})}).encode()
    return Page(request, 200, headers, body, request.url, [json.dumps(row).encode() for row in found])


def zipped(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()
