"""Twisted's ESMTP on PORT: writes each message to a file below DIRECTORY, syncs it, then 250.

Run by the Python of the peers: ``twisted_server.py PORT DIRECTORY``.
"""

import itertools
import os
import sys

from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread
from twisted.mail import smtp
from zope.interface import implementer

_NUMBERS = itertools.count()


def write(directory, lines):
    """Write and sync one file."""
    path = os.path.join(directory, f"{next(_NUMBERS):09d}")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        lines.append(b"")
        os.write(descriptor, b"\r\n".join(lines))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@implementer(smtp.IMessage)
class Message:
    """One message."""

    def __init__(self):
        self.lines = []
        self.lineReceived = self.lines.append

    def eomReceived(self):
        return deferToThread(write, sys.argv[2], self.lines)

    def connectionLost(self):
        self.lines = []


@implementer(smtp.IMessageDelivery)
class Delivery:
    """Takes everything."""

    def receivedHeader(self, helo, origin, recipients):
        return b"Received: by mx.example.com"

    def validateFrom(self, helo, origin):
        return origin

    def validateTo(self, user):
        return Message


def protocol():
    server = smtp.ESMTP()
    server.delivery = Delivery()
    server.host = b"mx.example.com"
    return server


factory = Factory.forProtocol(protocol)
factory.noisy = False
reactor.suggestThreadPoolSize(20)
reactor.listenTCP(int(sys.argv[1]), factory, backlog=1024, interface="127.0.0.1")
reactor.run()
