"""Binds endpoints at once, lets them accept later, and makes room for their connections."""

from __future__ import annotations

import resource
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.python.failure import Failure

from mailsvc.errors import ConfigError
from mailsvc.vetting import endpoint_parts

#: Connections that the kernel keeps until they are accepted: beyond it a client's first packet is
#: lost, and it comes again a second later.  Twisted's own number is 50.
_BACKLOG = 1024
#: Files that are open besides connections: the spool, deliveries, webhooks.
_OTHER_FILES = 1000


def bind(reactor: Any, endpoint: str, factory: IProtocolFactory) -> IListeningPort:  # noqa: ANN401
    """Return a port that is bound and does not accept yet.

    :raises ConfigError: the address cannot be had.
    """
    results: list[Any] = []
    try:
        # Every endpoint that a configuration can name listens at once.
        server = serverFromString(reactor, _with_backlog(endpoint))
        server.listen(factory).addBoth(results.append)
    except Exception as error:
        results.append(error)
    port: Any = results[0] if results else None
    if isinstance(port, (Failure, Exception)):
        cause = port.value if isinstance(port, Failure) else port
        raise ConfigError(f"cannot listen on {endpoint}: {_cause(cause)}")
    port.stopReading()
    bound: IListeningPort = port
    return bound


def _with_backlog(endpoint: str) -> str:
    words, keys = endpoint_parts(endpoint)
    if words[0] not in ("tcp", "tcp6", "unix") or "backlog" in keys:
        return endpoint
    return f"{endpoint}:backlog={_BACKLOG}"


def make_room(connections: int) -> str:
    """Raise the limit of open files, which most shells set to 1024, for so many connections.

    :return: what is wrong, if it may not be raised so far; or nothing.
    """
    wanted = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return ""
    most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most == wanted:
        return ""
    return f"only {most} files may be open at a time; {wanted} are needed (LimitNOFILE, ulimit -n)"


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
