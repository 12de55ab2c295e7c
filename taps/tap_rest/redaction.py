"""Redaction: what must never be read by a person or reach a file, masked by value and by name."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus

MASK = "***"

_ESCAPE = re.compile("%..")
_SHORTEST = 4  # a shorter "secret" would mask ordinary text all over the place
_NAMES = (
    r"(?:proxy-)?authorization|(?:set-)?cookie|x-[a-z-]*(?:token|key|secret|signature|credential)"
    r"|(?:(?:access|refresh|id|auth|session|client|user|api|private|personal|bearer|signing|webhook|shared|hub|new|old)[_-])*"
    r"(?:api[_-]?key|apikey|token|secret|password|passwd|pwd|signature|sig|credentials?|jwt)"
    r"|(?:access|refresh|id|session)token|clientsecret|code_verifier"
)
_NAME = re.compile(rf"(?:{_NAMES})$", re.IGNORECASE)
_NAMED = re.compile(
    rf"""
      (?P<json>"(?:{_NAMES})"\s*:\s*) (?:"(?:[^"\\]|\\.)*"|[^\s,}}\]]+)
    | (?P<query>[?&;](?:{_NAMES})=) [^&\s"'<>#]*
    | (?P<header>(?<![\w-])(?:(?:proxy-)?authorization|(?:set-)?cookie|x-[a-z-]*(?:token|key|secret))\s*[:=]\s*)
    [^\r\n]* | (?P<scheme>(?<!\w)(?:bearer|basic)\s+) [\w.~+/=-]{{8,}}
    | (?P<user>://[^/\s:@]*:) [^/\s@]+(?=@)
    """,
    re.IGNORECASE | re.VERBOSE,
)


class Redactor:
    """Masks secrets in text: given values in every encoding they travel in, and what stands under a secret's name."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known: set[str] = set()
        self._values: re.Pattern[str] | None = None
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Masks these too from now on."""
        self._known |= {form for secret in secrets if len(secret) >= _SHORTEST for form in _forms(secret)}
        longest_first = sorted(self._known, key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def values(self, text: str) -> str:
        """The text with secret values masked and nothing else, whatever it is called."""
        return text if self._values is None else self._values.sub(MASK, text)

    def text(self, text: str) -> str:
        """The text with secret values, and the values of secret-named headers, parameters and JSON members, masked."""
        return _NAMED.sub(lambda match: f"{match[match.lastgroup or 0]}{MASK}", self.values(text))

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """A copy with the values of secret-named headers masked, and secret values masked in all others."""
        return {name: MASK if _NAME.match(name) else self.text(value) for name, value in headers.items()}


def is_secret_name(name: str) -> bool:
    """Whether what stands under a name is a secret by that name alone."""
    return _NAME.match(name) is not None


def _forms(secret: str) -> Iterator[str]:
    yield secret
    for escaped in {quote(secret, safe=""), quote(secret), quote_plus(secret)}:
        yield escaped
        yield quote(escaped, safe="")  # a link in a parameter of a link
        yield _ESCAPE.sub(lambda escape: escape[0].lower(), escaped)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    raw = secret.encode()
    yield raw.hex()
    yield raw.hex().upper()
    # Base64 of a longer text depends on where the secret begins, modulo 3 bytes. Only the characters that are made
    # of the secret's bits alone are compared.
    for lead in range(3):
        encoded = base64.b64encode(b"\0" * lead + raw)
        whole = encoded[-(-lead * 8 // 6) : (lead + len(raw)) * 8 // 6].decode()
        if len(whole) >= _SHORTEST:
            yield whole
            yield quote(whole, safe="")
            yield whole.replace("+", "-").replace("/", "_")
