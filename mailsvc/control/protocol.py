"""What commands and a running server say to each other over the control socket.

Each line is a JSON object: a request, named by its ``ask``, and then its reply.  Who may open the
socket (its owner only) may ask everything.  Several processes can share a spool, so each has a
socket of its own there: ``control-PID-RANDOM.sock``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from mailsvc.spool.view import QueueSummary, State

T = TypeVar("T")

#: Octets of the longest request.
LONGEST_REQUEST = 1 << 20

#: Deliveries that one request names or one reply lists, at most.
PAGE = 1000

#: What a Unix socket's address can hold, with its final zero (``sun_path``, the smallest known).
_LONGEST_PATH = 104


class Request(Struct, frozen=True, tag_field="ask", forbid_unknown_fields=True):
    """The base of all requests."""


class AskSummary(Request, frozen=True, tag="summary"):
    """How much there is; a :class:`QueueReport`."""


class AskEntries(Request, frozen=True, tag="entries"):
    """A page of deliveries, oldest first; a tuple of :class:`~mailsvc.spool.view.QueueEntry`.

    :ivar after: the id of the last delivery of the page before.
    """

    destination: str | None = None
    state: State | None = None
    limit: int = 100
    after: str | None = None


class AskMessage(Request, frozen=True, tag="show"):
    """One message by its id or that of a delivery; a MessageDetail or None."""

    id: str


class Retry(Request, frozen=True, tag="retry"):
    """Make deliveries due now; how many there were."""

    ids: tuple[str, ...]
    fresh_id: bool = False


class Hasten(Request, frozen=True, tag="hasten"):
    """Take up destinations at full pace: a person thinks them well; None."""

    destinations: tuple[str, ...]


class Drop(Request, frozen=True, tag="drop"):
    """Remove deliveries for good; how many there were."""

    ids: tuple[str, ...]


class Pause(Request, frozen=True, tag="pause"):
    """Keep a destination's queue, but attempt nothing; None."""

    destination: str
    reason: str


class Resume(Request, frozen=True, tag="resume"):
    """End a pause; whether there was one."""

    destination: str


class Explain(Request, frozen=True, tag="route"):
    """What would happen to mail for an address; a :class:`RouteReport`."""

    address: str


class AskListeners(Request, frozen=True, tag="listeners"):
    """Where the server listens; a tuple of :class:`ListenerReport`."""


class Reload(Request, frozen=True, tag="reload"):
    """Read the configuration again; the problems that kept the old one in force."""


Ask = (
    AskSummary
    | AskEntries
    | AskMessage
    | Retry
    | Hasten
    | Drop
    | Pause
    | Resume
    | Explain
    | AskListeners
    | Reload
)


class Reply(Struct, Generic[T], omit_defaults=True):
    """The reply to a request: its result, or what went wrong, for people."""

    result: T | None = None
    error: str = ""


def encode_reply(reply: Reply[object]) -> bytes:
    """Return a reply as JSON.

    :raises TypeError: its result holds what JSON cannot carry.
    """
    return msgspec.json.encode(reply, enc_hook=_plain)


def _plain(value: object) -> object:
    # Sizes and times of the configuration are numbers with a class of their own.
    for plain in (int, float, str):
        if isinstance(value, plain):
            return plain(value)
    raise TypeError(f"{type(value).__name__} is no value for a reply")


class DestinationReport(Struct, frozen=True):
    """How a configured destination's queue is worked on at this moment.

    :ivar running: attempts under way.
    :ivar failures: failures in a row.
    :ivar open_until: when the circuit breaker lets the next attempt through, or None.
    :ivar held_until: until when the destination asked to be left alone, or None.
    """

    running: int
    failures: int
    open_until: float | None
    held_until: float | None


class QueueReport(Struct, frozen=True):
    """The queue.

    :ivar destinations: those that are configured, by name; None if no server runs.
    """

    summary: QueueSummary
    destinations: dict[str, DestinationReport] | None = None


class RouteReport(Struct, frozen=True):
    """What would happen to mail for an address.

    :ivar accepted: whether it is accepted from anyone, authenticated or not.
    :ivar lines: for people.
    """

    accepted: bool
    lines: tuple[str, ...]
    destinations: tuple[str, ...] = ()


class ListenerReport(Struct, frozen=True):
    """A listener.

    :ivar where: ``HOST:PORT``, or the path of a Unix socket.
    :ivar role: ``mx``, ``submission`` or ``lmtp``.
    :ivar tls: ``none``, ``starttls`` or ``implicit``.
    :ivar proxy: the connections of some peers have to begin with a PROXY header.
    """

    where: str
    role: str
    tls: str
    proxy: bool


def socket_names(directory: str) -> list[str]:
    """Return the names of the control sockets in a spool, those of servers long dead included."""
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return sorted(name for name in names if is_socket_name(name))


def is_socket_name(name: str) -> bool:
    """Say whether a file in the spool is a control socket."""
    return name.startswith("control-") and name.endswith(".sock")


@contextmanager
def address_of(directory: str, name: str) -> Iterator[str]:
    """Give an address for a socket in a directory, however long its path is.

    :raises OSError: the directory cannot be opened.
    """
    path = os.path.join(directory, name)
    if len(os.fsencode(path)) < _LONGEST_PATH:
        yield path
        return
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{name}"
    finally:
        os.close(handle)
