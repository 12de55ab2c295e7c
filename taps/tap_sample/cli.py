"""`tap-sample`: the declared tap of the sample API, with the API itself in the process unless the config names one."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Mapping
from typing import Any

from tap_rest.command import reported
from tap_rest.errors import ConfigError, TapError
from tap_rest.tap import declared_tap
from tap_sample.faults import Faults
from tap_sample.server import TOKEN, SampleServer

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "faults": {
        "type": ["string", "null"],
        "description": "Share of requests to the tap's own sample API that go wrong, RATE[:SEED], for example 0.1:7",
    },
}
DEFAULTS = {"base_url": "http://127.0.0.1:8000", "token": TOKEN}
"""The `base_url` is what `--explain` shows; `python -m tap_sample --port 8000` serves it."""


def main() -> None:
    """The console script `tap-sample`."""
    with reported("tap-sample"):
        declared_tap("sample", extra_settings=SETTINGS, defaults=DEFAULTS, start=started).cli()


def started(config: Mapping[str, Any]) -> Mapping[str, str]:
    """Where the API is; with a `base_url` in the config nothing is started. Raises TapError."""
    if config.get("base_url"):
        return {}
    spec = config.get("faults") or os.environ.get("TAP_SAMPLE_FAULTS") or "0"
    try:
        server = SampleServer(faults=Faults.parse(spec))
    except ValueError as error:
        raise ConfigError(str(error), where="setting faults (TAP_SAMPLE_FAULTS)") from None
    except OSError as error:
        raise TapError(f"cannot start the sample API: {error.strerror or error}") from None
    threading.Thread(target=server.serve_forever, name="sample API", daemon=True).start()
    atexit.register(server.server_close)
    return {"base_url": server.base_url}
