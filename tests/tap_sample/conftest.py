"""The sample API running, and a client for it that keeps its connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from tests.tap_sample.client import Get

from tap_sample.server import TOKEN, SampleServer


@pytest.fixture(scope="module")
def server() -> Iterator[SampleServer]:
    with SampleServer() as running:
        yield running


@pytest.fixture
def get() -> Iterator[Get]:
    """`get(server, path, params, token=…, **headers)` on one kept connection."""
    with requests.Session() as session:
        session.trust_env = False

        def call(
            to: SampleServer, path: str, token: str = TOKEN, headers: Any = None, **params: Any
        ) -> requests.Response:
            signed = {"Authorization": f"Bearer {token}", **(headers or {})}
            return session.get(f"{to.base_url}{path}", params=params, headers=signed, timeout=10)

        yield call
