"""Auth: how a request is signed just before it is sent. Options are the fields, behaviour is `flow` (see flow.py).

The kinds here are static, their flows yield once; those that fetch a token have a file of their own. What they sign
never reaches a checkpoint, a log or the STATE. The union at the end is the list of all kinds.
"""

from __future__ import annotations

import base64

from tap_rest.auth.flow import AuthKind, Placed
from tap_rest.auth.oauth import OAuth2Auth
from tap_rest.auth.session import SessionAuth
from tap_rest.auth.signing import HmacAuth
from tap_rest.request import Request


class NoAuth(AuthKind, tag="none", frozen=True, kw_only=True):
    """No credentials."""


class ApiKeyAuth(Placed, tag="api_key", frozen=True, kw_only=True):
    """A secret under a name.

    Attributes:
        key: The secret, `"{settings.api_key}"`.
        name: Header, query parameter or cookie that takes it.
        prefix: Text before the secret, with its space: `"Token "`.
    """

    key: str

    def signed(self, request: Request) -> Request:
        return self.placed(request, self.key)

    def secrets(self) -> tuple[str, ...]:
        return (self.key,)


class BasicAuth(AuthKind, tag="basic", frozen=True, kw_only=True):
    """User name and password.

    Attributes:
        username: The user name; some APIs want a key here and no password.
        password: The password.
    """

    username: str
    password: str = ""

    def signed(self, request: Request) -> Request:
        return request.with_headers({"Authorization": f"Basic {self._encoded()}"})

    def secrets(self) -> tuple[str, ...]:
        return (self.password, self._encoded())

    def _encoded(self) -> str:
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class BearerAuth(AuthKind, tag="bearer", frozen=True, kw_only=True):
    """A token in the `Authorization` header.

    Attributes:
        token: The token, `"{settings.token}"`.
    """

    token: str

    def signed(self, request: Request) -> Request:
        return request.with_headers({"Authorization": f"Bearer {self.token}"})

    def secrets(self) -> tuple[str, ...]:
        return (self.token,)


Auth = NoAuth | ApiKeyAuth | BasicAuth | BearerAuth | OAuth2Auth | SessionAuth | HmacAuth
