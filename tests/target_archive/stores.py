"""Object stores to test against: moto (S3), Azurite (Azure), a small server of Google's XML interface, and a bad line.

No emulator of GCS in the registries knows both the XML interface, which obstore speaks, and conditions on generations.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest
import requests

Environment = dict[str, str]
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # published
AZURE_ACCOUNT = "devstoreaccount1"


@contextmanager
def moto() -> Iterator[str]:
    """The URL of a moto server, a process of its own, that has the bucket `bucket`."""
    port = _free_port()
    server = Path(sys.executable).parent / "moto_server"
    with _process([str(server), "-H", "127.0.0.1", "-p", str(port)], port):
        url = f"http://127.0.0.1:{port}"
        requests.put(f"{url}/bucket", headers={"Authorization": _MOTO_AUTH}, timeout=30).raise_for_status()
        yield url


_MOTO_AUTH = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


@contextmanager
def s3_server() -> Iterator[Environment]:
    with moto() as url:
        yield s3(url)


def s3(url: str) -> Environment:
    return {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT": url,
        "AWS_ALLOW_HTTP": "true",
    }


@contextmanager
def azurite() -> Iterator[Environment]:
    """The environment for an Azurite that has the container `bucket`; skips where it cannot be had."""
    script, port = _installed_azurite(), _free_port()
    options = ["--inMemoryPersistence", "--blobHost", "127.0.0.1", "--silent", "--skipApiVersionCheck"]
    with _process(["node", str(script), *options, "--disableTelemetry", "--blobPort", str(port)], port):
        endpoint, date = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}", formatdate(usegmt=True)
        headers = {"x-ms-date": date, "x-ms-version": "2023-11-03"}
        named = (f"{name}:{value}" for name, value in headers.items())
        place = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/bucket"
        signed = "\n".join(["PUT", *[""] * 11, *named, place, "restype:container"])
        digest = hmac.digest(base64.b64decode(AZURE_KEY), signed.encode(), "sha256")
        headers["Authorization"] = f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(digest).decode()}"
        requests.put(f"{endpoint}/bucket?restype=container", headers=headers, timeout=30).raise_for_status()
        yield {
            "AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY,
            "AZURE_STORAGE_ENDPOINT": endpoint,
            "AZURE_ALLOW_HTTP": "true",
        }


def _installed_azurite() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "daykeep-tests"
    place, script = cache / "azurite-3", "node_modules/azurite/dist/src/blob/main.js"
    if not (place / script).exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("Azurite comes from npm, which is not installed")
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder, "azurite@3"]
            done = subprocess.run(command, capture_output=True, check=False, timeout=300)
            if done.returncode:
                pytest.skip(f"Azurite cannot be installed: {done.stderr.decode()[-200:]}")
            if not place.exists():
                Path(folder, "node_modules").parent.rename(place)
                Path(folder).mkdir()
    return place / script


@contextmanager
def google() -> Iterator[Environment]:
    """The environment for a server that knows of Google's XML interface what obstore uses, with one bucket."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Google, {}, threading.Lock()))
    with _serving(server) as url, tempfile.TemporaryDirectory() as folder:
        account = {"gcs_base_url": url, "disable_oauth": True, "client_email": "", "private_key": ""}
        file = Path(folder, "account.json")
        file.write_text(json.dumps(account | {"private_key_id": ""}))
        yield {"GOOGLE_SERVICE_ACCOUNT": str(file), "GOOGLE_ALLOW_HTTP": "true"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, *, size: int = -1) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if size < 0 else size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Google(_Handler):
    def __init__(self, objects: dict[str, tuple[int, bytes]], turn: threading.Lock, *rest: object) -> None:
        self.objects, self.turn = objects, turn
        super().__init__(*rest)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if "list-type" in self.path:
            self.answer(200, self._listing({key: one[0] for key, one in parse_qs(urlsplit(self.path).query).items()}))
            return
        generation, content = self.objects.get(self._key(), (0, b""))
        if not generation:
            self.answer(404)
            return
        status, asked = 200, self.headers.get("Range", "").removeprefix("bytes=")
        headers = self._facts(generation, content)
        if asked:
            start, _, end = asked.partition("-")
            if int(start) >= len(content):
                self.answer(416)
                return
            last = min(int(end or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{last}/{len(content)}"
            status, content = 206, content[int(start) : last + 1]
        self.answer(status, content, headers)

    def do_HEAD(self) -> None:
        generation, content = self.objects.get(self._key(), (0, b""))
        self.answer(200 if generation else 404, b"", self._facts(generation, content), size=len(content))

    def do_PUT(self) -> None:
        content, wanted = self.body(), self.headers.get("x-goog-if-generation-match")
        with self.turn:
            generation = self.objects.get(self._key(), (0, b""))[0]
            if wanted is not None and int(wanted) != generation:
                self.answer(412)
                return
            now = time.time_ns()
            self.objects[self._key()] = (now, content)
        self.answer(200, b"", self._facts(now, content))

    def do_DELETE(self) -> None:
        with self.turn:
            found = self.objects.pop(self._key(), None)
        self.answer(204 if found else 404)

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).partition("/bucket/")[2]

    @staticmethod
    def _facts(generation: int, content: bytes) -> dict[str, str]:
        tag = hashlib.sha256(content).hexdigest()
        return {"ETag": f'"{tag}"', "x-goog-generation": str(generation), "Last-Modified": formatdate(usegmt=True)}

    def _listing(self, asked: dict[str, str]) -> bytes:
        """At most 50 at a time, so that reading on is tested too."""
        prefix = asked.get("prefix", "")
        found = set()
        for key in list(self.objects):
            if key.startswith(prefix):
                name, slash, _ = key[len(prefix) :].partition("/")
                found.add(prefix + name + slash)
        names = sorted(name for name in found if name > asked.get("continuation-token", ""))
        text = "".join(
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
            if name.endswith("/")
            else f"<Contents><Key>{escape(name)}</Key><Size>{len(self.objects[name][1])}</Size><ETag>x</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for name in names[:50]
        )
        more = f"<NextContinuationToken>{escape(names[49])}</NextContinuationToken>" if len(names) > 50 else ""
        return f"<ListBucketResult>{text}{more}</ListBucketResult>".encode()


Fault = Callable[[str, str], str | int | None]
"""Takes a method and a path, gives a status to answer with, `lose` or `unconditional`, or None."""


@contextmanager
def bad_line(url: str, faults: list[Fault]) -> Iterator[str]:
    """The URL of a proxy for `url` on which the first of `faults` decides what becomes of each request.

    `lose`: it arrives, but not its answer. `unconditional`: its conditions are cut off.
    """
    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), partial(_BadLine, url, faults))) as own:
        yield own


class _BadLine(_Handler):
    def __init__(self, url: str, faults: list[Fault], *rest: object) -> None:
        self.url, self.faults = urlsplit(url), faults
        super().__init__(*rest)  # type: ignore[arg-type]

    def _forward(self) -> None:
        body, headers = self.body(), {name: value for name, value in self.headers.items() if name != "Connection"}
        fault = self.faults[0](self.command, urlsplit(self.path).path) if self.faults else None
        if isinstance(fault, int):
            code = {403: "AccessDenied", 409: "ConditionalRequestConflict", 503: "SlowDown"}[fault]
            self.answer(fault, f"<Error><Code>{code}</Code></Error>".encode())
            return
        if fault == "unconditional":
            headers = {name: value for name, value in headers.items() if not name.lower().startswith("if-")}
        line = http.client.HTTPConnection(self.url.hostname or "", self.url.port)
        try:
            line.request(self.command, self.path, body, headers)
            answer = line.getresponse()
            content = answer.read()
        finally:
            line.close()
        if fault == "lose":
            self.close_connection = True
            return
        size = int(answer.headers["Content-Length"] or 0) if self.command == "HEAD" else -1
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP}
        self.answer(answer.status, content, kept, size=size)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _forward  # noqa: N815 - named by http.server


_HOP = {"content-length", "transfer-encoding", "connection", "date", "server"}


@contextmanager
def _serving(server: ThreadingHTTPServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def _process(command: list[str], port: int) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            else:
                pytest.fail(f"{command} has ended")
            yield
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
