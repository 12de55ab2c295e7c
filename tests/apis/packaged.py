"""Packaged declarations run against model servers, and golden files of what comes out."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.apis.model import Model
from tests.tap_rest.harness import FastClock, Run, run_file

import tap_declarations

GOLDEN = Path(__file__).with_name("golden")


class Clock(FastClock):
    """A clock that several runs share, one after the other, with the model that they ask."""

    def close(self) -> None:
        """Nothing: the next run needs it."""

    def end(self) -> None:
        super().close()


def run(
    folder: Path,
    name: str,
    model: Model,
    *,
    clock: Clock | None = None,
    only: Sequence[str] = (),
    page_size: int | None = None,
    state: Any = None,
    start_date: str | None = None,
    **settings: Any,
) -> Run:
    """Runs streams of a packaged declaration, all of them unless `only` some, with pages of another size if wanted."""
    text = tap_declarations.path(name).read_text()
    file = folder / f"{name}.yaml"
    file.write_text(text if page_size is None else text.replace("page_size: 100", f"page_size: {page_size}"))
    return run_file(
        file,
        settings={"base_url": model.url, **settings},
        clock=clock,
        only=only,
        state=state,
        start_date=start_date,
    )


def check_golden(name: str, model: Model, ended: Run) -> None:
    """Compares what a run asked and wrote, and how its streams ended, with a file; DAYKEEP_GOLDEN=write writes it."""
    lines: list[dict[str, Any]] = [{"asked": str(asked)} for asked in model.asked]
    lines += [
        {key: value for key, value in message.items() if key != "time_extracted"}
        for message in ended.messages
        if message["type"] != "STATE"
    ]
    last = json.loads(json.dumps(ended.states[-1]), object_hook=_without_address)
    lines.append({"bookmarks": last["bookmarks"]})
    for stream, claims in last["claims"].items():
        lines += [{"claim": stream, "status": one["status"], "partitions": one.get("partitions")} for one in claims]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    file = GOLDEN / f"{name}.jsonl"
    if os.environ.get("DAYKEEP_GOLDEN") == "write":
        file.write_text(text)
    assert text == file.read_text()


def _without_address(part: dict[str, Any]) -> dict[str, Any]:
    """A part of STATE without what the model's port has a share in."""
    return {name: value for name, value in part.items() if name != "validators"}
