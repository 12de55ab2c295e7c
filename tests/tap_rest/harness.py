"""Declarations run against small real servers, on a clock whose waits pass at once."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from tests.tap_rest.hostile import Hostile, response

from tap_rest.engine.engine import Engine
from tap_rest.engine.messages import Output, RawLane
from tap_rest.engine.signals import Interrupted, Waiter
from tap_rest.engine.state import State
from tap_rest.engine.transport import Transport
from tap_rest.errors import TapError
from tap_rest.language.declaration import BoundStream, load

NOW = 1_800_000_000.0
FAST = "limits: [{quota: 100000/s}]\n"
"""The beginning of a declaration whose requests nothing holds back."""

Answered = Callable[[str, dict[str, str]], Any]
"""What an API answers, by path and parameters: bytes are the whole answer, the rest is JSON."""


class FastClock(Waiter):
    """Waits pass at once and are noted; the wall clock begins at `start` and moves by them alone."""

    def __init__(self, start: float = NOW) -> None:
        super().__init__()
        self._start = start
        self.waits: list[float] = []

    def now(self) -> float:
        return self._start + sum(self.waits)

    def monotonic(self) -> float:
        return sum(self.waits)

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.check()


class HandClock:
    """A wall clock that stands still but for what `passed` says."""

    def __init__(self, start: float) -> None:
        self._start, self.passed = start, 0.0

    def now(self) -> float:
        return self._start + self.passed


class Collected(Output):
    """What would have gone to stdout."""

    def __init__(self) -> None:
        super().__init__(None)
        self.text = b""

    def write(self, lines: bytes) -> None:
        self.text += lines


@dataclass
class Run:
    """One run: its output and how it ended."""

    output: bytes
    error: TapError | Interrupted | None
    clock: FastClock
    engine: Engine

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.splitlines()]

    @property
    def states(self) -> list[dict[str, Any]]:
        return [message["value"] for message in self.messages if message["type"] == "STATE"]

    def records(self, stream: str | None = None) -> list[dict[str, Any]]:
        return [
            message["record"]
            for message in self.messages
            if message["type"] == "RECORD" and stream in (None, message["stream"])
        ]

    def claim(self, stream: str) -> dict[str, Any]:
        (claim,) = self.states[-1]["claims"][stream]
        return dict(claim)


def ids(*runs: Run) -> list[Any]:
    return [record["id"] for result in runs for record in result.records()]


def written(folder: Path, declaration: str, base_url: str = "http://api.test") -> Path:
    """The file of a declaration that is given without its `name` and `base_url`."""
    file = folder / "api.yaml"
    file.write_text(f"name: tap-test\nbase_url: {base_url}\n{textwrap.dedent(declaration)}")
    return file


def stream_of(folder: Path, options: str) -> BoundStream:
    """A stream that is asked for nothing."""
    file = written(folder, f"streams: {{rows: {{path: /rows, records: $, {options}}}}}")
    return load(file).bind({}).streams["rows"]


def run(folder: Path, server: Hostile, declaration: str, **how: Any) -> Run:
    """Runs all streams of a declaration, given without its `name` and `base_url`, against a server."""
    return run_file(written(folder, declaration, server.url), **how)


def run_file(
    file: Path,
    *,
    state: Any = None,
    settings: dict[str, Any] | None = None,
    clock: FastClock | None = None,
    only: Sequence[str] = (),
    **options: Any,
) -> Run:
    """Runs some or all streams of a declaration."""
    bound = load(file).bind(settings or {})
    clock, output, transport = clock or FastClock(), Collected(), Transport()
    known = State(state, now=clock.now(), secrets=bound.secrets)
    engine = Engine(bound, state=known, lane=RawLane(output), clock=clock, transport=transport, **options)
    error: TapError | Interrupted | None = None
    try:
        engine.run([stream for name, stream in bound.streams.items() if not only or name in only])
    except (TapError, Interrupted) as caught:
        error = caught
    finally:
        transport.close()
        clock.close()
    return Run(output.text, error, clock, engine)


def params_of(request: str) -> dict[str, str]:
    """The parameters in a request's query."""
    return dict(parse_qsl(request.split()[1].partition("?")[2]))


def json_api(answer: Answered) -> Hostile:
    def raw(request: str) -> Iterable[bytes]:
        found = answer(request.split()[1].partition("?")[0], params_of(request))
        return [found if isinstance(found, bytes) else response(json.dumps(found, separators=(",", ":")).encode())]

    return Hostile(raw)
