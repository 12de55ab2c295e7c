"""A captured run as HAR 1.2, which the developer tools of browsers open: an entry for each request, tries included."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tap_rest.engine.capture import Capture, Replay, answer_of, lines_of
from tap_rest.engine.messages import timestamp

LARGEST = 1 << 20
"""Bytes of a body that is put in; a larger one is in the capture alone."""


def write_har(source: Capture | Replay, file: Path) -> None:
    """Writes the run that was captured or replayed. Raises OSError and TapError."""
    about = {"version": "1.2", "creator": {"name": "daykeep", "version": version("daykeep")}, "pages": []}
    with file.open("w", encoding="utf-8") as to:
        to.write(json.dumps({"log": about})[:-2] + ', "entries": [')
        for place, entry in enumerate(_entries(source.run) if source.run else ()):
            to.write(("," if place else "") + "\n" + json.dumps(entry, ensure_ascii=True))
        to.write("\n]}}\n")


def _entries(run: Path) -> Iterator[dict[str, Any]]:
    for line in lines_of(run)[1:]:
        if fault := line.get("fault"):
            asked, response = fault["asked"], _response(0, {}, b"", "") | {"_error": fault["problem"]}
        else:
            meta, body = answer_of(run.parent, line, f"request {line['id']}")
            asked, response = meta["request"], _response(meta["status"], meta["headers"], body, line["body"])
        yield {
            "startedDateTime": timestamp(line["time"] - line["ms"] / 1000),
            "time": line["ms"],
            "request": _request(asked),
            "response": response,
            "cache": {},
            "timings": {"send": 0, "wait": line["ms"], "receive": 0},
            "_id": line.get("id"),
            "_stream": line["stream"],
            "_partition": line.get("partition"),
            "_page": line.get("page"),
        }


def _request(asked: Mapping[str, Any]) -> dict[str, Any]:
    headers, body = asked["headers"], asked["body"]
    kind = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
    found = {
        "method": asked["method"],
        "url": asked["url"],
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _pairs(headers.items()),
        "queryString": _pairs(parse_qsl(urlsplit(asked["url"]).query, keep_blank_values=True)),
        "headersSize": -1,
        "bodySize": len(body.encode(errors="surrogateescape")),
    }
    return found | ({"postData": {"mimeType": kind, "text": body}} if body else {})


def _response(status: int, headers: Mapping[str, str], body: bytes, kept: str) -> dict[str, Any]:
    content: dict[str, Any] = {"size": len(body), "mimeType": headers.get("content-type", "")}
    if len(body) > LARGEST:
        content["comment"] = f"the body is in {kept}"
    else:
        try:
            content["text"] = body.decode()
        except UnicodeDecodeError:
            content |= {"text": base64.b64encode(body).decode(), "encoding": "base64"}
    return {
        "status": status,
        "statusText": http.client.responses.get(status, ""),
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _pairs(headers.items()),
        "content": content,
        "redirectURL": "",
        "headersSize": -1,
        "bodySize": -1,
    }


def _pairs(pairs: Any) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in pairs]
