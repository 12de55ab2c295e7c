"""Signed claims (JWT, RFC 7519): sent as a bearer token as they stand, or traded for a token at a token server."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tap_rest.auth.flow import AuthKind, CredentialsUnusable, Flow, Secret, Token, Tokens, from_extra
from tap_rest.request import Request

SKEW = 30
"""Seconds that a server's clock may be behind ours."""


class Assertion(AuthKind, frozen=True, kw_only=True):
    """Claims signed with a key; needs `pip install 'daykeep[jwt]'`.

    Attributes:
        key: The private key in PEM, with its line breaks or with escaped ones; for HS256 the shared secret.
        claims: Who says it, and to whom: `iss`, `sub`, `aud`, `scope` … `iat` and `exp` are added.
        algorithm: How it is signed.
        key_id: Which of its keys, for the header `kid`; empty for none.
        lifetime: Seconds that the claims hold.
    """

    key: Secret
    claims: dict[str, str | int | float | bool | list[str]]
    algorithm: Literal["RS256", "ES256", "HS256"] = "RS256"
    key_id: str = ""
    lifetime: Annotated[int, msgspec.Meta(ge=60, le=86400)] = 180

    def __post_init__(self) -> None:
        if own := {"iat", "exp"} & self.claims.keys():
            raise ValueError(f"{' and '.join(sorted(own))} are made from lifetime")

    def token(self, now: float, **defaults: str) -> str:
        """The token as of now, with further claims where there are none of their names. Raises CredentialsUnusable."""
        issued = int(now) - SKEW
        claims = {**defaults, **self.claims, "iat": issued, "exp": issued + self.lifetime}
        headers = {"kid": self.key_id} if self.key_id else None
        if self.algorithm != "HS256":
            from_extra("cryptography", "jwt")
        library = from_extra("jwt", "jwt")
        try:
            return str(library.encode(claims, self._key(), self.algorithm, headers))
        except Exception:  # noqa: BLE001 - a library's words on a bad key may hold a part of it
            wanted = "a shared secret" if self.algorithm == "HS256" else "a private key in PEM, unencrypted,"
            hint = f"{wanted} that fits {self.algorithm} is wanted"
            raise CredentialsUnusable("the key of the JWT can't be used", hint=hint) from None

    def secrets(self) -> tuple[str, ...]:
        """The key, and its lines one by one."""
        return (*super().secrets(), *(line for line in self._key().splitlines() if not line.startswith("-----")))

    def _key(self) -> str:
        return self.key.replace("\\n", "\n") if self.key.startswith("-----BEGIN") else self.key


class JwtAuth(Assertion, tag="jwt", frozen=True, kw_only=True):
    """Claims signed with a key, as bearer token; needs `pip install 'daykeep[jwt]'`."""

    def flow(self, request: Request, tokens: Tokens) -> Flow:
        with tokens.renewing():
            if not tokens.current().is_good(now := tokens.now()):
                tokens.keep(Token(self.token(now), due=now + (self.lifetime - SKEW) / 2))
        yield request.with_headers({"Authorization": f"Bearer {tokens.current().access}"})
