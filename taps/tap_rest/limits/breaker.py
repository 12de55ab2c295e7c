"""The circuit breaker: it keeps requests away from a server that is down, or that has begun to block us.

One belongs to each pair of origin and limit. Closed, everything passes. Many failures in a row, or a few answers that
look like a block, open it for a while; then a single request probes, and its answer closes it or opens it for longer.
"""

from __future__ import annotations

FAILURES = 10
"""Requests in a row without a usable answer (5xx, no whole answer): more than one request's tries, a whole server."""
PAUSE = 60.0
BLOCKS = 3
"""Answers in a row that are a block and not the API: going on would make it worse."""
COOL_OFF = 900.0
LONGEST = 3600.0
LOST = 300.0
"""Seconds after which a probe that was never answered no longer holds the others back."""
LOOK_AGAIN = 1.0


class Breaker:
    """Closed, open or half-open; all times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self.reason = ""
        self._failures = self._blocks = 0
        self._pause = 0.0
        self._until: float | None = None
        self._probed: float | None = None

    def opens(self, now: float) -> float:
        """When the next request may pass; not later than `now` if it may at once."""
        if self._until is None:
            return now
        if self._probed is not None and now - self._probed < LOST:
            return now + LOOK_AGAIN
        return self._until

    def sent(self, now: float) -> None:
        """A request has passed: where the circuit is half-open, it is the probe."""
        if self._until is not None:
            self._probed = now

    def answered(self) -> None:
        """The server is there and speaks to us, whatever it says."""
        self._failures = self._blocks = 0
        self._pause, self._until, self._probed = 0.0, None, None

    def failed(self, now: float) -> None:
        """No answer, or one that says the server is not well."""
        self._failures += 1
        if self._failures >= FAILURES or self._until is not None:
            self._open(now, PAUSE, f"the circuit breaker, after {self._failures} failures in a row,")

    def blocked(self, now: float) -> None:
        """An answer that is a block."""
        self._blocks += 1
        if self._blocks >= BLOCKS or self._until is not None:
            self._open(now, COOL_OFF, f"a cool-off, after {self._blocks} answers in a row that look like a block,")

    def _open(self, now: float, pause: float, reason: str) -> None:
        self._pause = min(max(pause, self._pause * 2), LONGEST)
        self._until, self._probed, self.reason = now + self._pause, None, reason
