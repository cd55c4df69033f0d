"""The egress guard: which addresses a webhook may be sent to, checked where the dial is made.

A name is resolved once, and what is checked is what :class:`GuardedReactor` hands to the socket;
a name that resolves to something else a moment later (DNS rebinding) gains nothing, and neither
does a literal in decimal, octal or mapped form: by the time it is checked it is an address.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IHostnameResolver,
    IHostResolution,
    IOpenSSLClientConnectionCreator,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from mailsvc.deliverers.webhook.payload import Reactor

Network = IPv4Network | IPv6Network

#: Seconds after which a lookup is not waited for any more: the next attempt begins another.
_LOOKUP_SECONDS = 60.0


class EgressRefused(Exception):
    """The destination's address is not one that webhooks may go to."""


@dataclass(frozen=True, slots=True)
class _Block:
    """Addresses that are not the public Internet.

    :ivar private: whether ``allow_private`` opens the block.
    """

    network: Network
    what: str
    private: bool = False


def _blocks(what: str, *networks: str, private: bool = False) -> tuple[_Block, ...]:
    return tuple(_Block(ip_network(network), what, private) for network in networks)


#: The first entry that holds an address names it.  Beside the registries of RFC 6890 and its
#: successors it names the cloud providers' metadata services, some of which have addresses that
#: look private or public.
_BLOCKS: tuple[_Block, ...] = (
    *_blocks(
        "a metadata service",
        "169.254.169.254/32",
        "169.254.170.2/32",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.192/32",
        "fd00:ec2::/32",
        "fd20:ce::/32",
    ),
    *_blocks("loopback", "127.0.0.0/8", "::1/128", private=True),
    *_blocks("private", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", private=True),
    *_blocks("shared by a carrier (CGNAT)", "100.64.0.0/10", private=True),
    *_blocks("link-local", "169.254.0.0/16", "fe80::/10"),
    *_blocks("unspecified", "0.0.0.0/8", "::/128"),
    *_blocks("multicast", "224.0.0.0/4", "ff00::/8"),
    *_blocks(
        "for documentation",
        "192.0.2.0/24",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "2001:db8::/32",
        "3fff::/20",
    ),
    *_blocks("for benchmarks", "198.18.0.0/15"),
    *_blocks("an IPv4 address in IPv6 form", "::ffff:0:0/96", "::/96", "::ffff:0:0:0/96"),
    *_blocks("behind NAT64", "64:ff9b::/96", "64:ff9b:1::/48"),
    *_blocks("behind 6to4", "2002::/16", "192.88.99.0/24"),
    *_blocks("behind Teredo", "2001::/32"),
    *_blocks("reserved", "192.0.0.0/24", "240.0.0.0/4", "2001::/23"),
    # What is left of IPv6 but the global unicast space, 2000::/3.
    *_blocks("reserved", "::/3", "4000::/2", "8000::/1"),
)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that a packet to ``address`` is translated or tunnelled to."""
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    for block in ("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"):
        if address in ip_network(block):
            # In 64:ff9b:1::/48 the operator chose the prefix's length (RFC 8215); /96 is the usual.
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


@dataclass(frozen=True, slots=True)
class Guard:
    """What one destination allows beyond the public Internet.

    :ivar allow_private: loopback, private and carrier-shared addresses; never link-local ones,
        metadata services or what else is not public.
    :ivar allow_networks: networks that are allowed.  One that is larger than a block of special
        addresses does not open that block, but for those that ``allow_private`` opens too.
    """

    allow_private: bool = False
    allow_networks: tuple[Network, ...] = ()

    def refusal(self, address: str) -> str:
        """Return why nothing is sent to ``address``, or nothing if it may be dialled."""
        try:
            return self._refusal(ip_address(address))
        except ValueError:
            return f"{address!r} is no address"

    def _refusal(self, address: IPv4Address | IPv6Address) -> str:
        block = next((each for each in _BLOCKS if address in each.network), None)
        if block is None or (block.private and self.allow_private):
            return ""
        if not any(
            address in network and _opens(network, block) for network in self.allow_networks
        ):
            return f"{address} is {block.what}"
        inner = _embedded(address) if isinstance(address, IPv6Address) else None
        if inner is not None and (why := self._refusal(inner)):
            return f"{address} leads to {why}"
        return ""


def _opens(network: Network, block: _Block) -> bool:
    """Say whether naming ``network`` means the addresses of ``block``."""
    return block.private or (
        network.version == block.network.version and network.prefixlen >= block.network.prefixlen
    )


@implementer(IResolutionReceiver)
class _Lookup:
    """A lookup that is under way, for all who wait for it.

    :ivar since: when it began.
    """

    def __init__(self, since: float) -> None:
        self.since = since
        self._addresses: list[IAddress] = []
        self._waiting: list[IResolutionReceiver] = []
        self._resolution: Any = None
        self.complete = False

    def tell(self, receiver: IResolutionReceiver) -> IHostResolution:
        """Tell somebody what is found; return the lookup as the resolver calls it."""
        self._waiting.append(receiver)
        resolution: IHostResolution = self._resolution
        return resolution

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:  # noqa: N803
        """Note the lookup."""
        self._resolution = resolutionInProgress

    def addressResolved(self, address: IAddress) -> None:
        """Note one of the addresses."""
        self._addresses.append(address)

    def resolutionComplete(self) -> None:
        """Tell all who wait."""
        self.complete = True
        waiting, self._waiting = self._waiting, []
        for receiver in waiting:
            receiver.resolutionBegan(self._resolution)
            for address in self._addresses:
                receiver.addressResolved(address)
            receiver.resolutionComplete()


@implementer(IHostnameResolver)
class _OneLookup:
    """Looks the name of one destination up once at a time, whoever waits for it.

    All destinations share a few threads for this.  One whose name server does not answer holds one
    of them, and not as many as it has attempts, those included that gave up long ago.
    """

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._lookups: dict[tuple[object, ...], _Lookup] = {}

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,  # noqa: N803
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: Sequence[type[IAddress]] | None = None,  # noqa: N803
        transportSemantics: str = "TCP",  # noqa: N803
    ) -> IHostResolution:
        """Look a name up; see :class:`twisted.internet.interfaces.IHostnameResolver`."""
        asked = (hostName, portNumber, addressTypes, transportSemantics)
        now = self._reactor.seconds()
        lookup = self._lookups.get(asked)
        if lookup is None or lookup.complete or now >= lookup.since + _LOOKUP_SECONDS:
            lookup = self._lookups[asked] = _Lookup(now)
            lookup.tell(resolutionReceiver)
            resolution: IHostResolution = self._reactor.nameResolver.resolveHostName(lookup, *asked)
            return resolution
        return lookup.tell(resolutionReceiver)


@implementer(IReactorPluggableNameResolver)
class GuardedReactor:
    """What an endpoint needs of the reactor; it dials only what the guard lets pass."""

    def __init__(self, reactor: Reactor, guard: Guard) -> None:
        self._reactor = reactor
        self._guard = guard
        self._resolver = _OneLookup(reactor)
        self.callLater: Callable[..., Any] = reactor.callLater
        self.seconds: Callable[[], float] = reactor.seconds

    @property
    def nameResolver(self) -> IHostnameResolver:
        """Return the reactor's resolver, asked once at a time."""
        return self._resolver

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """Replace the reactor's resolver, as the interface asks."""
        previous: IHostnameResolver = self._reactor.installNameResolver(resolver)
        return previous

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: IProtocolFactory,
        timeout: float = 30,
        bindAddress: tuple[str, int] | None = None,
    ) -> IConnector:
        """Dial an address.

        :raises EgressRefused: it is not one that webhooks may go to.
        """
        refusal = self._guard.refusal(host)
        if refusal:
            raise EgressRefused(refusal)
        connector: IConnector = self._reactor.connectTCP(host, port, factory, timeout, bindAddress)
        return connector


@implementer(IAgentEndpointFactory)
class GuardedEndpoints:
    """Makes the endpoints of an Agent: TCP by way of the guard, with TLS for ``https``.

    :param tls: makes the TLS side of a connection to the URL's host; None for plain ``http``.
    :param timeout: seconds for each address that is tried.
    """

    def __init__(
        self,
        reactor: Reactor,
        guard: Guard,
        tls: IOpenSSLClientConnectionCreator | None,
        timeout: float,
    ) -> None:
        self._reactor = GuardedReactor(reactor, guard)
        self._tls = tls
        self._timeout = timeout

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Return the endpoint for ``uri``, whose host may be a literal."""
        endpoint: IStreamClientEndpoint = HostnameEndpoint(
            self._reactor, uri.host, uri.port, timeout=self._timeout
        )
        return endpoint if self._tls is None else wrapClientTLS(self._tls, endpoint)
