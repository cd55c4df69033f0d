"""Twisted on PORT with canned replies: parses next to nothing, checks nothing, stores nothing.

What it costs is the floor for any server on Twisted.  ``canned_server.py PORT``.
"""

import sys

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol


class Canned(Protocol):
    """Answers each line 250, and content when it ends."""

    content = False

    def connectionMade(self):
        """Greet."""
        self.transport.setTcpNoDelay(True)
        self.socket = self.transport.getHandle()
        self.socket.send(b"220 canned\r\n")

    def dataReceived(self, data):
        """Answer what has come as one."""
        if self.content:
            if data.endswith(b"\r\n.\r\n"):
                self.content = False
                self.socket.send(b"250 2.0.0 OK\r\n")
        elif data.endswith(b"DATA\r\n"):
            self.content = True
            self.socket.send(b"250 OK\r\n" * (data.count(b"\n") - 1) + b"354 Go on\r\n")
        elif data.startswith(b"QUIT"):
            self.socket.send(b"221 Bye\r\n")
            self.transport.loseConnection()
        else:
            self.socket.send(b"250 2.1.0 OK\r\n")


factory = Factory.forProtocol(Canned)
factory.noisy = False
reactor.listenTCP(int(sys.argv[1]), factory, backlog=1024, interface="127.0.0.1")
reactor.run()
