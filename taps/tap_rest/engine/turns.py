"""What there is to read of one partition: from its bookmark to its end, in windows of which one follows the other.

Windows are half-open and tile the stretch; one that the API can't answer whole is made smaller, and they grow again.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tap_rest.engine.checkpoint import Unit
from tap_rest.engine.signals import Waiter
from tap_rest.errors import ConfigError
from tap_rest.language.declaration import BoundStream
from tap_rest.language.partitions import WHOLE, Partition
from tap_rest.language.replication import Replication, duration, floored, iso, moment, time_of

SMALLEST = timedelta(seconds=1)


class Turn:
    """One partition's turn in a run.

    Args:
        stream: Whose partition it is.
        began: The wall clock, seconds since the epoch.
        bookmark: Where an earlier run ended.
        start_date: Where to begin without one.
        end_date: Where to end, exclusive.
        partition: Which of the stream's.
        whole: Begin at the beginning, whatever start_date says, unless windows need one.

    Attributes:
        start: Where it begins; None for the beginning.
        bookmark: What it was made from.
        window: How long the windows are at most; None where there are none.
        lost: Time that the API no longer has: from the bookmark to where it goes back to.
    """

    def __init__(
        self,
        stream: BoundStream,
        began: float,
        *,
        bookmark: str | int | None = None,
        start_date: str | None = None,
        end_date: str | None = None,
        partition: Partition = WHOLE,
        whole: bool = False,
    ) -> None:
        self.stream, self.began, self.partition, self.bookmark = stream, began, partition, bookmark
        self.lost: tuple[str, str] | None = None
        self.start: str | None = None
        self._end: str | None = None
        self._start_floats = self._end_floats = False
        self._timed = stream.declared.replication is not None and stream.declared.replication.format != "text"
        self._size: timedelta | None = None
        if (replication := stream.declared.replication) is not None:
            self._place(replication, bookmark, start_date, end_date)
            if whole and replication.window is None:
                self.start = None
        self._at: str | None = self.start
        self.window = self._size

    def _place(
        self, replication: Replication, bookmark: str | int | None, start_date: str | None, end_date: str | None
    ) -> None:
        now = datetime.fromtimestamp(self.began, UTC)
        if bookmark is not None:
            back = duration(replication.lookback)
            self.start = iso(time_of(str(bookmark)) - back) if back else str(bookmark)
        elif start_date is None and replication.start is not None:
            self._start_floats = replication.format != "text" and moment(replication.start) is None
            self.start = iso(now - duration(replication.start)) if self._start_floats else replication.start
        else:
            self.start = start_date
        if replication.retention is not None:
            floor = now - duration(replication.retention)
            if self.start is None or (moment(self.start) or floor) < floor:
                gone = bookmark is not None and (moment(bookmark) or floor) < floor
                self.lost = (str(bookmark), iso(floor)) if gone else None
                self.start, self._start_floats = iso(floor), True
        self._size = None if replication.window is None else duration(replication.window)
        clock = bool(self._size or duration(replication.lag) or self.stream.declared.paginator.result_cap)
        if self.stream.ends and (end_date is not None or clock or self.stream.needs_end):
            last = now - duration(replication.lag)
            asked = moment(end_date)
            self._end_floats = asked is None or asked > last
            end = asked if asked is not None and (asked <= last or not clock) else last
            self._end = end_date if end == asked and end_date else iso(end)
        step = duration(replication.granularity)
        if step and self._end is not None:
            self._end = iso(floored(time_of(self._end), step, replication.timezone))
        if step and self.start is not None:
            self.start = iso(floored(time_of(self.start), step, replication.timezone))
        if self._size is not None and (self.start is None or self._end is None):
            raise ConfigError(
                "windows need a beginning and an API that can be asked for an end",
                where=f"streams.{self.stream.name}",
                hint="give start_date, or declare `start`; declare `until_param` or use {until}",
            )

    @property
    def is_whole(self) -> bool:
        """Whether it begins where there is no more before it."""
        return self.start is None or (self.window is not None and self.bookmark is None)

    @property
    def is_over(self) -> bool:
        """Whether there is nothing to read."""
        first, last = moment(self._at) if self._timed else None, moment(self._end)
        return first is not None and last is not None and first >= last

    def unit(self) -> Unit:
        """What to read next."""
        until = self._end
        if self._size is not None and self._at is not None and until is not None:
            until = iso(min(time_of(self._at) + self._size, time_of(until)))
        return Unit(
            self.stream,
            self.began,
            self._at,
            until,
            self.partition,
            self.bookmark,
            start_floats=self._start_floats and self._at == self.start,
            end_floats=self._end_floats and until == self._end,
        )

    def completed(self, unit: Unit) -> bool:
        """Whether anything is left after a unit that was read to its end."""
        cut = self._timed and unit.until is not None and self.stream.declared.paginator.result_cap is not None
        if self._size is None and not cut:  # what an earlier run had cut in two goes on after the first half
            return False
        self._at, replication = unit.until, self.stream.declared.replication
        back = duration(replication.lookback) if replication else None
        if back and unit.until is not None and unit.began < self.began:
            self._at = iso(time_of(unit.until) - back)  # what came late since an earlier run began it lies behind
        if self.is_over or self._size is None:
            return not self.is_over
        most = self.window or time_of(self._end or "") - time_of(self._at or "")
        self._size = min(self._size * 2, max(most, SMALLEST))
        return True

    def halved(self, unit: Unit) -> bool:
        """Makes the next unit half as long as one that was too much for the API; False where it can't be cut."""
        replication = self.stream.declared.replication
        if replication is None or unit.start is None or unit.until is None:
            return False
        step = max(duration(replication.granularity), SMALLEST)
        steps = (time_of(unit.until) - time_of(unit.start)) // step
        self._size = max(steps // 2, 1) * step
        return steps > 1


class Turns:
    """Makes the turns of a run.

    Args:
        clock: Says when each begins.
        start_date: Where to begin without a bookmark.
        end_date: Where to end, exclusive.
    """

    def __init__(self, clock: Waiter, start_date: str | None, end_date: str | None) -> None:
        self._clock, self._start_date, self._end_date = clock, start_date, end_date

    def turn(
        self, stream: BoundStream, partition: Partition, bookmark: str | int | None = None, *, whole: bool = False
    ) -> Turn:
        """What there is to read of a partition from a bookmark on, or the whole of it."""
        return Turn(
            stream,
            self._clock.now(),
            bookmark=bookmark,
            start_date=self._start_date,
            end_date=self._end_date,
            partition=partition,
            whole=whole,
        )
