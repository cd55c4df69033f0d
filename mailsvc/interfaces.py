"""Every public interface, with its contract in prose.

An interface exists where two implementations exist; the contract suites in :mod:`mailsvc.testing`
check the promises below on each of them, and are there for plugin authors too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, BinaryIO, ParamSpec, TypeVar

from msgspec import Struct
from zope.interface import Attribute, Interface

from mailsvc.events import Emit
from mailsvc.message import Address, Delivery, Envelope, Outcome, Route
from mailsvc.parsed import ParsedMail

P = ParamSpec("P")
T = TypeVar("T")


class ISender(Interface):
    """Who is speaking: the cred avatar of a connection, made by the realm, anonymous or not.

    It lives until the connection ends or STARTTLS resets the identity; then it is logged out.
    """

    identity: str | None = Attribute("The user's name, or None for the anonymous sender.")

    def may_send_as(address: Address | None) -> bool:
        """Say whether this sender may use ``address`` (None: the null one) as reverse-path."""


class IRouter(Interface):
    """Recipient to destinations: one answer, for RCPT time and for delivery."""

    def route(address: Address, sender: ISender) -> Route | Awaitable[Route]:
        """Return the first route that matches ``address``, or what to await where it takes a while.

        :raises mailsvc.errors.Refused: with the reply for RCPT: no such mailbox (550 5.1.1), not
            our domain (550 5.7.1), authentication needed (530 5.7.0).
        """


class IIncoming(Interface):
    """A message on its way into the spool: one of ``commit``, ``store`` and ``abort`` ends it."""

    def write(data: bytes | memoryview, dots: int | None = None) -> Awaitable[None] | None:
        """Append octets of content as they came from the wire.

        :param dots: how many dots dot-stuffing has added to ``data``, those included whose line
            began with the octets before; None: not counted, so this counts them.
        :return: None, or an awaitable when the caller is to read no more from its peer until it
            fires.  ``data`` may be kept until the message ends and must not change.
        """

    def commit() -> Awaitable[str]:
        """Put content, envelope and routing on stable storage; return the message id then.

        :raises mailsvc.errors.SpoolFull: no room; nothing was kept.
        :raises mailsvc.errors.SpoolError: not stored; nothing was kept, nothing will be delivered.
        """

    def store(told: Callable[[Exception | None], None]) -> None:
        """Do what ``commit`` does, and call ``told`` then with what went wrong, or None.

        For the path of a message, of which a Deferred and its callbacks would be 4 %.

        :param told: may be called before this returns; it must not raise.
        """

    def abort() -> None:
        """Forget the message, at any time; after ``commit`` has returned this changes nothing."""


class IContent(Interface):
    """The content of a spooled message: trace fields, header and body, dots unstuffed."""

    size: int = Attribute("Octets that a reader returns in all.")

    def open() -> BinaryIO:
        """Return a fresh reader from the first octet; the caller closes it.

        Blocking (disk): call it, and read from it, in a thread.

        :raises mailsvc.errors.SpoolError: the content is damaged; it has been quarantined.
        """


class Claim(Struct, frozen=True):
    """The right to attempt one delivery until ``expires_at``.

    :ivar token: the fencing token; a stale one changes nothing.
    :ivar expires_at: seconds since the epoch.
    """

    delivery: Delivery
    token: int
    expires_at: float

    @property
    def key(self) -> tuple[str, int]:
        """Return what no other claim of a spool has."""
        return self.delivery.id, self.token


class ISpool(Interface):
    """Durable storage of messages and of the deliveries that they owe.

    Everything that awaits is done off the reactor thread.  An unreadable entry is set aside where
    an operator sees it, never dropped.
    """

    def begin(envelope: Envelope, stuffed: bool) -> IIncoming:
        """Start to take in a message.

        :param stuffed: whether the content's lines are dot-stuffed as DATA sends them (RFC 5321
            section 4.5.2); the terminating dot is never written.
        A recipient that the envelope names twice counts once.

        :raises mailsvc.errors.SpoolFull: no room, or a destination of the envelope holds more than
            its share.
        :raises mailsvc.errors.SpoolError: the envelope names no destination.
        """

    def claim(destination: str, limit: int, lease: float) -> Awaitable[Sequence[Claim]]:
        """Take at most ``limit`` due deliveries of ``destination`` for ``lease`` seconds.

        New mail comes first, but old mail is not starved.  A paused destination has none due.
        No two live claims ever name the same delivery.  While any is due, at least one is returned.
        """

    def next_due(destination: str) -> Awaitable[float | None]:
        """Return when the next delivery of ``destination`` is due, or None if none waits."""

    def extend(claim: Claim, seconds: float) -> Awaitable[Claim]:
        """Return the claim with a lease of ``seconds`` from now.

        :raises mailsvc.errors.LeaseLost: the claim is stale; nothing was changed.
        """

    def record(claim: Claim, outcome: Outcome) -> Awaitable[None]:
        """Store what became of the attempt, durably, and end the claim.

        :raises mailsvc.errors.LeaseLost: the claim is stale; nothing was changed.
        """

    def finish(claims: Sequence[Claim]) -> Awaitable[Sequence[Claim]]:
        """Store, durably, that these deliveries are done, and end the claims.

        As ``record`` with ``Done`` for each, at a fraction of the cost.

        :return: the claims that are stale; of their deliveries nothing was changed.
        """

    def open(message_id: str) -> Awaitable[IContent]:
        """Return the content of a message that still has deliveries.

        :raises mailsvc.errors.SpoolError: there is none such.
        """

    def at_hand(message_id: str) -> IContent | None:
        """Return what ``open`` would, if that is known without waiting; else None."""

    def pause(destination: str, reason: str) -> Awaitable[None]:
        """Keep the queue of ``destination`` but claim nothing from it; survives restarts."""

    def resume(destination: str) -> Awaitable[bool]:
        """End a pause; say whether there was one.  What waited is due at once."""

    def quarantine(message_id: str, reason: str) -> Awaitable[None]:
        """Set a message aside that cannot be read: its deliveries become dead letters."""


class IDeliverer(Interface):
    """Hands messages to one destination."""

    def deliver(delivery: Delivery, content: IContent) -> Awaitable[None]:
        """Hand over one delivery; returning means that the destination answers for it now.

        At least once: after a crash or a lost answer the same ``delivery.id`` comes again, so the
        destination can tell a repeat.  Several calls may be under way at the same time.  Cancelling
        the awaitable ends the attempt.

        :raises mailsvc.errors.TransientFailure: try again; also what any other exception means.
        :raises mailsvc.errors.PermanentFailure: a dead letter.
        :raises mailsvc.errors.DestinationPaused: nothing more until a person resumes it.
        """


class IGroupDeliverer(IDeliverer):
    """A deliverer to which several deliveries at once cost little more than one."""

    group: int = Attribute("The concurrency of a destination whose configuration names none.")

    def deliver_group(
        deliveries: Sequence[tuple[Delivery, IContent]],
    ) -> Awaitable[Sequence[Exception | None]]:
        """Hand over several deliveries; in place of a ``deliver`` for each.

        The attempts of a group may end before it does: nobody listens to what it says of those.

        :return: for each, in order, None or what ``deliver`` would have raised.
        """


class IClosing(Interface):
    """What keeps something open; a deliverer may provide it beside :class:`IDeliverer`."""

    def close() -> Awaitable[None]:
        """Give up what is kept for later, such as connections.

        Called once, when a reload has put another in its place.  Attempts that are under way
        go on.
        """


class IDelivererContext(Interface):
    """What mailsvc lends to a deliverer: given to ``IDelivererFactory.make``."""

    name: str = Attribute("The destination's name in the configuration.")
    hostname: str = Attribute("The name that this service goes by.")
    directory: str = Attribute("The spool directory, where a destination may keep a secret.")
    reactor: Any = Attribute("The reactor, for timers and connections.")
    emit: Emit = Attribute("Logs an event.")
    links: Any = Attribute(
        "Makes links to attachments, a mailsvc.links.Links; None if none are served."
    )

    def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Run a blocking function in the delivery thread pool."""

    def parse(content: IContent) -> Awaitable[ParsedMail]:
        """Return the parsed mail; bounded in time and memory, never fails for what a mail holds."""

    def parsed(content: IContent, function: Callable[[ParsedMail], T]) -> Awaitable[T]:
        """Return what ``function`` makes of the parsed mail, called in a thread: one hop for both.

        The mail counts as memory for as long as it is kept.
        """


class IDelivererFactory(Interface):
    """A kind of destination; a plugin object provides this and ``twisted.plugin.IPlugin``.

    A plugin module is imported by every twistd command: it imports neither the reactor nor its
    implementation, which loads in ``make``.
    """

    kind: str = Attribute('The word in the configuration: ``kind = "…"``.')
    options: type = Attribute("A msgspec.Struct type: the keys of the destination's section.")

    def make(options: Any, context: IDelivererContext) -> IDeliverer:
        """Return a deliverer for one section of the configuration.

        :raises mailsvc.errors.ConfigError: the options cannot work (its text is shown with the
            section's name, file and line).
        """
