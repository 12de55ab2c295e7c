"""The credentials of a run, of which each has its own tokens and its own limits: which of them signs the next request.

Stands between sending.py and auth. Most runs have one; a pool's are used side by side, and one that is refused is left
out from then on. Safe to use from several threads.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tap_rest.auth.auth import Auth, PoolAuth
from tap_rest.engine.signals import Waiter
from tap_rest.engine.tokens import RunTokens, token_file
from tap_rest.engine.transport import TransportError
from tap_rest.language.declaration import Bound
from tap_rest.language.verdicts import Verdict
from tap_rest.limits.books import OwnBooks
from tap_rest.limits.limits import Hold, Limiter
from tap_rest.limits.quota_headers import readings
from tap_rest.page import Page
from tap_rest.request import Request

log = logging.getLogger(__name__)


class Credential:
    """One of them.

    Attributes:
        number: Its place among them, from 1: what messages call it.
        left: What the last answer said is left of its quota; without end where it said nothing.
        used: The turn in which it was taken last.
    """

    def __init__(self, number: int, auth: Auth, tokens: RunTokens, limiter: Limiter) -> None:
        self.number, self.auth, self.tokens, self.limiter = number, auth, tokens, limiter
        self.left, self.used = math.inf, 0

    def acquire(self, request: Request) -> Credential | Hold:
        """This one, when its limits let the request go now, which books it; else how long to wait."""
        return self.limiter.acquire(request) or self

    @contextmanager
    def in_flight(self, request: Request) -> Iterator[None]:
        """While what `acquire` has booked is under way: its place is given back, whatever becomes of it."""
        try:
            yield
        except TransportError as error:
            self.limiter.failed(request, cut=error.kind == "cut")
            raise
        finally:
            self.limiter.release()

    def observe(self, page: Page, verdict: Verdict) -> None:
        """Learns from an answer."""
        said = readings(page.headers, "auto", now=self.tokens.now())
        self.left = min((found.left for found in said), default=self.left)
        self.limiter.observe(page, verdict)


class Credentials:
    """All of them.

    Args:
        bound: The declaration with its settings.
        clock: Limits and tokens are kept on it.
        told: Those who must know every token, to keep it out of what they write.
        token_store: Folder of tokens that must outlive the run; None for where the user's programs keep such things.
        books: Where it is kept what limits allow; None for this run's own.
    """

    def __init__(
        self,
        bound: Bound,
        clock: Waiter,
        told: Sequence[Callable[[Sequence[str]], None]],
        token_store: str | None,
        books: OwnBooks | None = None,
    ) -> None:
        auths = bound.auth.members() if isinstance(bound.auth, PoolAuth) else [bound.auth]
        self._good = [
            Credential(
                number,
                auth,
                RunTokens(clock, told, token_file(bound.name, auth, token_store)),
                Limiter(bound.limits, clock.now, bound.base_url, books=books, identity=auth.secrets()),
            )
            for number, auth in enumerate(auths, 1)
        ]
        self._count, self._turn = len(auths), 0
        self._lock = threading.Lock()

    def good(self) -> list[Credential]:
        """Those that have not been refused; there is always one."""
        with self._lock:
            return list(self._good)

    @property
    def side_by_side(self) -> int:
        """How many requests may ever be under way at once: the sum of what each of them may have."""
        return sum(one.limiter.side_by_side for one in self.good())

    def acquire(self, request: Request) -> Credential | Hold:
        """The one with the most left whose limits let the request go now, which books it; else how long to wait."""
        with self._lock:
            holds = []
            for one in sorted(self._good, key=lambda one: (-one.left, one.used)):
                if isinstance(found := one.acquire(request), Credential):
                    self._turn += 1
                    found.used = self._turn
                    return found
                holds.append(found)
            return min(holds)

    def drop(self, refused: Credential, why: str) -> bool:
        """Leaves one out from now on; False for the last one, which stays."""
        with self._lock:
            if refused not in self._good:
                return True
            if len(self._good) == 1:
                return False
            self._good.remove(refused)
        log.warning("credential %d of %d is left out, the others go on: %s", refused.number, self._count, why)
        return True
