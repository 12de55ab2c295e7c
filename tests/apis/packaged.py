"""Packaged declarations run against model servers, and golden files of what comes out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.apis.github import GitHub
from tests.apis.stripe import Stripe
from tests.apis.zendesk import Zendesk
from tests.tap_rest.harness import FastClock, Run, run_file

import tap_declarations

GOLDEN = Path(__file__).with_name("golden")
Api = GitHub | Stripe | Zendesk
"""Asked by the declaration `name` with its `settings`; the headers `auth` let any client in."""


class Clock(FastClock):
    """A clock that several runs share, one after the other, with the model that they ask."""

    def close(self) -> None:
        """Nothing: the next run needs it."""

    def end(self) -> None:
        super().close()


def archived(
    folder: Path,
    model: Api,
    clock: Clock,
    *only: str,
    page_size: int | None = None,
    state: Any = None,
    start_date: str | None = None,
    **settings: str,
) -> Run:
    """Runs streams of a packaged declaration, all of them unless `only` some, with pages of another size if wanted."""
    text = tap_declarations.path(model.name).read_text()
    file = folder / f"{model.name}.yaml"
    file.write_text(text if page_size is None else text.replace("page_size: 100", f"page_size: {page_size}"))
    asked = {"base_url": model.url, **model.settings, **settings}
    return run_file(file, settings=asked, clock=clock, only=only, state=state, start_date=start_date)


def check_golden(model: Api, ended: Run) -> None:
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
    file = GOLDEN / f"{model.name}.jsonl"
    if os.environ.get("DAYKEEP_GOLDEN") == "write":
        file.write_text(text)
    assert text == file.read_text()


def _without_address(part: dict[str, Any]) -> dict[str, Any]:
    """A part of STATE without what the model's port has a share in."""
    return {name: value for name, value in part.items() if name != "validators"}
