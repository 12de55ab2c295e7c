"""The books of one limit at one origin: what is in flight, what was sent, what the server said.

Plain values in wall clock time, so that several processes can keep them together (shared_books.py) and a run can go on
with those of the run before; limits.py decides from them. Their size does not depend on how much is sent.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from tap_rest.limits.breaker import Breaker

CUT = 0.75
"""The pace after a server said "too much" without saying when to come back."""
RECOVERY = 0.02
"""Share of the full pace that is regained with each second that goes well."""
NEAR = 0.1
"""How near, as a share of it."""
FLOOR = 1 / 16
"""The slowest pace, as a share of the full one; never slower than one request a minute, if the quota allows that."""


class Lease(msgspec.Struct, array_like=True):
    """A request in flight.

    Attributes:
        id: Of the process that sent it, and of the request.
        sent: When it was sent; 0 where its process is gone.
        weight: What it takes of the quota.
        probe: Whether its answer decides about an open circuit.
    """

    id: str
    sent: float
    weight: int
    probe: bool


class Pace(msgspec.Struct, array_like=True):
    """Requests a second where the server says nothing: down by a share when it is too much, slowly up again.

    Near the rate that was too much it goes up at a tenth of the speed: the limit is about there.
    """

    rate: float = math.inf
    peak: float = math.inf
    changed: float = 0.0
    refused: bool = False

    def gap(self, ceiling: float) -> float:
        """Seconds between two requests."""
        return 0.0 if self.rate >= ceiling else 1 / self.rate

    def cut(self, now: float, ceiling: float) -> None:
        """Once for several refusals in a row: asking again at growing distances is the engine's business."""
        if not self.refused:
            self.peak = min(self.rate, ceiling)
            self.rate = max(self.peak * CUT, min(ceiling, max(ceiling * FLOOR, 1 / 60)))
        self.refused, self.changed = True, now

    def recover(self, now: float, ceiling: float) -> None:
        self.refused = False
        passed = min(now - self.changed, 1.0, self.gap(ceiling))
        speed = ceiling * RECOVERY * (0.1 if abs(self.rate - self.peak) < self.peak * NEAR else 1.0)
        self.rate, self.changed = self.rate + speed * passed, now


class Books(msgspec.Struct, array_like=True):
    """What is known of one limit at one origin.

    Attributes:
        written: When something was noted last.
        flying: The requests that have no answer yet.
        sent: By the length of a window in seconds: the times at which requests were answered, with their weights.
        latest: When the last request was sent.
        blocked: Until when the server wants none.
        pace: Between two requests.
        breaker: Whether there may be any.
    """

    written: float = 0.0
    flying: list[Lease] = []
    sent: dict[float, list[tuple[float, int]]] = {}
    latest: float = 0.0
    blocked: float = 0.0
    pace: Pace = msgspec.field(default_factory=Pace)
    breaker: Breaker = msgspec.field(default_factory=Breaker)

    def opened(self, now: float) -> None:
        """Moves all times where the clock was set back: no wait gets longer by that."""
        if (back := self.written - now) > 0:
            self.sent = {length: [(at - back, weight) for at, weight in log] for length, log in self.sent.items()}
            for lease in self.flying:
                lease.sent -= back
            self.breaker.until = max(self.breaker.until - back, 0.0)
            self.latest, self.blocked, self.pace.changed = self.latest - back, self.blocked - back, now
            self.written = now


class OwnBooks:
    """The books of one process: in memory. All limiters that have them keep the limits together.

    Attributes:
        holder: Tells its requests in flight from those of other processes.
    """

    def __init__(self) -> None:
        self.holder, self._lock = "", threading.Lock()
        self._books: dict[str, Books] = {}

    @contextmanager
    def opened(self, keys: Sequence[str]) -> Iterator[list[Books]]:
        """The books under these keys, for this thread alone, to read and to change."""
        with self._lock:
            yield [self._books.setdefault(key, Books()) for key in keys]

    def close(self) -> None:
        """Ends the use of what they are kept in."""
