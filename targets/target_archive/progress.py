"""How far a run has come, on standard error: a plain line every few seconds, or JSON for `daykeep run` to draw."""

from __future__ import annotations

import json
import logging
import os
import sys
import time

from target_archive.archiver import Archiver

ENVIRONMENT_VARIABLE = "DAYKEEP_PROGRESS"
"""Set to `json`: each report is one JSON line, `{"progress": {STREAM: {"received": N, "repeats": N}}}`."""

logger = logging.getLogger("target-archive")


class Progress:
    def __init__(self, archiver: Archiver) -> None:
        self._archiver = archiver
        self._as_json = os.environ.get(ENVIRONMENT_VARIABLE) == "json"
        self._every = 0.5 if self._as_json else 5.0
        self._next = time.monotonic() + self._every

    def seconds_left(self) -> float:
        return max(0.0, self._next - time.monotonic())

    def show_if_due(self) -> None:
        if self.seconds_left() == 0:
            self._next = time.monotonic() + self._every
            self.show()

    def show(self) -> None:
        sinks = self._archiver.sinks
        if self._as_json:
            counts = {name: {"received": sink.received, "repeats": sink.repeats} for name, sink in sinks.items()}
            sys.stderr.write(json.dumps({"progress": counts}) + "\n")
            sys.stderr.flush()
        elif sinks:
            parts = (
                f"{name} {sink.received:,}" + (f" ({sink.repeats:,} already held)" if sink.repeats else "")
                for name, sink in sinks.items()
            )
            logger.info("records: %s", " · ".join(parts))
