"""Below HTTP: a socket with one deadline for a whole exchange; urllib3 makes its connections of it through `POOLS`."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import socket
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class InsideAddress(OSError):
    """A redirect from a public server led to an address that is not public."""


@dataclass
class Exchange:
    """What the socket of the exchange in this thread has to know, and what it saw.

    Attributes:
        deadline: Monotonic seconds.
        target: Path and query to ask for, as they are written; empty for what urllib3 makes of them.
        surplus: Bytes came after the announced end of the body.
        public_only: Connect to public addresses only.
        peer_is_public: The last connection made leads to a public address.
    """

    deadline: float
    target: str = ""
    surplus: bool = False
    public_only: bool = False
    peer_is_public: bool = False


current: ContextVar[Exchange] = ContextVar("current")


class _Socket:
    """A connected socket whose reads end at the deadline of the exchange, in headers and chunk sizes as well."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._idle = sock.gettimeout()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, seconds: float | None) -> None:
        self._idle = seconds
        self._sock.settimeout(seconds)

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        self._sock._io_refs += 1  # type: ignore[attr-defined]  # noqa: SLF001 - as socket.makefile does
        return _Reader(socket.SocketIO(self, "r"), 64 * 1024)  # type: ignore[arg-type]

    def recv_into(self, buffer: Any) -> int:
        deadline = current.get().deadline
        left = max(0.001, deadline - time.monotonic())
        self._sock.settimeout(left if self._idle is None else min(left, self._idle))
        try:
            return self._sock.recv_into(buffer)
        except TimeoutError:
            raise TimeoutError("total" if time.monotonic() >= deadline else "idle") from None


class _Reader(io.BufferedReader):
    """The answer's bytes; http.client closes it at the end of a framed body, so what is left then was not announced."""

    _head = b""

    def readline(self, size: int | None = -1) -> bytes:
        """A whole line: http.client takes the end of the connection for the end of the headers or of a chunk's size."""
        line = super().readline(size)
        ended = self._head in (b"\r\n", b"\n")
        if not line.endswith(b"\n") and (line or (self._head and not ended)):
            raise ConnectionResetError
        self._head = self._head if ended else line
        return line

    def close(self) -> None:
        if not self.closed and (exchange := current.get(None)):
            exchange.surplus = False
            self.raw._sock.settimeout(0)  # type: ignore[attr-defined]  # noqa: SLF001 - SocketIO has no other way
            with contextlib.suppress(OSError):  # nothing is there, or a reader that timed out does not even look
                exchange.surplus = bool(self.peek(1))
        super().close()


def _wrapped(connection: Any) -> None:
    exchange, peer = current.get(), connection.sock.getpeername()[0]
    exchange.peer_is_public = ipaddress.ip_address(peer.split("%")[0]).is_global
    if exchange.public_only and not exchange.peer_is_public and not connection.proxy:
        connection.close()
        raise InsideAddress
    connection.sock = _Socket(connection.sock)


class _Connection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _wrapped(self)

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        target = "" if self.proxy else current.get().target
        super().putrequest(method, target or url, *args, **kwargs)


class _TLSConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


POOLS = {"http": _Pool, "https": _TLSPool}
