"""The circuit breaker: it keeps requests away from a server that is down, or that has begun to block us.

One belongs to each pair of origin and limit, in its books. Closed, everything passes. Many failures in a row, or a few
answers that look like a block, open it for a while; then a single request probes, and its answer closes it or opens it
for longer. Who is the probe, the books know: open, a breaker is to be told about that request alone.
"""

from __future__ import annotations

import msgspec

FAILURES = 10
"""Requests in a row without a usable answer (5xx, no whole answer): more than one request's tries, a whole server."""
PAUSE = 60.0
BLOCKS = 3
"""Answers in a row that are a block and not the API: going on would make it worse."""
COOL_OFF = 900.0
LONGEST = 3600.0


class Breaker(msgspec.Struct, array_like=True):
    """Closed, open or half-open; all times are seconds of one clock.

    Attributes:
        until: When a probe may be sent; 0 while it is closed.
        pause: How long it was opened for, in seconds.
        failures: In a row.
        cuts: Failures in a row that are connections cut off.
        blocks: In a row.
        reason: Why it is open, for people.
    """

    until: float = 0.0
    pause: float = 0.0
    failures: int = 0
    cuts: int = 0
    blocks: int = 0
    reason: str = ""

    def answered(self) -> None:
        """The server is there and speaks to us, whatever it says."""
        self.until = self.pause = 0.0
        self.failures = self.cuts = self.blocks = 0

    def failed(self, now: float, *, cut: bool = False) -> None:
        """No answer, or one that says the server is not well; `cut` where it hung up, as a wall in front of it does."""
        self.failures += 1
        self.cuts = self.cuts + 1 if cut else 0
        if self.cuts >= FAILURES:
            self._open(now, COOL_OFF, f"a cool-off, after {self.cuts} connections in a row that were cut off,")
        elif self.failures >= FAILURES or self.until:
            self._open(now, PAUSE, f"the circuit breaker, after {self.failures} failures in a row,")

    def blocked(self, now: float) -> None:
        """An answer that is a block."""
        self.blocks += 1
        if self.blocks >= BLOCKS or self.until:
            self._open(now, COOL_OFF, f"a cool-off, after {self.blocks} answers in a row that look like a block,")

    def _open(self, now: float, pause: float, reason: str) -> None:
        self.pause = min(max(pause, self.pause * 2), LONGEST)
        self.until, self.reason = now + self.pause, reason
