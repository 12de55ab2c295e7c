"""Taps made of declarations: command line, config and catalog come from singer-sdk, the data goes through our engine.

`tap-rest` runs any declaration file, `declared_tap` makes the class of one. Every way to fail is one clear line on
stderr and the exit status of its kind.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any, ClassVar

import click
from singer_sdk import Tap
from singer_sdk.helpers.capabilities import CapabilitiesEnum, PluginCapabilities, TapCapabilities
from singer_sdk.plugin_base import JSONSchemaValidator, _ConfigInput
from singer_sdk.tap_base import CliTestOptionValue

import tap_declarations
from tap_rest.command import OPTIONS, Command, config_object, json_object, reported
from tap_rest.engine.attempts import REQUESTS
from tap_rest.engine.explain import explained, masked
from tap_rest.engine.messages import Lane, RawLane, singer_output, state_line
from tap_rest.engine.running import DRY, RUN_SETTINGS, Config, Settings, checked, log_in, running
from tap_rest.errors import ConfigError
from tap_rest.language.declaration import Bound, Declaration, load
from tap_rest.language.yaml_source import did_you_mean
from tap_rest.stream import DeclaredStream, SDKLane, is_whole

DECLARATION_SETTING: Settings = {
    "declaration": {"type": "string", "description": "Path of a declaration file, or the name of a packaged one"}
}

log = logging.getLogger(__name__)


class DeclaredTap(Tap):
    """Fetches what a declaration says, raw."""

    name = "tap-rest"
    package_name = "daykeep"
    declaration: ClassVar[Declaration | None] = None
    defaults: ClassVar[Config] = {}
    config_jsonschema: ClassVar[dict[str, Any]] = {"type": "object", "properties": dict(DECLARATION_SETTING)}
    capabilities: ClassVar[list[CapabilitiesEnum]] = [
        PluginCapabilities.ABOUT,
        TapCapabilities.CATALOG,
        TapCapabilities.DISCOVER,
        TapCapabilities.STATE,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.FLATTENING,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]

    _given: Config = {}
    _only: Sequence[str] = ()
    _limit: int | None = None
    _har: Path | None = None

    @staticmethod
    def start(_config: Config) -> Config:
        """Values that go before `defaults`; asked for when a request is near, not before."""
        return {}

    def discover_streams(self) -> Sequence[DeclaredStream]:
        streams = {} if self.declaration is None else self.declaration.streams
        found = [DeclaredStream(self, name, stream, partial(self.records, name)) for name, stream in streams.items()]
        if not self.config.get("request_log"):
            return found
        if REQUESTS.name in streams:
            raise ConfigError(f"`request_log` writes a stream {REQUESTS.name!r}, and the API has one of that name")
        return [*found, DeclaredStream(self, REQUESTS.name, REQUESTS.declared, partial(iter, ()))]

    def load_state(self, state: dict[str, Any]) -> None:
        """Keeps STATE as it is; the engine reads it when it is needed."""
        self._given = state

    @cached_property
    def bound(self) -> Bound:
        """The declaration with the config in it; the first use may start an API."""
        config = checked(self._declared, self.config)
        return self._declared.bind({**self.defaults, **self.start(config), **config})

    @property
    def _declared(self) -> Declaration:
        if self.declaration is None:
            raise ConfigError("no declaration is given", hint="""try --config '{"declaration": "my.yaml"}'""")
        return self.declaration

    @property
    def chosen(self) -> list[str]:
        """The streams to read: those of `--stream`, else those that the catalog selects."""
        declared = self._declared.streams
        for name in self._only:
            if name not in declared:
                raise ConfigError(f"there is no stream {name!r}", hint=did_you_mean(name, declared))
        return [name for name in declared if name in self._only or (not self._only and self.streams[name].selected)]

    @property
    def wants_sdk_lane(self) -> str:
        """What asks for per-record work; empty for nothing."""
        for setting in ("stream_maps", "flattening_enabled"):
            if self.config.get(setting):
                return setting
        cut = [name for name in self.chosen if not is_whole(self.streams[name])]
        return f"deselected properties of {', '.join(cut)}" if cut else ""

    def sync_all(self) -> None:  # type: ignore[misc]  # final for the SDK's types; its data path loses rows on SIGTERM
        """Reads all selected streams. Raises TapError, Interrupted or BrokenPipeError when the run is not complete."""
        bound, reason = self.bound, self.wants_sdk_lane
        log.info("%s", f"SDK lane, for {reason}" if reason else "raw lane")
        with singer_output() as output:
            lane: Lane = SDKLane(self, output) if reason else RawLane(output)
            limit, har = self._limit, self._har
            with running(bound, self.config, self._given, lane, output, limit=limit, har=har) as (engine, _):
                output.write(state_line(self._given or {"bookmarks": {}}))  # where this run starts, for an archive
                logged = self.streams.get(REQUESTS.name) if self.config.get("request_log") else None
                engine.run([bound.streams[name] for name in self.chosen], request_log=bool(logged and logged.selected))

    def records(self, stream: str) -> Iterator[bytes]:
        """The records of a stream from its bookmark on, written nowhere."""
        with running(self.bound, self.config, self._given) as (engine, _):
            yield from engine.records(self.bound.streams[stream])

    def try_out(self) -> None:
        """Proves the credentials, then writes the schema and the first record of each selected stream."""
        bound = self.bound
        with singer_output() as output:
            lane = RawLane(output)
            with running(bound, self.config, self._given, lane, output) as (engine, clock):
                if bound.check is not None:
                    engine.sending.check(bound.check)
                for stream in (bound.streams[name] for name in self.chosen):
                    first = next(engine.records(stream), None)
                    lane.begin(stream)
                    lane.page(stream, () if first is None else (first,), clock.now(), b"")
                    log.info("%s: %s", stream.name, "no record" if first is None else "the first record came")

    def explain(self, name: str) -> str:
        """A stream's declaration and its first request, for a person; nothing is sent."""
        self._only = (name,)
        declared, (name,) = self._declared, self.chosen
        bound = declared.bind(masked(declared, {**self.defaults, **checked(declared, self.config)}))
        with running(bound, {**self.config, **DRY}, self._given) as (engine, _):
            request = engine.first(bound.streams[name])
        if request is None:
            raise ConfigError(f"{name} has nothing to read", hint="its bookmark has passed end_date")
        return explained(declared, bound, name, request)

    # --- what singer-sdk does otherwise -------------------------------------------------------------------------------

    def _setup_signal_handlers(self) -> None:
        """None: the SDK's handler would end a killed tap with status 0. `sync_all` catches signals while it runs."""

    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        """Refuses unknown settings too, and never repeats a value, which may be a secret."""
        schema = self.config_jsonschema
        self.append_builtin_config(schema)
        problems = [_said(error) for error in JSONSchemaValidator(schema).iter_errors(self._config)]
        known = schema["properties"]
        problems += [
            f"unknown setting {name!r}, {did_you_mean(name, known)}" for name in self._config if name not in known
        ]
        if problems and raise_errors:
            raise ConfigError("; ".join(problems), where="config", hint="--about lists the settings")
        return problems

    @classmethod
    def get_singer_command(cls) -> click.Command:
        made = super().get_singer_command()
        return Command(
            name=made.name,
            callback=made.callback,
            params=[*made.params, *OPTIONS],
            help=made.help,
            context_settings=made.context_settings,
            logger=cls.logger,
        )

    @classmethod
    def cb_config(cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]) -> _ConfigInput:  # noqa: ARG003
        """Takes a file, `ENV`, and also the JSON text itself."""
        config: dict[str, Any] = {}
        for text in value:
            config |= {} if text == "ENV" else config_object(text)
        return _ConfigInput(config=config, parse_env="ENV" in value)

    @classmethod
    def cb_test(cls, ctx: click.Context, param: click.Option, value: str) -> None:
        """Like the SDK's, with the check request first and without its alarming log lines."""
        if value != CliTestOptionValue.All.value:
            super().cb_test(ctx, param, value)
            return
        config: _ConfigInput = ctx.params.get("config", _ConfigInput())
        cls(config=config.config, parse_env_config=config.parse_env).try_out()
        ctx.exit()

    @classmethod
    def invoke(  # type: ignore[override]
        cls,
        *,
        about: bool = False,
        about_format: str | None = None,
        config: _ConfigInput | None = None,
        state: IO[str] | None = None,
        catalog: IO[str] | None = None,
        only: Sequence[str] = (),
        limit: int | None = None,
        explain: str | None = None,
        har: Path | None = None,
        authorize: bool = False,
    ) -> None:
        """Runs the tap, logs a person in, or prints what it is or what it would ask for."""
        if about:
            cls.print_about(about_format)
            return
        config = config or _ConfigInput()
        tap = cls(
            config=config.config,
            state=None if state is None else json_object(state.read(), f"STATE ({state.name})"),
            catalog=None if catalog is None else json_object(catalog.read(), f"the catalog ({catalog.name})"),
            parse_env_config=config.parse_env,
        )
        tap._only, tap._limit, tap._har = only, limit, har
        if har is not None and not (tap.config.get("capture") or tap.config.get("replay")):
            raise ConfigError("--har needs the setting `capture` or `replay`", hint="it is made of what was captured")
        if authorize:
            log_in(tap.bound, tap.config, partial(click.echo, err=True))
        elif explain is None:
            tap.sync_all()
        else:
            click.echo(tap.explain(explain), nl=False)


def declared_tap(
    source: str | Path,
    *,
    name: str | None = None,
    extra_settings: Settings = {},  # noqa: B006 - only read
    defaults: Config = {},  # noqa: B006 - only read
    start: Callable[[Config], Config] = DeclaredTap.start,
) -> type[DeclaredTap]:
    """The tap of a declaration.

    Args:
        source: Path of a declaration file, or the name of a packaged one.
        name: The tap's name, where it is not the declaration's.
        extra_settings: Further settings, as JSON Schema properties; for `start`, not for the declaration.
        defaults: Values for settings that the config leaves out.
        start: Called with the config when a request is near; gives values that go before `defaults`.

    Raises:
        DeclarationError: With every mistake in it.
    """
    declaration = load(_declaration_file(str(source)))
    schema = declaration.config_jsonschema()
    schema["properties"] = {**schema["properties"], **RUN_SETTINGS, **extra_settings}
    members = {
        "name": name or declaration.name,
        "declaration": declaration,
        "defaults": defaults,
        "start": staticmethod(start),
        "config_jsonschema": schema,
        "__doc__": DeclaredTap.__doc__,
    }
    return type("DeclaredTap", (DeclaredTap,), members)


def main(args: Sequence[str] | None = None) -> None:
    """The console script `tap-rest`: the declaration is a setting, so the config is read before there is a tap."""
    args = sys.argv[1:] if args is None else args
    with reported("tap-rest"):
        source = _declaration_in(args)
        tap = DeclaredTap
        if source is not None:
            tap = declared_tap(source, name="tap-rest", extra_settings=DECLARATION_SETTING)
        tap.cli.main(args)


def _declaration_in(args: Sequence[str]) -> str | None:
    """The `declaration` setting of a command line; the last one given counts, as for every setting."""
    found = None
    for place, arg in enumerate(args):
        option, given, text = arg.partition("=")
        if option == "--config":
            text = text if given else "".join(args[place + 1 : place + 2])
            values = {"declaration": os.environ.get("TAP_REST_DECLARATION")} if text == "ENV" else config_object(text)
            found = values.get("declaration") or found
    if not isinstance(found, str | None):
        raise ConfigError("the setting 'declaration' is not a text", where="config")
    return found


def _declaration_file(source: str) -> Path:
    if source.endswith((".yaml", ".yml")) or (source not in tap_declarations.names() and Path(source).is_file()):
        return Path(source)
    try:
        return tap_declarations.path(source)
    except KeyError:
        hint = did_you_mean(source, tap_declarations.names())
        raise ConfigError(f"{source!r} is no declaration file and no packaged declaration", hint=hint) from None


def _said(error: Any) -> str:
    if error.validator == "required":
        return str(error.message)
    return f"setting {'.'.join(map(str, error.path))!r} must have {error.validator} {error.validator_value!r}"
