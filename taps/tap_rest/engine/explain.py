"""What a stream asks for, in words that a person can try: its declaration with the defaults merged in, and a curl line.

Stands beside the engine and sends nothing; credentials are masked, by value and by name.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from tap_rest.auth.auth import Auth
from tap_rest.auth.flow import Fetched
from tap_rest.language.declaration import Bound, Declaration
from tap_rest.redaction import MASK, Redactor
from tap_rest.request import Request


def masked(declaration: Declaration, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without their secrets: what is bound with them holds none."""
    hidden = (name for name, one in declaration.settings.items() if one.sensitive and one.kind == "string")
    return {**settings, **dict.fromkeys(hidden, MASK)}


def explained(declaration: Declaration, bound: Bound, stream: str, request: Request) -> str:
    """A stream's declaration as YAML, as it stands after merging, and its first request as a curl command."""
    redactor = Redactor(bound.secrets)
    whole = msgspec.to_builtins(
        {
            "base_url": bound.base_url,
            "auth": declaration.auth,
            "limits": declaration.limits,
            "streams": {stream: declaration.streams[stream]},
        }
    )
    lines = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=100).splitlines()
    return "\n".join([*map(redactor.text, lines), "", curl(request, bound.auth, redactor), ""])


def curl(request: Request, auth: Auth, redactor: Redactor) -> str:
    """A request as a command line for a shell, signed as the engine would, its credentials masked."""
    signed = auth.placed(request, MASK) if isinstance(auth, Fetched) else auth.signed(request)
    headers = redactor.headers({"Accept": "application/json", **dict(signed.headers)})
    words = ["curl", "--compressed"]
    if signed.method != "GET":
        words += ["-X", signed.method]
    for name, value in headers.items():
        words += ["-H", f"{name}: {value}"]
    if signed.body:
        words += ["--data-raw", redactor.text(signed.body)]
    return shlex.join([*words, redactor.text(signed.full_url)])
