"""Ways to ask the sample API: as a decent client does, and over a bare socket to see what goes over the wire."""

from __future__ import annotations

import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import requests

from tap_sample.faults import Faults
from tap_sample.server import TOKEN, SampleServer

Get = Callable[..., requests.Response]


def connect(server: SampleServer) -> socket.socket:
    address = urlsplit(server.base_url)
    return socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=10)


def raw(server: SampleServer, path: str, *headers: str, head: str = "") -> bytes:
    """Everything that the server sends for one request on a connection of its own, to the last byte."""
    lines = [head or f"GET {path} HTTP/1.1", "Host: sample", f"Authorization: Bearer {TOKEN}", *headers]
    with connect(server) as connection:
        connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


def head_and_body(answer: bytes) -> tuple[dict[str, str], bytes]:
    """The headers in lower case, with the status as `:status`, and the bytes after them."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    return {":status": status.split(" ")[1], **{name.lower(): value for name, value in pairs}}, body


def always(kind: str, seed: int = 0, slow_seconds: float = 0.1) -> Faults:
    return Faults(1.0, seed, [kind], slow_seconds)
