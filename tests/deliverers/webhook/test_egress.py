"""Requirement 48: which addresses a webhook may go to."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import URI
from zope.interface import implementer

from mailsvc.deliverers.webhook.egress import (
    EgressRefused,
    Guard,
    GuardedEndpoints,
    GuardedReactor,
)
from mailsvc.units import parse_network

PUBLIC = (
    "8.8.8.8",
    "1.1.1.1",
    "192.31.196.1",
    "2606:4700::1111",
    "2a00:1450:4001::1",
    "2001:4860::8",
)

#: An address of each kind that is refused, and the word that says why.
REFUSED = {
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "::1": "loopback",
    "10.1.2.3": "private",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.168.1.1": "private",
    "fc00::1": "private",
    "fdff::1": "private",
    "100.64.0.1": "CGNAT",
    "100.127.255.255": "CGNAT",
    "169.254.1.1": "link-local",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "169.254.169.254": "metadata",
    "100.100.100.200": "metadata",
    "168.63.129.16": "metadata",
    "192.0.0.192": "metadata",
    "fd00:ec2::254": "metadata",
    "0.0.0.0": "unspecified",
    "0.1.2.3": "unspecified",
    "::": "unspecified",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "ff02::1": "multicast",
    "192.0.2.1": "documentation",
    "198.51.100.1": "documentation",
    "203.0.113.1": "documentation",
    "2001:db8::1": "documentation",
    "3fff::1": "documentation",
    "198.18.0.1": "benchmarks",
    "::ffff:8.8.8.8": "IPv4 address in IPv6 form",
    "::ffff:127.0.0.1": "IPv4 address in IPv6 form",
    "::127.0.0.1": "IPv4 address in IPv6 form",
    "::ffff:0:7f00:1": "IPv4 address in IPv6 form",
    "64:ff9b::7f00:1": "NAT64",
    "64:ff9b::808:808": "NAT64",
    "64:ff9b:1::1": "NAT64",
    "2002:7f00:1::": "6to4",
    "192.88.99.1": "6to4",
    "2001::1": "Teredo",
    "192.0.0.1": "reserved",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "2001:10::1": "reserved",
    "2001:20::1": "reserved",
    "100::1": "reserved",
    "5f00::1": "reserved",
    "fec0::1": "reserved",
    "4000::1": "reserved",
    "1234::1": "reserved",
}


def allowing(*texts: str, private: bool = False) -> Guard:
    return Guard(private, tuple(parse_network(text) for text in texts))


class GuardTests(SynchronousTestCase):
    def test_public_addresses_pass(self) -> None:
        for address in PUBLIC:
            self.assertEqual(Guard().refusal(address), "", address)

    def test_all_others_are_refused(self) -> None:
        for address, word in REFUSED.items():
            self.assertIn(word, Guard().refusal(address), address)

    def test_what_is_no_address_is_refused(self) -> None:
        for text in ("", "localhost", "2130706433", "0x7f.1", "127.1", "1.2.3.4.5", "::g"):
            self.assertIn("is no address", Guard().refusal(text))

    def test_allow_private(self) -> None:
        guard = Guard(allow_private=True)
        opened = {"loopback", "private", "CGNAT"}
        for address, word in REFUSED.items():
            self.assertEqual(guard.refusal(address) == "", word in opened, address)

    def test_allow_networks(self) -> None:
        guard = allowing("10.1.0.0/16", "fd12::/16", "127.0.0.1")
        for address in ("10.1.2.3", "fd12::1", "127.0.0.1"):
            self.assertEqual(guard.refusal(address), "")
        for address in ("10.2.0.1", "fd13::1", "127.0.0.2", "192.168.1.1"):
            self.assertNotEqual(guard.refusal(address), "")

    def test_a_wide_network_does_not_open_what_is_special_in_it(self) -> None:
        guard = allowing("0.0.0.0/0", "::/0", private=True)
        for address, word in REFUSED.items():
            self.assertEqual(
                guard.refusal(address) == "", word in {"loopback", "private", "CGNAT"}, address
            )

    def test_special_addresses_that_are_named_are_meant(self) -> None:
        for network, address in (
            ("169.254.169.254", "169.254.169.254"),
            ("169.254.7.0/24", "169.254.7.7"),
            ("fe80::/10", "fe80::1"),
            ("198.18.0.0/15", "198.18.0.1"),
        ):
            self.assertEqual(allowing(network).refusal(address), "")

    def test_a_network_does_not_open_one_service_in_it(self) -> None:
        self.assertIn("metadata", allowing("169.254.0.0/16").refusal("169.254.169.254"))
        self.assertIn("metadata", allowing("100.64.0.0/10").refusal("100.100.100.200"))

    def test_an_inner_address_is_checked_too(self) -> None:
        guard = allowing(
            "64:ff9b::/96", "::ffff:0:0/96", "2002::/16", "2001::/32", "64:ff9b:1::/48"
        )
        for address in (
            "64:ff9b::808:808",
            "::ffff:8.8.8.8",
            "2002:808:808::1",
            "64:ff9b:1::808:808",
        ):
            self.assertEqual(guard.refusal(address), "", address)
        for address in (
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "::ffff:10.0.0.1",
            "2002:a00:1::1",
            "64:ff9b:1::a00:1",
            "2001:0:0:0:0:0:80ff:fffe",
        ):
            self.assertIn("leads to", guard.refusal(address), address)
        both = allowing("64:ff9b::/96", private=True)
        self.assertEqual(both.refusal("64:ff9b::a00:1"), "")

    @given(st.ip_addresses())
    def test_nothing_passes_that_python_knows_to_be_special(
        self, address: ipaddress.IPv4Address | ipaddress.IPv6Address
    ) -> None:
        if not address.is_global or address.is_multicast:
            # The registries name a few exceptions within 192.0.0.0/24 and 2001::/23.
            self.assertNotEqual(Guard().refusal(str(address)), "")


@implementer(IHostResolution)
class Resolution:
    """A resolution that is over before it could be cancelled."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        raise NotImplementedError


@implementer(IHostnameResolver)
class Resolver:
    """Resolves every name to the same addresses."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses
        self.asked: list[str] = []
        #: What is to be called for each answer; None: it comes at once.
        self.later: list[Callable[[], None]] | None = None

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,  # noqa: N803
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: object = None,  # noqa: N803
        transportSemantics: str = "TCP",  # noqa: N803
    ) -> IHostResolution:
        self.asked.append(hostName)
        resolution = Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)

        def answer() -> None:
            for address in self._addresses:
                kind = IPv6Address if ":" in address else IPv4Address
                resolutionReceiver.addressResolved(kind("TCP", address, portNumber))
            resolutionReceiver.resolutionComplete()

        if self.later is None:
            answer()
        else:
            self.later.append(answer)
        return resolution


class DialTests(SynchronousTestCase):
    """What is checked is what is dialled."""

    def connect(
        self, url: bytes, *addresses: str, guard: Guard | None = None
    ) -> MemoryReactorClock:
        reactor = MemoryReactorClock()
        self.resolver = Resolver(*addresses)
        reactor.installNameResolver(self.resolver)
        endpoints = GuardedEndpoints(reactor, guard or Guard(), None, 10)
        self.connecting = endpoints.endpointForURI(URI.fromBytes(url)).connect(
            Factory.forProtocol(Protocol)
        )
        reactor.pump([0.3] * 10)
        return reactor

    def dialled(self, reactor: MemoryReactorClock) -> list[tuple[str, int]]:
        return [(host, port) for host, port, *_ in reactor.tcpClients]

    def test_a_public_name(self) -> None:
        reactor = self.connect(b"http://app.example.com:8080/x", "8.8.8.8")
        self.assertEqual(self.dialled(reactor), [("8.8.8.8", 8080)])
        self.assertEqual(self.resolver.asked, ["app.example.com"])

    def test_a_name_that_points_inside(self) -> None:
        reactor = self.connect(b"http://evil.example.com/", "10.0.0.1")
        self.assertEqual(self.dialled(reactor), [])
        error = self.failureResultOf(self.connecting, EgressRefused).value
        self.assertEqual(str(error), "10.0.0.1 is private")

    def test_a_name_with_both(self) -> None:
        reactor = self.connect(b"http://evil.example.com/", "127.0.0.1", "8.8.8.8", "::1")
        self.assertEqual(self.dialled(reactor), [("8.8.8.8", 80)])

    def test_a_name_that_changes_its_mind(self) -> None:
        """Requirement 48: DNS rebinding gains nothing, since nobody asks twice."""

        class Rebinding(Resolver):
            def resolveHostName(self, *arguments: Any, **keys: Any) -> IHostResolution:  # noqa: ANN401
                self._addresses = ("127.0.0.1",) if self.asked else ("8.8.8.8",)
                return super().resolveHostName(*arguments, **keys)

        self.patch(sys.modules[__name__], "Resolver", Rebinding)
        reactor = self.connect(b"http://evil.example.com/")
        self.assertEqual(self.dialled(reactor), [("8.8.8.8", 80)])
        self.assertEqual(self.resolver.asked, ["evil.example.com"])
        # The next delivery is checked like the first.
        again = GuardedEndpoints(reactor, Guard(), None, 10)
        uri = URI.fromBytes(b"http://evil.example.com/")
        connecting = again.endpointForURI(uri).connect(Factory.forProtocol(Protocol))
        reactor.pump([0.3] * 10)
        self.failureResultOf(connecting, EgressRefused)
        self.assertEqual(len(self.dialled(reactor)), 1)

    def test_literals(self) -> None:
        for url, address in (
            (b"http://[2606:4700::1111]:81/", "2606:4700::1111"),
            (b"http://8.8.8.8:81/", "8.8.8.8"),
        ):
            reactor = self.connect(url, address)
            self.assertEqual(self.dialled(reactor), [(address, 81)])
        reactor = self.connect(b"http://[::1]/", "::1")
        self.assertEqual(self.dialled(reactor), [])
        self.failureResultOf(self.connecting, EgressRefused)

    def test_an_allowed_network(self) -> None:
        reactor = self.connect(b"http://app.internal/", "10.0.0.1", guard=allowing("10.0.0.0/8"))
        self.assertEqual(self.dialled(reactor), [("10.0.0.1", 80)])

    def test_one_lookup_at_a_time(self) -> None:
        """A destination whose name does not resolve takes one thread from the others."""
        reactor = MemoryReactorClock()
        resolver = Resolver("8.8.8.8")
        resolver.later = []
        reactor.installNameResolver(resolver)
        endpoints = GuardedEndpoints(reactor, Guard(), None, 10)
        uri = URI.fromBytes(b"http://app.example.com/")
        attempts = [
            endpoints.endpointForURI(uri).connect(Factory.forProtocol(Protocol)) for _ in range(9)
        ]
        # Those who gave up hold nothing, and begin nothing anew.
        attempts[0].cancel()
        attempts[5].cancel()
        for each in (attempts[0], attempts[5]):
            self.failureResultOf(each)
        again = endpoints.endpointForURI(uri).connect(Factory.forProtocol(Protocol))
        self.assertEqual(resolver.asked, ["app.example.com"])
        resolver.later.pop()()
        reactor.pump([0.3] * 2)
        self.assertEqual(self.dialled(reactor), [("8.8.8.8", 80)] * 8)
        self.assertNoResult(again)
        # What is known was true for that moment; and a lookup that never ends is not the last.
        endpoints.endpointForURI(uri).connect(Factory.forProtocol(Protocol))
        self.assertEqual(len(resolver.asked), 2)
        reactor.advance(61)
        endpoints.endpointForURI(uri).connect(Factory.forProtocol(Protocol))
        self.assertEqual(len(resolver.asked), 3)

    def test_the_guarded_reactor_lends_the_reactor_s_resolver(self) -> None:
        reactor = MemoryReactorClock()
        guarded = GuardedReactor(reactor, Guard())
        resolver = Resolver()
        guarded.installNameResolver(resolver)
        guarded.nameResolver.resolveHostName(mock.Mock(), "a.example")
        self.assertEqual(resolver.asked, ["a.example"])
        self.assertIsInstance(HostnameEndpoint(guarded, "a.example", 1), HostnameEndpoint)
