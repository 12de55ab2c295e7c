"""The request as a value: what a paginator makes, a checkpoint stores and the transport sends."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Self
from urllib.parse import quote, urlsplit

import msgspec

Pairs = tuple[tuple[str, str], ...]


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """One HTTP request, immutable, without credentials: those are added by auth just before sending.

    Attributes:
        url: Absolute URL. A query that a server gave us in a link stays in it, byte for byte.
        params: Query parameters in order, repeats allowed, not yet percent-encoded.
        headers: Names as declared; compared case-insensitively.
        body: What is sent, already serialised; empty for none.
    """

    url: str
    method: str = "GET"
    params: Pairs = ()
    headers: Pairs = ()
    body: str = ""

    @property
    def full_url(self) -> str:
        """The URL with its parameters; a space is `%20`, brackets and `$,:@/` stay readable."""
        query = "&".join(f"{quote(key, safe=_SAFE)}={quote(value, safe=_SAFE)}" for key, value in self.params)
        if not query:
            return self.url
        return f"{self.url}{'&' if '?' in self.url else '?'}{query}"

    @property
    def origin(self) -> tuple[str, str, int]:
        return origin(self.url)

    def param(self, name: str) -> str | None:
        return next((value for key, value in self.params if key == name), None)

    def with_params(self, /, **values: str | int | None) -> Self:
        """The same request with these parameters set in place, added at the end, or (None) removed."""
        return msgspec.structs.replace(self, params=_updated(self.params, values, fold=False))

    def with_headers(self, values: Mapping[str, str | None]) -> Self:
        return msgspec.structs.replace(self, headers=_updated(self.headers, values, fold=True))

    def fingerprint(self) -> str:
        """Equal for two requests that ask the same: method, URL, parameters (in any order) and body."""
        parts = (self.method, self.url, *(f"{k}={v}" for k, v in sorted(self.params)), self.body)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


class Private(Request, frozen=True, omit_defaults=True):
    """A request that holds credentials and whose answer does: nothing of either may be kept or shown."""


DEFAULT_PORTS = {"http": 80, "https": 443}
_SAFE = "[]$,:@/!*()'"


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port, the unit that a credential is bound to. Raises ValueError for a URL without them."""
    parts = urlsplit(url)
    default = DEFAULT_PORTS.get(parts.scheme)
    if default is None or not parts.hostname:
        raise ValueError(f"not an http(s) URL: {url!r}")
    return parts.scheme, parts.hostname, parts.port or default


def _updated(pairs: Pairs, values: Mapping[str, str | int | None], *, fold: bool) -> Pairs:
    key_of = str.lower if fold else str
    wanted = {key_of(name): (name, value) for name, value in values.items()}
    out: list[tuple[str, str]] = []
    for name, old in pairs:
        if key_of(name) not in wanted:
            out.append((name, old))
        elif (found := wanted[key_of(name)])[1] is not None:
            out.append((found[0], str(found[1])))
            wanted[key_of(name)] = (found[0], None)
    out.extend((name, str(value)) for name, value in wanted.values() if value is not None)
    return tuple(out)
