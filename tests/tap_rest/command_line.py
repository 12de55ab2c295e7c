"""The command line of a declared tap: called within the test's process or started as one, and what it prints."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import IO, Any

import pytest
from tests.tap_rest.harness import FAST, written
from tests.tap_rest.rows import CURSOR

from tap_rest.tap import main
from tap_sample.server import TOKEN, SampleServer


def declared(folder: Path, url: str, streams: str = CURSOR) -> str:
    """The file of a declaration; where it has no limits of its own, nothing holds its requests back."""
    limits = "" if re.search(r"^\s*limits:", streams, re.MULTILINE) else FAST
    return str(written(folder, limits + textwrap.dedent(streams), url))


def status_of(*args: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(args)
    code = ended.value.code
    return code if isinstance(code, int) else 0


def config(**settings: Any) -> str:
    return f"--config={json.dumps(settings)}"


def sample_config(server: SampleServer, **settings: Any) -> str:
    return config(**{"declaration": "sample", "base_url": server.base_url, "token": TOKEN, **settings})


def messages(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def started(*args: str, stdout: int | IO[bytes] = subprocess.PIPE, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from tap_rest.tap import main; main()", *args]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, **options)
