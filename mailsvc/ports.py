"""Binds endpoints at once, and lets them accept later."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.python.failure import Failure

from mailsvc.errors import ConfigError


def bind(reactor: Any, endpoint: str, factory: IProtocolFactory) -> IListeningPort:  # noqa: ANN401
    """Return a port that is bound and does not accept yet.

    :raises ConfigError: the address cannot be had.
    """
    results: list[Any] = []
    try:
        # Every endpoint that a configuration can name listens at once.
        serverFromString(reactor, endpoint).listen(factory).addBoth(results.append)
    except Exception as error:
        results.append(error)
    port: Any = results[0] if results else None
    if isinstance(port, (Failure, Exception)):
        cause = port.value if isinstance(port, Failure) else port
        raise ConfigError(f"cannot listen on {endpoint}: {_cause(cause)}")
    port.stopReading()
    bound: IListeningPort = port
    return bound


def accept(port: IListeningPort) -> None:
    """Begin to take connections."""
    reading: Any = port
    reading.startReading()


def closed(port: IListeningPort) -> Deferred[Any]:
    """Take no more connections; fire when the address is free."""
    stopping = port.stopListening()
    return succeed(None) if stopping is None else stopping


def _cause(error: object) -> str:
    inner = error.socketError if isinstance(error, CannotListenError) else error
    if isinstance(inner, LookupError):
        # Twisted looks the sockets of systemd up by name or index.
        return "systemd passed no such socket"
    return inner.strerror if isinstance(inner, OSError) and inner.strerror else str(inner)
