"""An HTTP server of the standard library that takes webhooks, for the tests to look at."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.system.harness import DEADLINE, Timeout


@dataclass(frozen=True)
class Request:
    """One request as it came: header names in lower case, the body's exact octets."""

    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Takes POSTs on a loopback port of the system's choice and keeps them.

    :param identity: a PEM file with key and certificate, for HTTPS.
    :ivar answer: given a request, says the status; it may be replaced at any time.
    :ivar words: the body of each answer, plain text.
    :ivar location: where each answer says to go instead; empty: nowhere.
    """

    def __init__(
        self,
        answer: Callable[[Request], int] = lambda request: 204,
        words: str = "",
        identity: Path | None = None,
    ) -> None:
        self.answer = answer
        self.words = words
        self.location = ""
        self._requests: list[Request] = []
        self._open = 0
        self._news = threading.Condition()
        receiver = self

        class Inbound(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                receiver._count(1)

            def finish(self) -> None:
                receiver._count(-1)
                super().finish()

            def do_POST(self) -> None:
                request = Request(
                    self.path,
                    {name.lower(): value for name, value in self.headers.items()},
                    self._body(),
                )
                status = receiver.answer(request)
                # Kept before it is answered: who was answered finds it here.
                receiver._keep(request)
                words = receiver.words.encode()
                self.send_response(status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                if words:
                    self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.send_header("Content-Length", str(len(words)))
                self.end_headers()
                self.wfile.write(words)

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", "0")))
                chunks = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(chunks)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Inbound)
        self._server.daemon_threads = True
        self._scheme = "http"
        if identity is not None:
            self._scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(identity)
            # The handshake is made by the connection's own thread, at its first read.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        """Return where to post to."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}/inbound"

    def _keep(self, request: Request) -> None:
        with self._news:
            self._requests.append(request)
            self._news.notify_all()

    def _count(self, change: int) -> None:
        with self._news:
            self._open += change
            self._news.notify_all()

    @property
    def open(self) -> int:
        """Return how many connections there are."""
        with self._news:
            return self._open

    def wait_for_open(self, count: int) -> None:
        """Return once there are ``count`` connections.

        :raises Timeout: there are not, by the deadline.
        """
        with self._news:
            if not self._news.wait_for(lambda: self._open == count, DEADLINE):
                raise Timeout(f"{self._open} connections are open, not {count}")

    @property
    def requests(self) -> list[Request]:
        """Return what has come so far."""
        with self._news:
            return list(self._requests)

    def wait(self, count: int) -> list[Request]:
        """Return the requests once there are ``count`` of them.

        :raises Timeout: there are not, by the deadline.
        """
        with self._news:
            if not self._news.wait_for(lambda: len(self._requests) >= count, DEADLINE):
                raise Timeout(f"{len(self._requests)} requests came, not {count}")
            return list(self._requests)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
