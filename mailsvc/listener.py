"""Listeners: who may connect, and the protocol that a connection gets.

:class:`Admission` counts over all listeners; :class:`SMTPFactory` is the ESMTP factory of one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from mailsvc.deadline import Deadlines
from mailsvc.events import CommandRefused, Emit
from mailsvc.message import Reply
from mailsvc.penalties import Counters, network
from mailsvc.protocol import SMTPProtocol
from mailsvc.proxied import ProxiedProtocol
from mailsvc.rules import Rules
from mailsvc.units import Networks

TOO_MANY = Reply(421, "Too many connections, try again later", "4.7.0")
TOO_MANY_OF_ONE = Reply(421, "Too many connections from your address, try again later", "4.7.0")
TOO_OFTEN = Reply(421, "You connect too often, try again later", "4.7.0")

#: Seconds of their rate that an address may use at once.
_BURST = 60
#: Addresses whose rates are remembered; the one seen longest ago is forgotten first.
_REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How much all clients, and each address, may take (requirement 42).

    :ivar connections: open ones over all listeners.
    :ivar per_address: open ones of one address.
    :ivar connection_rate: new ones of one address, per second; None: no limit.
    :ivar command_rate: commands of one address, per second; None: no limit.
    """

    connections: int = 10_000
    per_address: int = 50
    connection_rate: float | None = None
    command_rate: float | None = None


class Admission:
    """Counts connections and commands by address; an IPv6 network of /64 counts as one.

    :param exempt: says of an IP address that it is not counted; a Unix socket never is.
    """

    def __init__(
        self,
        limits: AdmissionLimits,
        seconds: Callable[[], float],
        exempt: Callable[[str], bool],
    ) -> None:
        self.open = 0
        self._seconds = seconds
        self._by_address: dict[str, int] = {}
        self.change(limits, exempt)

    def change(self, limits: AdmissionLimits, exempt: Callable[[str], bool]) -> None:
        """Go by other limits; what is open stays open and counted."""
        self.limits = limits
        # The same hosts come again and again.
        self.exempt = lru_cache(maxsize=1024)(exempt)
        self._connected = _rate(limits.connection_rate, self._seconds)
        self._commanded = _rate(limits.command_rate, self._seconds)

    def enter(self, host: str) -> Reply | None:
        """Count a new connection, or return the reply that turns it away."""
        limits = self.limits
        if self.open >= limits.connections:
            return TOO_MANY
        if not self.spares(host):
            address = network(host)
            count = self._by_address.get(address, 0)
            if count >= limits.per_address:
                return TOO_MANY_OF_ONE
            if not _may(self._connected, limits.connection_rate, address):
                return TOO_OFTEN
            self._by_address[address] = count + 1
        self.open += 1
        return None

    def leave(self, host: str) -> None:
        """Count a connection's end."""
        self.open -= 1
        address = network(host)
        count = self._by_address.get(address, 0)
        if count > 1:
            self._by_address[address] = count - 1
        else:
            # None where a reload has exempted the address since, or ceased to.
            self._by_address.pop(address, None)

    def may_command(self, host: str, count: int) -> bool:
        """Count commands; say whether the address may go on."""
        return _counted(self._commanded, self.limits.command_rate, network(host), count)

    def spares(self, host: str) -> bool:
        """Say whether the limits that go by address pass this one over."""
        return not host or self.exempt(host)


def _rate(rate: float | None, seconds: Callable[[], float]) -> Counters | None:
    return None if rate is None else Counters(seconds, 1 / rate, _REMEMBERED)


def _may(counters: Counters | None, rate: float | None, address: str) -> bool:
    """Count one if there is room for it: what is turned away takes none from what comes later."""
    if counters is None or rate is None:
        return True
    if counters.count(address) + 1 > max(rate * _BURST, 1):
        return False
    counters.add(address)
    return True


def _counted(counters: Counters | None, rate: float | None, address: str, count: int) -> bool:
    """Count what was done already; say whether that was not too much."""
    if counters is None or rate is None:
        return True
    counters.add(address, count)
    return counters.count(address) <= max(rate * _BURST, 1)


class _TurnedAway(Protocol):
    """Says why, and closes."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def connectionMade(self) -> None:
        """Answer at once; nothing is read."""
        assert self.transport is not None
        self.transport.write(self._reply.encode())
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nothing was begun."""


class SMTPFactory(Factory):
    """Makes the protocols of one listener.

    :ivar rules: for new connections; those that are open keep theirs.
    :ivar implicit: whether TLS begins before the greeting.
    """

    noisy = False

    def __init__(self, rules: Rules, admission: Admission, emit: Emit, *, implicit: bool) -> None:
        self.rules = rules
        self.admission = admission
        self.implicit = implicit
        self._emit = emit
        self._open: Deadlines[SMTPProtocol] = Deadlines(rules.clock)
        #: One for all connections.
        self._forget = self._gone
        self._waiting: Deadlines[ProxiedProtocol] = Deadlines(rules.clock)
        self._stopped: Deferred[None] | None = None
        self._spared: tuple[Rules, Rules] | None = None

    # Twisted's type of what is returned wants an attribute that this is not asked for.
    def buildProtocol(self, addr: IAddress | None) -> Any:  # noqa: ANN401
        """Return the protocol for a connection from ``addr``."""
        host = _plain(getattr(addr, "host", None) or "")
        rules = self.rules
        if not rules.proxies or not _is_proxy(rules.proxies, host):
            return self._admit(host)
        # Until the client is known the connection is one of all, and counts for nobody.
        refusal = self.admission.enter("")
        if refusal is not None:
            return self._turn_away(host, refusal)

        def gone(waiting: ProxiedProtocol) -> None:
            self.admission.leave("")

        return ProxiedProtocol(
            host,
            rules.clock,
            rules.timers.handshake,
            self._emit,
            build=lambda client: self._admit(host if client is None else _plain(client)),
            deadlines=self._waiting,
            gone=gone,
        )

    def _admit(self, host: str) -> IProtocol | None:
        """Return the protocol for a client, or what turns it away."""
        admission = self.admission
        refusal = admission.enter(host)
        if refusal is not None:
            return self._turn_away(host, refusal)
        rules = self.rules
        if admission.spares(host):
            rules = self._sparing(rules)
        protocol = SMTPProtocol(
            rules,
            host,
            implicit=self.implicit,
            deadlines=self._open,
            gone=self._forget,
        )
        if not self.implicit:
            return protocol
        tls = TLSMemoryBIOFactory(rules.tls, False, _Only(protocol), rules.clock)
        tls.noisy = False
        return tls.buildProtocol(None)

    def _sparing(self, rules: Rules) -> Rules:
        """Return the rules without the limits that go by address."""
        if self._spared is None or self._spared[0] is not rules:
            self._spared = rules, replace(rules, greeting_delay=0, may_command=None)
        return self._spared[1]

    def _turn_away(self, host: str, refusal: Reply) -> Protocol | None:
        self._emit(CommandRefused(host or "local", "connection", "", str(refusal)))
        # Under implicit TLS there is nobody yet who could read a reply.
        return None if self.implicit else _TurnedAway(refusal)

    def stop(self) -> Deferred[None]:
        """End all connections; fires when those with a message under way have ended, too."""
        for waiting in self._waiting:
            waiting.stop()
        for protocol in self._open:
            protocol.stop()
        if not self._open:
            return succeed(None)
        self._stopped = Deferred()
        return self._stopped

    def abort(self) -> None:
        """End what :meth:`stop` still waits for; what was not acknowledged is forgotten."""
        for protocol in self._open:
            protocol.abort()

    def _gone(self, protocol: SMTPProtocol) -> None:
        self.admission.leave(protocol.host)
        if self._stopped is not None and not self._open:
            stopped, self._stopped = self._stopped, None
            stopped.callback(None)


def _plain(host: str) -> str:
    """Return an address as people know it: an IPv4 one not mapped into IPv6, and without a zone.

    It is what the log, the Received field (RFC 5321 section 4.1.3) and the deliverers are told.
    """
    if ":" not in host:
        return host
    address = IPv6Address(host.partition("%")[0])
    return str(address.ipv4_mapped or address)


def _is_proxy(proxies: Networks, host: str) -> bool:
    """Say whether a peer is a proxy; one on a Unix socket is where loopback is one."""
    return any(proxies.cover(each) for each in ((host,) if host else ("127.0.0.1", "::1")))


class _Only(Factory):
    """Gives TLS the one protocol that it is to carry."""

    noisy = False

    def __init__(self, protocol: IProtocol) -> None:
        self._only = protocol

    def buildProtocol(self, addr: IAddress | None) -> Any:  # noqa: ANN401
        """Return it."""
        return self._only
