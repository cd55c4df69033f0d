"""Asks an application at RCPT time whether a recipient exists: a route's ``check_url``.

The answer means what a webhook's means (:func:`mailsvc.deliverers.webhook.answers.standard`): the
recipient is taken, or is refused for good, or cannot be judged now.  A question is signed as a
webhook is, with the keys of the destinations that the route delivers to.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import classImplements

from mailsvc.deliverers.webhook.answers import Answer, standard
from mailsvc.deliverers.webhook.client import Client
from mailsvc.deliverers.webhook.egress import Guard, GuardedEndpoints
from mailsvc.deliverers.webhook.payload import Reactor
from mailsvc.deliverers.webhook.signing import Key, signature_headers
from mailsvc.deliverers.webhook.target import target, tls_creator
from mailsvc.deliverers.webhook.transport import Transport
from mailsvc.deliverers.webhook.upload import CONNECT_SECONDS, Body, InThread
from mailsvc.errors import PermanentFailure, Refused
from mailsvc.interfaces import IClosing, IRouter, ISender
from mailsvc.message import Address, Reply, Route
from mailsvc.routing import Router, is_postmaster
from mailsvc.spool.ids import new_message_id

#: Seconds for which it is remembered that a recipient exists, and that it does not: a mailbox that
#: is made now gets its mail soon.
KNOWN, UNKNOWN = 300.0, 60.0
#: Recipients that are remembered for one URL; the one asked longest ago is forgotten first.
REMEMBERED = 10_000
#: Requests to one URL at the same time, and recipients that wait for one; more are not checked.
AT_ONCE, WAITING = 20, 200
#: Seconds from a question to its answer, the wait for its turn included: a client at RCPT does not
#: wait for ever (RFC 5321 section 4.5.3.2.3 asks it to wait five minutes).
LIMIT = 30.0

NOT_CHECKED = Reply(451, "Cannot check this recipient now, try again later", "4.3.0")
_UNWORDED = "There is no such mailbox here"

_HEADERS = (("Content-Type", "application/json"), ("User-Agent", "mailsvc"))

#: Sends one request and returns its answer, as :meth:`Transport.post` does.
Post = Callable[[Sequence[tuple[str, str]], Body], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of a recipient.

    :ivar refusal: the reply to RCPT; None: it exists.
    :ivar cause: why it could not be judged, for the log; empty if it was.
    :ivar until: how long that holds, in seconds of the reactor's clock.
    """

    refusal: Reply | None
    cause: str
    until: float


class RecipientCheck:
    """What one application says of recipients.

    One recipient is asked for once at a time, whoever waits for it.

    :param post: asks the application.
    :param clock: its seconds are those of the epoch.
    :param in_thread: runs a blocking function in a thread.
    :param keys: sign each question; without any it is not signed.
    :param client: what ``post`` stands on; closed by :meth:`close`.
    """

    def __init__(
        self,
        post: Post,
        clock: IReactorTime,
        in_thread: InThread,
        keys: Sequence[Key] = (),
        client: Client | None = None,
    ) -> None:
        self._post = post
        self._clock = clock
        self._in_thread = in_thread
        self._keys = keys
        self._client = client
        self._turns = DeferredSemaphore(AT_ONCE)
        self._known: OrderedDict[tuple[str, str], Finding] = OrderedDict()
        self._asked: dict[tuple[str, str], list[Deferred[Finding]]] = {}

    @classmethod
    def of(
        cls,
        url: str,
        guard: Guard,
        ca_file: str,
        keys: Sequence[Key],
        reactor: Reactor,
        in_thread: InThread,
    ) -> RecipientCheck:
        """Return the check that asks ``url``.  Blocking: it reads ``ca_file``.

        :raises mailsvc.errors.ConfigError: it is no URL that can be asked.
        """
        where = target(url)
        tls = tls_creator(where.host, ca_file) if where.secure else None
        endpoints = GuardedEndpoints(reactor, guard, tls, CONNECT_SECONDS)
        client = Client(reactor, endpoints, where.url)
        return cls(Transport(reactor, client).post, reactor, in_thread, keys, client)

    async def check(self, address: Address, route: Route) -> None:
        """Return if the recipient exists.

        :raises mailsvc.errors.Refused: it does not (550 5.1.1), or nobody can tell now (451).
        """
        key = (address.local.casefold(), address.domain.casefold())
        finding = self._known.get(key)
        if finding is None or finding.until <= self._clock.seconds():
            finding = await self._find(key, address, route)
        if finding.refusal is not None:
            raise Refused(finding.refusal, finding.cause)

    async def close(self) -> None:
        """Close the connections that are kept for later; see :class:`IClosing`."""
        if self._client is not None:
            await self._client.close()

    async def _find(self, key: tuple[str, str], address: Address, route: Route) -> Finding:
        told: Deferred[Finding] = Deferred()
        waiting = self._asked.get(key)
        if waiting is not None:
            waiting.append(told)
        elif len(self._asked) >= WAITING:
            return Finding(NOT_CHECKED, f"check_url: {WAITING} recipients wait already", 0.0)
        else:
            self._asked[key] = [told]
            # Whoever asked may go: the others who wait, and the memory, want the answer still.
            finding = self._turns.run(Deferred.fromCoroutine, self._ask(address, route))
            finding.addTimeout(LIMIT, self._clock)
            finding.addErrback(_unknown).addCallback(self._found, key)
        return await told

    def _found(self, finding: Finding, key: tuple[str, str]) -> None:
        """Remember what was found, and tell those who wait."""
        self._known.pop(key, None)
        if finding.until > self._clock.seconds():
            self._known[key] = finding
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        for each in self._asked.pop(key):
            each.callback(finding)

    async def _ask(self, address: Address, route: Route) -> Finding:
        """Ask the application.

        :raises Exception: whatever went wrong: nobody can tell.
        """
        question = {
            "type": "recipient.check",
            "recipient": str(address),
            "route": route.name,
            "tag": route.tag,
        }
        body = msgspec.json.encode(question)
        now = self._clock.seconds()
        signature = signature_headers(self._keys, new_message_id(now), int(now), body)
        answer = await self._post((*_HEADERS, *signature), Body(body, self._in_thread))
        now = self._clock.seconds()
        try:
            standard(answer, now)
        except PermanentFailure as failure:
            refusal = Reply(550, failure.reply or _UNWORDED, "5.1.1")
            return Finding(refusal, "", now + UNKNOWN)
        return Finding(None, "", now + KNOWN)


classImplements(RecipientCheck, IClosing)


def _unknown(failure: Failure) -> Finding:
    """Return what a question without an answer comes to."""
    late = failure.check(TookTooLong)
    cause = f"no answer within {LIMIT:.0f} s" if late else str(failure.value)
    return Finding(NOT_CHECKED, f"check_url: {cause}", 0.0)


class CheckedRouter:
    """A router whose answers are good only if the application knows the recipient.

    :param checks: by URL.
    """

    def __init__(self, router: Router, checks: Mapping[str, RecipientCheck]) -> None:
        self._router = router
        self._checks = checks

    def route(self, address: Address, sender: ISender) -> Route | Awaitable[Route]:
        """Return the first route that matches.  See :class:`~mailsvc.interfaces.IRouter`."""
        route = self._router.route(address, sender)
        return self._checked(address, route) if route.check_url else route

    async def _checked(self, address: Address, route: Route) -> Route:
        # RFC 5321 section 4.5.1: postmaster's mail is taken whatever an application says.
        if not is_postmaster(address):
            await self._checks[route.check_url].check(address, route)
        # It goes into the envelope, which operators see; the URL may hold a token.
        return replace(route, check_url="")


classImplements(CheckedRouter, IRouter)
