"""Every name of singer-sdk that is overridden or called privately, as the exact version we pin has it."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from singer_sdk import Stream, Tap
from singer_sdk.logging import ConsoleFormatter, StructuredFormatter
from singer_sdk.plugin_base import JSONSchemaValidator, PluginBase, SingerCommand, _ConfigInput
from singer_sdk.singerlib.encoding.simple import SimpleSingerWriter
from singer_sdk.singerlib.json import deserialize_json
from singer_sdk.tap_base import CliTestOptionValue

from tap_rest.stream import DeclaredStream
from tap_rest.tap import DeclaredTap


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (Tap.sync_all, "self"),
        (Tap.load_state, "self state"),
        (Tap.discover_streams, "self"),
        (Tap.get_singer_command, ""),
        (Tap.invoke, "about about_format config state catalog"),
        (Tap.cb_test, "ctx param value"),
        (Tap.cb_config, "ctx param value"),
        (PluginBase._setup_signal_handlers, "self"),
        (PluginBase._validate_config, "self raise_errors"),
        (PluginBase.append_builtin_config, "config_jsonschema"),
        (Stream.get_records, "self context"),
        (Stream._write_schema_message, "self"),
        (Stream._write_record_message, "self record"),
        (SimpleSingerWriter.write_message, "self message"),
        (SimpleSingerWriter.format_message, "self message"),
        (SingerCommand.invoke, "self ctx"),
    ],
)
def test_a_method_that_is_overridden_or_called_is_there_with_its_parameters(
    method: Callable[..., Any], parameters: str
) -> None:
    assert " ".join(inspect.signature(method).parameters) == parameters


def test_the_sdk_asks_for_its_signal_handlers_in_the_method_that_is_overridden() -> None:
    assert "self._setup_signal_handlers()" in inspect.getsource(PluginBase.__init__)
    assert "signal.signal" not in inspect.getsource(Tap) + inspect.getsource(PluginBase.__init__)


def test_the_sdk_validates_in_the_method_that_is_overridden() -> None:
    assert "self._validate_config(" in inspect.getsource(PluginBase.__init__)


def test_the_names_that_are_imported_mean_what_they_did() -> None:
    assert _ConfigInput(config={"a": 1}, parse_env=True).config == {"a": 1}
    assert CliTestOptionValue.All.value == "all"
    assert str(deserialize_json(b'{"a":1.10}')["a"]) == "1.10"
    line = StructuredFormatter(defaults={"app_name": "tap"}).format(logging.makeLogRecord({"msg": "said", "page": 1}))
    assert {"app_name": "tap", "message": "said", "extra": {"page": 1}}.items() <= json.loads(line).items()
    assert issubclass(ConsoleFormatter, logging.Formatter)
    assert next(iter(JSONSchemaValidator({"type": "object"}).iter_errors(1))).validator == "type"


def test_the_adapters_are_what_the_sdk_takes() -> None:
    assert issubclass(DeclaredTap, Tap)
    assert issubclass(DeclaredStream, Stream)
    assert "message_writer" in inspect.getsource(Tap.write_message)
