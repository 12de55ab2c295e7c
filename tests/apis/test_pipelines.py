"""The packaged taps as they are used: whole, captured and replayed, and all into archives by one Meltano job."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.apis.github import GitHub
from tests.apis.packaged import Api, Clock, archived, check_golden
from tests.apis.stripe import Stripe
from tests.apis.zendesk import Zendesk
from tests.daykeep.command import BIN, environment

from target_archive.archive import Archive

PROJECT = Path(__file__).parents[2] / "meltano.yml"
APIS: dict[str, type[Api]] = {"github": GitHub, "stripe": Stripe, "zendesk": Zendesk}


@pytest.mark.parametrize(("make", "how"), [(GitHub, {}), (Stripe, {}), (Zendesk, {"export": 2})])
def test_all_of_an_api_is_archived(make: type[Api], how: dict[str, int], clock: Clock, tmp_path: Path) -> None:
    with make(clock.now, **how) as world:
        ended = archived(tmp_path, world, clock, page_size=2)
    assert ended.error is None
    check_golden(world, ended)


def tap(name: str, **config: str) -> subprocess.CompletedProcess[bytes]:
    command = [str(BIN / f"tap-{name}"), "--config", json.dumps({"limits_store": "none", **config})]
    return subprocess.run(command, capture_output=True, check=False, env=environment(), timeout=120)


@pytest.mark.parametrize("name", APIS)
def test_a_captured_run_is_repeated_without_the_api_byte_for_byte(name: str, tmp_path: Path) -> None:
    with APIS[name]() as model:
        whole = {**model.settings, "base_url": model.url}
        live = tap(name, **whole, capture=str(tmp_path))
    assert live.returncode == 0, live.stderr.decode()
    again = tap(name, **whole, replay=str(tmp_path))
    assert again.returncode == 0, again.stderr.decode()
    assert again.stdout == live.stdout
    assert b'"RECORD"' in live.stdout
    secrets = [text.encode() for key, text in model.settings.items() if key in ("token", "secret_key", "api_token")]
    kept = [live.stdout, live.stderr, *(path.read_bytes() for path in tmp_path.rglob("*.json*"))]
    assert not [secret for secret in secrets for text in kept if secret in text]


@pytest.mark.case("R003-1")
def test_one_job_archives_three_apis(tmp_path: Path) -> None:
    shutil.copy(PROJECT, tmp_path)
    env: dict[str, str] = {"MELTANO_PROJECT_ROOT": str(tmp_path), "MELTANO_CLI_DISABLE_VERSION_CHECK": "true"}
    with ExitStack() as stack:
        for name, make in APIS.items():
            model = make()
            stack.enter_context(model)
            for setting, text in {**model.settings, "base_url": model.url, "limits_store": "none"}.items():
                env[f"TAP_{name.upper()}_{setting.upper()}"] = text
        ended = subprocess.run(
            [BIN / "meltano", "run", *(plugin for name in APIS for plugin in (f"tap-{name}", "target-archive"))],
            cwd=tmp_path,
            env=environment(**env),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    held = {name: Archive(tmp_path / "archive", f"tap-{name}") for name in APIS}
    assert held["github"].count("issues") == 6
    assert held["stripe"].count("invoice_line_items") == 8
    assert held["zendesk"].count("tickets") == 5
