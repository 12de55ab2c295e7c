"""How much of its allowance a tap uses where answers take long: `python -m tests.benchmarks.latency`.

A server answers each request after 100 ms; eight may be under way at once. The ideal is an eighth of all latencies; a
figure is its share of the time between the first and the last request, as the server saw them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

LATENCY, AT_ONCE, PAGES = 0.1, 8, 400
BIN = Path(sys.executable).parent
STREAMS = {
    "400 pages by offset": "paginator: {type: offset, page_size: 10, total: total, stable: true}",
    "8 partitions of 50 pages by cursor": (
        "for_each: {items: [a, b, c, d, e, f, g, h], as: it}\n"
        '    include: {it: "{it}"}\n    paginator: {type: cursor, path: next, param: cursor}'
    ),
}


class Slow(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    times: list[float] = []
    now = most = 0
    lock = threading.Lock()

    def log_message(self, *_: Any) -> None:
        """Nothing is logged."""

    def do_GET(self) -> None:
        with self.lock:
            self.times.append(time.monotonic())
            Slow.now += 1
            Slow.most = max(Slow.most, Slow.now)
        params = dict(parse_qsl(urlsplit(self.path).query))
        time.sleep(LATENCY)
        start = int(params.get("offset", params.get("cursor", 0)))
        if "offset" in params:
            answer: dict[str, Any] = {"total": PAGES * 10, "items": [{"id": start + row} for row in range(10)]}
        else:
            answer = {
                "items": [{"id": start * 10 + row} for row in range(10)],
                "next": start + 1 if start < 49 else None,
            }
        body = json.dumps(answer).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        with self.lock:
            Slow.now -= 1
        self.wfile.write(head.encode() + body)


def main() -> None:
    """Print a line for each way to read side by side."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server, tempfile.TemporaryDirectory() as folder:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, way in STREAMS.items():
            file = Path(folder) / "api.yaml"
            file.write_text(
                f"name: tap-slow\nbase_url: http://127.0.0.1:{server.server_port}\n"
                f"limits: [{{quota: 100000/s, concurrency: {AT_ONCE}}}]\n"
                f"streams:\n  rows:\n    path: /rows\n    records: items\n    primary_keys: [id]\n    {way}\n"
            )
            config = json.dumps({"declaration": str(file), "limits_store": "none"})
            Slow.times.clear()
            Slow.most = 0
            done = subprocess.run(
                [str(BIN / "tap-rest"), "--config", config], check=True, capture_output=True, text=True
            )
            assert done.stdout.count('"type":"RECORD"') == PAGES * 10
            took = Slow.times[-1] + LATENCY - Slow.times[0]
            share = len(Slow.times) * LATENCY / AT_ONCE / took
            print(f"{name:40}{share:>8.0%} of the ideal, at most {Slow.most} at once")
        server.shutdown()


if __name__ == "__main__":
    main()
