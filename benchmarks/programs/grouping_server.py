"""Twisted on PORT with canned replies, which keeps what it gets as mailsvc does, and does no more.

Contents go into a file of written zeros, a row for each into SQLite, in groups with a sync of
either.  What it costs is the floor for any durable server on Twisted; it delivers nothing, logs
nothing, checks nothing.  ``grouping_server.py PORT DIRECTORY``.
"""

import json
import os
import sqlite3
import sys
import threading
from pathlib import Path
from queue import SimpleQueue

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

_SIZE, _PAGE = 1 << 26, 4096
_ENVELOPE = json.dumps({"sender": "bench@client.example", "recipients": ["x" * 200]})


class Keeper:
    """Keeps contents: what came while a group was written is the next."""

    def __init__(self, directory):
        self.inputs = 0
        self._waiting, self._busy, self._turning, self._before = [], False, False, -1
        self._groups = SimpleQueue()
        self._file = os.open(directory / "contents", os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(self._file, bytes(_SIZE), 0)
        os.fsync(self._file)
        self._rows = sqlite3.connect(
            directory / "rows.db", isolation_level=None, check_same_thread=False
        )
        self._rows.execute("PRAGMA journal_mode = WAL")
        self._rows.execute("PRAGMA synchronous = FULL")
        self._rows.execute("CREATE TABLE messages (seq INTEGER PRIMARY KEY, at, length, envelope)")
        threading.Thread(target=self._run, daemon=True).start()

    def keep(self, content, answer):
        """Keep a content; call ``answer`` when it is durable."""
        self._waiting.append((content, answer))
        self._begin()

    def _begin(self):
        if self._waiting and not self._busy and not self._turning:
            self._turning, self._before = True, -1
            reactor.callLater(0, self._turn)

    def _turn(self):
        if self.inputs != self._before:
            # Gather for as long as each turn brings more.
            self._before = self.inputs
            reactor.callLater(0, self._turn)
            return
        self._turning, self._busy = False, True
        group, self._waiting = self._waiting, []
        self._groups.put(group)

    def _settle(self, group):
        self._busy = False
        for _, answer in group:
            answer()
        self._begin()

    def _run(self):
        position = seq = 0
        while True:
            group = self._groups.get()
            if position + sum(len(content) for content, _ in group) > _SIZE:
                position = 0
            at, rows = position, []
            for content, _ in group:
                seq += 1
                rows += (seq, position, len(content), _ENVELOPE)
                position += len(content)
            os.pwritev(self._file, [content for content, _ in group], at)
            os.fdatasync(self._file)
            position = -(-position // _PAGE) * _PAGE
            self._rows.execute("BEGIN IMMEDIATE")
            several = ", ".join(["(?, ?, ?, ?)"] * len(group))
            self._rows.execute(f"INSERT INTO messages VALUES {several}", rows)
            self._rows.execute("COMMIT")
            reactor.callFromThread(self._settle, group)


class Canned(Protocol):
    """Answers each line 250, and content when it is kept."""

    content = None

    def connectionMade(self):
        """Greet."""
        self.transport.setTcpNoDelay(True)
        self.send = self.transport.getHandle().send
        self.send(b"220 canned\r\n")

    def dataReceived(self, data):
        """Answer what has come as one."""
        keeper.inputs += 1
        if self.content is not None:
            data = self.content + data
            if data.endswith(b"\r\n.\r\n"):
                self.content = None
                keeper.keep(data, self._kept)
            else:
                self.content = data
        elif data.endswith(b"DATA\r\n"):
            self.content = b""
            self.send(b"250 OK\r\n" * (data.count(b"\n") - 1) + b"354 Go on\r\n")
        elif data.startswith(b"QUIT"):
            self.send(b"221 Bye\r\n")
            self.transport.loseConnection()
        else:
            self.send(b"250 2.1.0 OK\r\n")

    def _kept(self):
        self.send(b"250 2.0.0 OK\r\n")


keeper = Keeper(Path(sys.argv[2]))
factory = Factory.forProtocol(Canned)
factory.noisy = False
reactor.listenTCP(int(sys.argv[1]), factory, backlog=1024, interface="127.0.0.1")
reactor.run()
