"""Endpoints as they are bound, and the files that connections take."""

from __future__ import annotations

import resource
from unittest import mock

from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from mailsvc import ports


class Reactor(MemoryReactor):
    """Says with which backlog it was asked to listen."""

    def backlogs(self) -> list[int]:
        return [each[2] for each in (*self.tcpServers, *self.unixServers)]


class BacklogTests(SynchronousTestCase):
    """Requirement 42: a burst of connections is not lost before it is counted."""

    def test_backlog(self) -> None:
        for endpoint, backlog in (
            ("tcp:25", 1024),
            ("tcp:25:interface=127.0.0.1", 1024),
            (r"tcp6:25:interface=\:\:1", 1024),
            ("tcp:port=25", 1024),
            ("tcp:25:backlog=7", 7),
            ("unix:/run/x:mode=660", 1024),
            ("unix:/run/x:backlog=7", 7),
        ):
            reactor = Reactor()
            bind(reactor, endpoint)
            self.assertEqual(reactor.backlogs(), [backlog], endpoint)


def bind(reactor: Reactor, endpoint: str) -> None:
    """Bind on a reactor without sockets, whose ports have nothing to stop."""
    with mock.patch("twisted.internet.testing._FakePort.stopReading", create=True):
        ports.bind(reactor, endpoint, Factory())


class RoomTests(SynchronousTestCase):
    """Requirement 42: as many connections as are allowed can be had, or somebody is told."""

    def room(self, soft: int, hard: int) -> tuple[str, list[tuple[int, int]]]:
        """Ask for room for 5,000 connections; return what is said, and what was set."""
        was_set: list[tuple[int, int]] = []
        with (
            mock.patch.object(resource, "getrlimit", lambda which: (soft, hard)),
            mock.patch.object(resource, "setrlimit", lambda which, limits: was_set.append(limits)),
        ):
            return ports.make_room(5000), was_set

    def test_raised(self) -> None:
        for hard in (6000, 1_048_576, resource.RLIM_INFINITY):
            self.assertEqual(self.room(1024, hard), ("", [(6000, hard)]))

    def test_enough(self) -> None:
        for soft in (6000, 65_536, resource.RLIM_INFINITY):
            self.assertEqual(self.room(soft, resource.RLIM_INFINITY), ("", []))

    def test_too_few(self) -> None:
        told, was_set = self.room(1024, 4096)
        self.assertEqual(was_set, [(4096, 4096)])
        self.assertTrue(told.startswith("only 4096 files may be open at a time; 6000 are needed"))
