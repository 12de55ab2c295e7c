"""The command line of a declared tap: the options that singer-sdk's does not have, and how every failure ends."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from singer_sdk.logging import ConsoleFormatter, StructuredFormatter
from singer_sdk.plugin_base import SingerCommand

from tap_rest.engine.logs import MASKING
from tap_rest.engine.signals import Interrupted
from tap_rest.errors import ConfigError, TapError
from tap_rest.language.schema import language_schema

log = logging.getLogger(__name__)


class Command(SingerCommand):
    """The command line; whatever happens ends in an exit status and one clear line."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **_: Any) -> Any:  # type: ignore[override]  # its overloads differ by standalone_mode, which has no meaning here
        logging.getLogger(self.name).setLevel(logging.WARNING)  # the SDK tells every start what it does not do
        logging.getLogger("urllib3").setLevel(logging.WARNING)  # it would log whole URLs, credentials included
        name = self.name or "tap-rest"
        with reported(name), _masked_logs(name):
            sys.exit(super().main(args, prog_name or self.name, standalone_mode=False))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click would end it without a word
            raise TapError("nobody reads the output any more, the target may have ended") from None


def _print_schema(ctx: click.Context, param: click.Parameter, given: bool) -> None:  # noqa: ARG001 - click's signature
    if given:
        click.echo(json.dumps(language_schema(), indent=2, ensure_ascii=False))
        ctx.exit()


OPTIONS: list[click.Parameter] = [
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
    click.Option(
        ["--har"],
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Write what was captured or replayed as HAR, for the developer tools of a browser.",
    ),
    click.Option(
        ["--authorize"],
        is_flag=True,
        help="Log a person in and store the tokens, for `auth` that needs it; nothing is read.",
    ),
    click.Option(
        ["--schema"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_print_schema,
        help="Print the JSON Schema of declaration files, for editors.",
    ),
]
"""For writing a declaration and looking at single streams."""


@contextmanager
def reported(name: str) -> Iterator[None]:
    """Turns every way to fail into one clear line and the exit status of its kind."""
    try:
        yield
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - it ends the program, with its own words
        text, status = _ending(error)
        text = MASKING.redactor.text(text)
        if _is_structured():
            said = {"name": name, "levelname": "ERROR", "msg": text, **getattr(error, "about", {})}
            text = _structured(name).format(logging.makeLogRecord(said))
        else:
            text = "\n".join(f"{name}: {line}" for line in text.splitlines())
        click.echo(text, err=True)
        sys.exit(status)


@contextmanager
def _masked_logs(name: str) -> Iterator[None]:
    """While open, log lines hold no secrets. LOG_FORMAT=json makes them JSON, as a SINGER_SDK_LOG_CONFIG can too."""
    handlers = list(logging.getLogger().handlers)
    for handler in handlers:
        handler.addFilter(MASKING)
        if os.environ.get("LOG_FORMAT") == "json" and isinstance(handler.formatter, ConsoleFormatter):
            handler.setFormatter(_structured(name))
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(MASKING)


def _structured(name: str) -> StructuredFormatter:
    return StructuredFormatter(defaults={"app_name": name})


def _is_structured() -> bool:
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    return os.environ.get("LOG_FORMAT") == "json" or any(isinstance(one, StructuredFormatter) for one in formatters)


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
