"""How much of a server's rate limit is used, and how often it has to say no: `python -m tests.benchmarks.limits`.

Each server counts for itself and answers 429 to what is too much; each client asks as fast as it may for some seconds.
All run side by side, so it takes as long as the longest. At the end: what the limiter itself takes of a request's time.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from tap_rest.engine.signals import Waiter
from tap_rest.engine.transport import Transport
from tap_rest.language.verdicts import judge
from tap_rest.limits.books import OwnBooks
from tap_rest.limits.limits import Limit, Limiter
from tap_rest.limits.shared_books import SharedBooks
from tap_rest.page import Page
from tap_rest.request import Request


class Quota:
    """A server's own count: at most `count` in `seconds`, in fixed windows since its start or in any stretch."""

    def __init__(self, count: int, seconds: float, *, fixed: bool) -> None:
        self.count, self.seconds, self._fixed = count, seconds, fixed
        self._log: deque[float] = deque()
        self._began = time.monotonic()

    def left(self) -> tuple[int, float]:
        """What is left, and the seconds until there is more."""
        now = time.monotonic()
        edge = now - (now - self._began) % self.seconds
        while self._log and (self._log[0] < edge if self._fixed else self._log[0] <= now - self.seconds):
            self._log.popleft()
        first = edge if self._fixed or not self._log else self._log[0]
        return self.count - len(self._log), first + self.seconds - now

    def take(self) -> None:
        self._log.append(time.monotonic())


def serve(quotas: Sequence[Quota], *, headers: bool) -> ThreadingHTTPServer:
    """A server on an ephemeral loopback port, running; `.passed` and `.refused` are its counts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            enough = all(quota.left()[0] > 0 for quota in quotas)
            if enough:
                for quota in quotas:
                    quota.take()
            counts[enough] += 1
            body = b"{}"
            self.send_response(200 if enough else 429)
            if headers:
                said = [(number, *quota.left()) for number, quota in enumerate(quotas)]
                text = ", ".join(f'"{number}";r={left};t={math.ceil(reset)}' for number, left, reset in said)
                self.send_header("RateLimit", text)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    counts = {True: 0, False: 0}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.counts = counts  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def ask(url: str, limits: list[dict[str, Any]], seconds: float, file: Path | None = None, begin: float = 0.0) -> None:
    """Asks for so long, as the engine does: whatever was too much is asked for again after a second."""
    clock, transport = Waiter(), Transport()
    books = SharedBooks(file) if file else OwnBooks()
    limiter, request = Limiter(msgspec.convert(limits, list[Limit]), clock.now, books=books), Request(url + "/rows")
    clock.wait(begin - clock.now())
    end = clock.monotonic() + seconds
    while True:
        while (hold := limiter.acquire(request)) is not None:
            if clock.monotonic() + hold.seconds >= end:
                return
            clock.wait(hold.seconds)
        if clock.monotonic() >= end:
            return
        page = transport.send(request)
        verdict = judge(page, now=clock.now())
        limiter.observe(page, verdict)
        if verdict.kind == "wait":
            clock.wait(1.0)


# The server's quotas, the seconds asked for, the most that can pass in them, and what a declaration says of it.
SCENARIOS: dict[str, tuple[list[tuple[int, float, bool]], float, int, list[str]]] = {
    "fixed window 300/10s": ([(300, 10.0, True)], 19.5, 600, ["300/10s"]),
    "sliding window 50/s": ([(50, 1.0, False)], 9.9, 500, ["50/s"]),
    "50/s and 300/10s": ([(50, 1.0, False), (300, 10.0, False)], 19.5, 600, ["50/s", "300/10s"]),
}
CLIENTS: dict[str, tuple[bool, float]] = {
    "declared, with headers": (True, 1.0),
    "declared, no headers": (False, 1.0),
    "headers only": (True, 100.0),
    "no headers, declared twice too high": (False, 2.0),
}
"""Whether the server sends headers, and how many times the quota the declaration says."""


def measured(scenario: str, client: str) -> tuple[float, int, int]:
    """The share of the budget that was used, the requests that passed and those that were refused."""
    quotas, seconds, budget, declared = SCENARIOS[scenario]
    headers, factor = CLIENTS[client]
    wrong = [f"{int(int(text.partition('/')[0]) * factor)}/{text.partition('/')[2]}" for text in declared]
    server = serve([Quota(count, window, fixed=fixed) for count, window, fixed in quotas], headers=headers)
    try:
        ask(f"http://127.0.0.1:{server.server_address[1]}", [{"quota": wrong}], seconds)
    finally:
        server.shutdown()
        server.server_close()
    counts = server.counts  # type: ignore[attr-defined]
    return counts[True] / budget, counts[True], counts[False]


def together(processes: int) -> tuple[str, str, float, int, int]:
    """The same of several processes that share one file, at 10 a second."""
    server, start = serve([Quota(10, 1.0, fixed=False)], headers=False), multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        how = ([{"quota": "10/s"}], 9.9, Path(folder) / "limits.sqlite", time.time() + 5.0)
        running = [
            start.Process(target=ask, args=(f"http://127.0.0.1:{server.server_address[1]}", *how))
            for _ in range(processes)
        ]
        for process in running:
            process.start()
        for process in running:
            process.join()
    server.shutdown()
    server.server_close()
    counts = server.counts  # type: ignore[attr-defined]
    return "sliding window 10/s", f"{processes} processes, no headers", counts[True] / 100, counts[True], counts[False]


def cost(books: OwnBooks) -> float:
    """CPU microseconds of a request that the limiter takes: the best of ten times five hundred."""
    limiter, request, best = Limiter([Limit(quota=["100000/s", "1000000/h"])], books=books), Request("http://x"), 1.0
    page = Page(request, 200, {}, b"{}")
    verdict = judge(page, now=0.0)
    for _ in range(10):
        began = time.process_time()
        for _ in range(500):
            limiter.acquire(request)
            limiter.observe(page, verdict)
        best = min(best, (time.process_time() - began) / 500)
    return best * 1e6


def main() -> None:
    """Print the table, and as the last line the same as JSON."""
    pairs = [(scenario, client) for scenario in SCENARIOS for client in CLIENTS]
    with ThreadPoolExecutor(len(pairs)) as pool:
        rows = list(pool.map(lambda pair: (*pair, *measured(*pair)), pairs))
    rows += [together(processes) for processes in (2, 4)]
    print(f"{'server':22}{'client':38}{'used':>7}{'passed':>8}{'429':>5}")
    for scenario, client, share, passed, refused in rows:
        print(f"{scenario:22}{client:38}{share:>7.1%}{passed:>8}{refused:>5}")
    with tempfile.TemporaryDirectory() as folder:
        own, shared = cost(OwnBooks()), cost(SharedBooks(Path(folder) / "limits.sqlite"))
    print(f"{own:.0f} CPU µs of a request with books of its own, {shared:.0f} with shared ones")
    print(json.dumps([*rows, {"own_us": own, "shared_us": shared}]))


if __name__ == "__main__":
    main()
