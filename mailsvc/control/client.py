"""Asks a running server, over its control socket; blocking, and without Twisted."""

from __future__ import annotations

import socket
from typing import Any, TypeVar

import msgspec

from mailsvc.control.protocol import Reply, Request, address_of, socket_names
from mailsvc.errors import MailsvcError

T = TypeVar("T")

#: Seconds that a server may take for one request.
_TIMEOUT = 120.0


class ControlError(MailsvcError):
    """The server refused a request, or went away."""


class ControlClient:
    """A connection to a running server; a context manager."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._replies = connection.makefile("rb")

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._replies.close()
        self._connection.close()

    def ask(self, request: Request, result: Any) -> Any:  # noqa: ANN401
        """Send a request; return its result, checked against the type ``result``.

        :raises ControlError: the server refused, went away or said what cannot be understood.
        """
        try:
            self._connection.sendall(msgspec.json.encode(request) + b"\n")
            line = self._replies.readline()
        except OSError as error:
            raise ControlError(f"the server does not answer: {error}") from None
        if not line.endswith(b"\n"):
            raise ControlError("the server went away before it answered")
        try:
            reply = msgspec.json.decode(line, type=Reply[result])
        except msgspec.MsgspecError as error:
            raise ControlError(f"the server's answer is not understood: {error}") from None
        if reply.error:
            raise ControlError(reply.error)
        return reply.result


def connect(directory: str) -> list[ControlClient]:
    """Return a connection to each server that has the spool open; the caller closes them.

    :raises ControlError: there is a server, and this user may not speak to it.
    """
    clients = []
    for name in socket_names(directory):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(_TIMEOUT)
        try:
            with address_of(directory, name) as address:
                connection.connect(address)
        except PermissionError:
            connection.close()
            raise ControlError(
                f"{directory}/{name}: permission denied; run this as the server's user"
            ) from None
        except OSError:
            # Left behind by a server that was killed.
            connection.close()
        else:
            clients.append(ControlClient(connection))
    return clients
