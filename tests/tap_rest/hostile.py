"""A TCP server that answers with exactly the bytes it is told to, so that every fault of the wire can be played."""

from __future__ import annotations

import contextlib
import gzip
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

CERTIFICATE = Path(__file__).with_name("localhost.pem")
"""Self-signed for localhost, until 2126; its key is as public as this file."""

Answer = Callable[[str], Iterable[bytes]]
"""From the text of a request (head and body) to the pieces that are sent back."""


class Hostile:
    """Serves one answer per request; the connection is closed after it unless `keep_alive`.

    Attributes:
        url: `http://127.0.0.1:PORT`, or `https://localhost:PORT` with `tls`.
        seen: The text of every request, in order.
    """

    def __init__(self, answer: Answer, *, keep_alive: bool = False, tls: bool = False) -> None:
        self._answer, self._keep_alive = answer, keep_alive
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
        if self._tls is not None:
            self._tls.load_cert_chain(CERTIFICATE)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"https://localhost:{self.port}" if tls else f"http://127.0.0.1:{self.port}"
        self.seen: list[str] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), plain:
            sock = plain if self._tls is None else self._tls.wrap_socket(plain, server_side=True)
            with sock:
                for request in _requests(sock):
                    self.seen.append(request)
                    for piece in self._answer(request):
                        sock.sendall(piece)
                    if not self._keep_alive:
                        sock.shutdown(socket.SHUT_RDWR)
                        return


def _requests(sock: socket.socket) -> Iterator[str]:
    data = b""
    while True:
        while b"\r\n\r\n" not in data and not data.startswith(b"\x16"):  # 0x16 opens a TLS handshake
            piece = sock.recv(65536)
            if not piece:
                return
            data += piece
        head, _, data = data.partition(b"\r\n\r\n")
        lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        size = int(lengths[0]) if lengths else 0
        while len(data) < size:
            data += sock.recv(65536)
        yield (head + b"\r\n\r\n" + data[:size]).decode("latin-1")
        data = data[size:]


def response(body: bytes, *, status: str = "200 OK", headers: Iterable[str] = (), length: int | None = None) -> bytes:
    """A response with a Content-Length, the true one unless `length` says otherwise."""
    size = len(body) if length is None else length
    head = [
        f"HTTP/1.1 {status}",
        "Content-Type: application/json",
        f"Content-Length: {size}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def framed(body: bytes, framing: str, encoding: str = "identity", *, cut: int | None = None) -> bytes:
    """A response in one of the framings `length`, `chunked`, `close`, what follows its head cut to `cut`."""
    head = ["HTTP/1.1 200 OK", "Content-Type: application/json", "Connection: close"]
    if encoding == "gzip":
        body = gzip.compress(body, mtime=0)
        head.append("Content-Encoding: gzip")
    if framing == "length":
        head.append(f"Content-Length: {len(body)}")
    if framing == "chunked":
        head.append("Transfer-Encoding: chunked")
        middle = len(body) // 2
        chunks = (body[:middle], body[middle:])
        body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body[:cut]


ENCODINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": lambda body: gzip.compress(body, mtime=0),
    "deflate": zlib.compress,
}


def head(*lines: str, status: str = "200 OK", encoding: str = "identity") -> bytes:
    """The head of an answer whose body has no announced end, unless `lines` announce one."""
    coded = [] if encoding == "identity" else [f"Content-Encoding: {encoding}"]
    return "\r\n".join([f"HTTP/1.1 {status}", "Connection: close", *coded, *lines, "", ""]).encode()


def chunked(pieces: Sequence[bytes], *, width: int = 0) -> bytes:
    """Pieces of a chunked body without its last chunk, their sizes padded with zeroes to `width` digits."""
    return b"".join(b"%b\r\n%b\r\n" % (f"{len(piece):0{width}x}".encode(), piece) for piece in pieces)


def payload(answer: bytes) -> bytes:
    """What follows the head of an answer."""
    return answer.partition(b"\r\n\r\n")[2]
