"""The command line of a declared tap: the options that singer-sdk's does not have, and how every failure ends."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from singer_sdk.plugin_base import SingerCommand

from tap_rest.engine.signals import Interrupted
from tap_rest.errors import ConfigError, TapError

log = logging.getLogger(__name__)


class Command(SingerCommand):
    """The command line; whatever happens ends in an exit status and one clear line."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **_: Any) -> Any:  # type: ignore[override]  # its overloads differ by standalone_mode, which has no meaning here
        logging.getLogger(self.name).setLevel(logging.WARNING)  # the SDK tells every start what it does not do
        logging.getLogger("urllib3").setLevel(logging.WARNING)  # it would log whole URLs, credentials included
        with reported(self.name or "tap-rest"):
            sys.exit(super().main(args, prog_name or self.name, standalone_mode=False))


def options() -> list[click.Parameter]:
    """For looking at single streams."""
    return [
        click.Option(
            ["--stream", "only"], multiple=True, metavar="STREAM", help="Read this stream alone; may be repeated."
        ),
        click.Option(
            ["--limit"],
            type=click.IntRange(min=1),
            metavar="N",
            help="Stop after N records of each stream, for a quick look: no bookmark moves.",
        ),
        click.Option(
            ["--explain"],
            metavar="STREAM",
            help="Print a stream's declaration, defaults merged in, and its first request as curl, credentials masked.",
        ),
    ]


@contextmanager
def reported(name: str) -> Iterator[None]:
    """Turns every way to fail into one clear line and the exit status of its kind."""
    try:
        yield
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - it ends the program, with its own words
        text, status = _ending(error)
        for line in text.splitlines():
            click.echo(f"{name}: {line}", err=True)
        sys.exit(status)


def _ending(error: BaseException) -> tuple[str, int]:
    match error:
        case TapError():
            return str(error), error.exit_status
        case click.Abort() | KeyboardInterrupt():
            return "interrupted", 130
        case click.ClickException():
            return error.format_message(), 2
        case Interrupted():
            return f"interrupted by {error}; the next run goes on from here", error.exit_status
        case BrokenPipeError():
            return "nobody reads the output any more, the target may have ended", 1
        case OSError():
            return f"{error.strerror or type(error).__name__}: {error.filename or 'no file'}", 1
    log.debug("unexpected", exc_info=error)
    return f"unexpected {type(error).__name__}; LOGLEVEL=DEBUG shows where, please report it", 1


def config_object(text: str) -> dict[str, Any]:
    """A config from its file, or from its own text. Raises ConfigError."""
    if text.lstrip().startswith("{"):
        return json_object(text, "the config")
    try:
        return json_object(Path(text).read_text(encoding="utf-8"), f"the config ({text})")
    except OSError as error:
        raise ConfigError(f"{text}: {error.strerror}", where="config") from None


def json_object(text: str, what: str) -> dict[str, Any]:
    """A JSON object from its text. Raises ConfigError, which calls it `what`."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{what} is not JSON (line {error.lineno}, column {error.colno})") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{what} is not a JSON object")
    return found
