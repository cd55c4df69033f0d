"""The control socket of a running server: what operators ask with the ``mailsvc`` command."""

from __future__ import annotations

import errno
import os
import secrets
import socket
from contextlib import suppress
from typing import Any, cast

import msgspec
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure

from mailsvc.control import protocol as wire
from mailsvc.control.answers import Answers, Operated
from mailsvc.errors import MailsvcError
from mailsvc.events import Alert, Emit

#: Seconds that a connection may be idle.
_IDLE = 300.0

#: Connections at a time.
_CONNECTIONS = 32


class ControlConnection(Protocol, TimeoutMixin):
    """One operator's command; its requests are answered one after another."""

    def __init__(self, factory: ControlFactory) -> None:
        self._factory = factory
        self.callLater: Any = factory.reactor.callLater
        self._buffer = b""
        self._decoder = msgspec.json.Decoder(wire.Ask)
        self._answering = False
        self._open = True

    def connectionMade(self) -> None:
        """Begin to wait for a request."""
        self._factory.connections.add(self)
        self.setTimeout(_IDLE)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget the connection."""
        self._open = False
        self._factory.connections.discard(self)
        self.setTimeout(None)

    def dataReceived(self, data: bytes) -> None:
        """Take in a part of a request."""
        self.resetTimeout()
        self._buffer += data
        if not self._answering:
            self._go_on()

    def close(self) -> None:
        """End the connection once what was said is on its way."""
        cast(Any, self.transport).loseConnection()

    def _go_on(self) -> None:
        line, newline, rest = self._buffer.partition(b"\n")
        if len(line) > wire.LONGEST_REQUEST:
            self._say(wire.encode_reply(wire.Reply(error="the request is too long")))
            self._buffer = b""
            self.close()
        elif newline:
            self._buffer = rest
            self._answering = True
            # What comes meanwhile stays with the peer.
            cast(Any, self.transport).pauseProducing()
            Deferred.fromCoroutine(self._answer(line))

    async def _answer(self, line: bytes) -> None:
        try:
            result = await self._factory.answers.answer(self._decoder.decode(line))
            reply = wire.encode_reply(wire.Reply(result))
        except msgspec.MsgspecError as error:
            reply = _refusal(f"the request is not understood: {error}")
        except MailsvcError as error:
            reply = _refusal(str(error) or type(error).__name__)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            self._factory.emit(Alert(f"an operator's request failed: {text}"))
            reply = _refusal(text)
        self._answering = False
        if self._open:
            self._say(reply)
            self.resetTimeout()
            cast(Any, self.transport).resumeProducing()
            self._go_on()

    def _say(self, reply: bytes) -> None:
        cast(Any, self.transport).write(reply + b"\n")


def _refusal(text: str) -> bytes:
    return wire.encode_reply(wire.Reply(error=text))


class ControlFactory(Factory):
    """Makes the connections of one control socket."""

    noisy = False

    def __init__(self, answers: Answers, reactor: Any, emit: Emit) -> None:  # noqa: ANN401
        self.answers = answers
        self.reactor = reactor
        self.emit = emit
        self.connections: set[ControlConnection] = set()

    def buildProtocol(self, addr: object) -> ControlConnection | None:
        """Return a connection, or None: there are too many."""
        if len(self.connections) >= _CONNECTIONS:
            return None
        return ControlConnection(self)


class _Door(FileDescriptor):
    """Accepts connections on a socket that listens already.

    Twisted's own port would make the socket writable for everybody.
    """

    def __init__(
        self,
        listening: socket.socket,
        reactor: Any,  # noqa: ANN401
        factory: ControlFactory,
    ) -> None:
        super().__init__(reactor)
        self._reactor = reactor
        self._socket = listening
        self._factory = factory
        self._again: IDelayedCall | None = None

    def open(self) -> None:
        """Begin to accept."""
        self._again = None
        self.startReading()

    def close(self) -> None:
        """Accept nothing more."""
        self.stopReading()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._socket.close()

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def doRead(self) -> None:  # noqa: N802
        """Accept one connection."""
        try:
            connection, _ = self._socket.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                # It would be asked for again and again at once.
                self.stopReading()
                self._again = self._reactor.callLater(1, self.open)
            return
        with connection:
            connection.setblocking(False)
            self._reactor.adoptStreamConnection(connection.fileno(), socket.AF_UNIX, self._factory)


class Control:
    """The control socket: 0600, in the spool directory, one for each process."""

    def __init__(self, server: Operated) -> None:
        self._server = server
        self._factory: ControlFactory | None = None
        self._door: _Door | None = None
        self._path = ""

    async def start(self) -> None:
        """Listen.

        :raises OSError: the socket cannot be made.
        """
        server = self._server
        directory = os.path.abspath(server.composition.settings.spool)
        reactor, emit = server.machine.reactor, server.machine.emit
        _sweep(directory)
        name = f"control-{os.getpid()}-{secrets.token_hex(4)}.sock"
        self._path = os.path.join(directory, name)
        self._factory = ControlFactory(Answers(server), reactor, emit)
        self._door = _Door(_listen(directory, name), reactor, self._factory)
        self._door.open()

    async def stop(self) -> None:
        """End all connections and remove the socket."""
        if self._door is None or self._factory is None:
            return
        self._door.close()
        self._door = None
        for connection in tuple(self._factory.connections):
            connection.close()
        with suppress(OSError):
            os.unlink(self._path)


def _listen(directory: str, name: str) -> socket.socket:
    """Return a listening socket that appears under its name complete: listening, and 0600."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    temporary = f".{name}"
    try:
        listening.setblocking(False)
        with wire.address_of(directory, temporary) as address:
            listening.bind(address)
            os.chmod(address, 0o600)
        listening.listen(16)
        os.rename(os.path.join(directory, temporary), os.path.join(directory, name))
    except BaseException:
        listening.close()
        with suppress(OSError):
            os.unlink(os.path.join(directory, temporary))
        raise
    return listening


def _sweep(directory: str) -> None:
    """Remove the sockets of servers that were killed."""
    for name in wire.socket_names(directory):
        path = os.path.join(directory, name)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            try:
                with wire.address_of(directory, name) as address:
                    probe.connect(address)
            except ConnectionRefusedError:
                with suppress(OSError):
                    os.unlink(path)
            except OSError:
                pass
