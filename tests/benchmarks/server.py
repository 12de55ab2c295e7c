"""A paged API of generated events, served from memory: `python -m tests.benchmarks.server RECORDS` prints its URL.

A record is about 760 bytes, nested two deep, with floats, large ids and two timestamps spread over 2024; the same count
gives the same bytes.
"""

from __future__ import annotations

import json
import random
import sys
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PER_PAGE = 1000


def pages(records: int) -> list[bytes]:
    """Bodies of `{"data": [...], "next_page": N or null, "total": RECORDS}`."""
    rng = random.Random(2024)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 10))) for _ in range(500)]
    step = timedelta(days=365) / records
    start = datetime(2024, 1, 1, tzinfo=UTC)

    def word() -> str:
        return rng.choice(words)

    def event(number: int) -> dict[str, Any]:
        moment = f"{start + step * number:%Y-%m-%dT%H:%M:%SZ}"
        return {
            "id": 10**9 + number,
            "type": rng.choice(["PushEvent", "IssueEvent", "PullRequestEvent"]),
            "actor": {
                "id": rng.randrange(10**7),
                "login": word() + word(),
                "url": f"https://api.example.com/users/{word()}",
                "avatar_url": f"https://avatars.example.com/u/{rng.randrange(10**7)}?",
            },
            "repo": {
                "id": rng.randrange(10**8),
                "name": f"{word()}/{word()}",
                "url": f"https://api.example.com/repos/{word()}",
            },
            "payload": {
                "push_id": rng.randrange(10**10),
                "size": rng.randint(1, 9),
                "ref": f"refs/heads/{word()}",
                "commits": [
                    {
                        "sha": f"{rng.getrandbits(160):040x}",
                        "author": {"email": f"{word()}@example.com", "name": word()},
                        "message": " ".join(word() for _ in range(rng.randint(3, 14))),
                        "distinct": True,
                    }
                    for _ in range(rng.randint(1, 2))
                ],
            },
            "amount": round(rng.random() * 1000, 2),
            "ratio": rng.random(),
            "public": True,
            "note": None,
            "created_at": moment,
            "updated_at": moment,
        }

    bodies = []
    for first in range(0, records, PER_PAGE):
        data = [event(number) for number in range(first, min(first + PER_PAGE, records))]
        following = first // PER_PAGE + 2 if first + PER_PAGE < records else None
        bodies.append(
            json.dumps({"data": data, "next_page": following, "total": records}, separators=(",", ":")).encode()
        )
    return bodies


def serve(bodies: list[bytes]) -> ThreadingHTTPServer:
    """A server on an ephemeral loopback port, not yet running."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            page = int(parse_qs(urlsplit(self.path).query).get("page", ["1"])[0])
            body = bodies[page - 1] if page <= len(bodies) else b'{"data":[],"next_page":null}'
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


if __name__ == "__main__":
    server = serve(pages(int(sys.argv[1])))
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
