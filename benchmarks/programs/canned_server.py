"""Twisted on PORT with canned replies: parses next to nothing, checks nothing, stores nothing.

What it costs is the floor for any server on Twisted.  ``canned_server.py PORT CERTIFICATE KEY``.
"""

import sys

from twisted.internet import reactor, ssl
from twisted.internet.protocol import Factory, Protocol

_END = b"\r\n.\r\n"
#: Octets that are read at once where much comes: what mailsvc comes to.
_MUCH, _WIDEST = 49_152, 524_288


class Canned(Protocol):
    """Answers each line 250, and content when it ends."""

    content = False
    last = b""

    def connectionMade(self):
        """Greet."""
        self.transport.setTcpNoDelay(True)
        self.send = self.transport.getHandle().send
        self.send(b"220 canned\r\n")

    def dataReceived(self, data):
        """Answer what has come as one."""
        if self.content:
            if len(data) >= _MUCH:
                self.transport.bufferSize = _WIDEST
            if data.endswith(_END) or (len(data) < 5 and (self.last + data).endswith(_END)):
                self.content = False
                self.send(b"250 2.0.0 OK\r\n")
            else:
                self.last = (self.last + data)[-5:] if len(data) < 5 else data[-5:]
        elif data.endswith(b"DATA\r\n"):
            self.content = True
            self.send(b"250 OK\r\n" * (data.count(b"\n") - 1) + b"354 Go on\r\n")
        elif data.startswith(b"QUIT"):
            self.send(b"221 Bye\r\n")
            self.transport.loseConnection()
        elif data.startswith(b"STARTTLS"):
            self.send(b"220 2.0.0 Go on\r\n")
            self.send = self.transport.write
            self.transport.startTLS(context)
        else:
            self.send(b"250 2.1.0 OK\r\n")


context = ssl.DefaultOpenSSLContextFactory(sys.argv[3], sys.argv[2])
factory = Factory.forProtocol(Canned)
factory.noisy = False
reactor.listenTCP(int(sys.argv[1]), factory, backlog=1024, interface="127.0.0.1")
reactor.run()
