"""All that a run needs, put together from a declaration and a config, for as long as it takes.

Stands between the adapters, who have a command line, and the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from tap_rest.engine.authorize import authorize
from tap_rest.engine.capture import Capture, CaptureClock, Replay, ReplayClock, clock_for, replayed
from tap_rest.engine.engine import Engine
from tap_rest.engine.har import write_har
from tap_rest.engine.logs import MASKING
from tap_rest.engine.messages import Lane, Output, RawLane
from tap_rest.engine.signals import Waiter
from tap_rest.engine.state import State
from tap_rest.engine.tokens import state_folder
from tap_rest.engine.transport import Sender, Transport
from tap_rest.errors import ConfigError
from tap_rest.language.declaration import Bound, Declaration
from tap_rest.language.vocabulary import COMMON_SETTINGS
from tap_rest.limits.books import OwnBooks
from tap_rest.limits.shared_books import SharedBooks
from tap_rest.redaction import Redactor

Config = Mapping[str, Any]
Settings = Mapping[str, Mapping[str, Any]]
RUN_SETTINGS: Settings = {
    "trust_env": {"type": "boolean", "default": False, "description": "Use the environment's proxy and CA bundle"},
    "token_store": {
        "type": ["string", "null"],
        "description": "Folder of tokens that a server replaces; $XDG_STATE_HOME/daykeep where nothing is given",
    },
    "limits_store": {
        "type": ["string", "null"],
        "description": "File by which all runs keep an API's limits together, `none` for none; "
        "$XDG_STATE_HOME/daykeep/limits.sqlite where nothing is given",
    },
    "request_log": {
        "type": "boolean",
        "default": False,
        "description": "Write a further stream, `requests`: a record for each request that was sent",
    },
    "capture": {"type": ["string", "null"], "description": "Folder that keeps every answer, without credentials"},
    "replay": {
        "type": ["string", "null"],
        "description": "Folder of captured answers, or the file of a captured run: repeats it without a network",
    },
}
DRY: Config = {"capture": None, "replay": None, "limits_store": "none"}
"""Settings of an engine that sends nothing and leaves nothing."""


def checked(declaration: Declaration, config: Config) -> dict[str, Any]:
    """The settings that are given, those that are secret read from their files. Raises ConfigError."""
    found = {name: value for name, value in config.items() if value is not None}
    for name, setting in COMMON_SETTINGS.items():
        setting.text(name, found.get(name))
    for name, setting in declaration.settings.items():
        if setting.sensitive and str(found.get(name)).startswith("file:"):
            path = found[name].removeprefix("file:")
            try:
                found[name] = Path(path).expanduser().read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError):
                raise ConfigError(f"the file of the setting {name!r} can't be read", where=path) from None
    return found


@contextmanager
def running(
    bound: Bound,
    config: Config,
    state: Mapping[str, Any],
    lane: Lane | None = None,
    output: Output | None = None,
    *,
    limit: int | None = None,
    har: Path | None = None,
) -> Iterator[tuple[Engine, Waiter]]:
    """An engine and its clock. Raises ConfigError.

    Args:
        bound: The declaration with its settings.
        config: With RUN_SETTINGS and the settings that every tap has.
        state: The STATE value to go on from.
        lane: Takes the records; without one nothing may be written.
        output: Where it writes to: while it does, a signal ends the run after a page, as does a reader that goes away.
        limit: Records of each stream to look at, instead of reading all.
        har: Where to write what was captured or replayed.
    """
    MASKING.redactor = redactor = Redactor(bound.secrets)
    with ExitStack() as opened:
        clock = clock_for(config.get("capture"), config.get("replay"), output.fd if output else None)
        opened.enter_context(closing(clock))
        if output is not None:
            opened.enter_context(clock.catching())
        transport: Sender
        if isinstance(clock, ReplayClock):
            bound, transport = replayed(bound), Replay(Path(config["replay"]), redactor, clock)
        else:
            transport = Transport(trust_env=bool(config.get("trust_env")))
        if isinstance(clock, CaptureClock):
            paginators = (stream.declared.paginator for stream in bound.streams.values())
            cursors = {(getattr(paginator, "header", None) or "").lower() for paginator in paginators}
            transport = Capture(transport, Path(config["capture"]), clock, redactor, cursors)
        if har is not None and isinstance(transport, Capture | Replay):
            opened.callback(write_har, transport, har)
        opened.enter_context(closing(transport))
        place = config.get("limits_store") or str(state_folder() / "limits.sqlite")
        alone = place == "none" or isinstance(clock, ReplayClock)
        books = OwnBooks() if alone else SharedBooks(Path(place).expanduser().absolute())
        engine = Engine(
            bound,
            state=State(state, now=clock.now(), secrets=bound.secrets),
            lane=lane or RawLane(Output(None)),
            clock=clock,
            transport=transport,
            start_date=config.get("start_date"),
            end_date=config.get("end_date"),
            max_wait=float(COMMON_SETTINGS["max_wait"].text("max_wait", config.get("max_wait")) or 0),
            token_store=config.get("token_store"),
            limit=limit,
            redactor=redactor,
            books=opened.enter_context(closing(books)),
        )
        yield engine, clock


def log_in(bound: Bound, config: Config, say: Callable[[str], None]) -> None:
    """Logs a person in, to whom it says lines, and stores the tokens that runs then use. Raises TapError."""
    MASKING.redactor = redactor = Redactor(bound.secrets)
    with closing(Waiter()) as clock, closing(Transport(trust_env=bool(config.get("trust_env")))) as transport:
        store = config.get("token_store")
        authorize(bound, clock=clock, transport=transport, redactor=redactor, token_store=store, say=say)
