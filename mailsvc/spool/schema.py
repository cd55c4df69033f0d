"""The spool's directory and the tables of its database.

A message has a row, and so has each of its deliveries.  A delivery's key is the message's ``seq``
and the delivery's number in one integer, so that the deliveries of a message are a range of keys
and need no index.  ``seq`` is the time of the commit in milliseconds, raised where that is taken:
rows of old mail come before rows of new mail.

A delivery that waits has an entry in ``deliveries_due``; one that a process holds (fresh, or being
attempted) has none and names the process.  A process shows by a flock that it lives.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Final

from mailsvc.spool.files import Files

WAITING: Final = 0
HELD: Final = 1
DEAD: Final = 2

#: Bits of a delivery's key that hold its number within the message.
NUMBER_BITS: Final = 20
NUMBER_MASK: Final = (1 << NUMBER_BITS) - 1

_APPLICATION_ID: Final = 0x6D737663
_VERSION: Final = 1

_TABLES: Final = """
CREATE TABLE messages (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    segment INTEGER,                  -- NULL: in a file of its own
    offset INTEGER NOT NULL,
    file TEXT,
    length INTEGER NOT NULL,          -- octets as stored
    crc INTEGER NOT NULL,             -- CRC-32 of these
    stuffed INTEGER NOT NULL,
    size INTEGER NOT NULL,            -- octets as delivered
    next_number INTEGER NOT NULL,     -- of the delivery that a retry with a fresh id makes
    retain_until REAL,                -- content is kept until then, delivered or not
    envelope TEXT NOT NULL            -- JSON
);
CREATE INDEX messages_retained ON messages (retain_until) WHERE retain_until IS NOT NULL;
CREATE TABLE deliveries (
    key INTEGER PRIMARY KEY,          -- messages.seq << 20 | number
    destination INTEGER NOT NULL,
    recipient INTEGER NOT NULL,       -- index in the envelope
    state INTEGER NOT NULL,           -- 0 waiting, 1 held by a process, 2 dead letter
    attempts INTEGER NOT NULL,
    due REAL NOT NULL,
    owner INTEGER,                    -- processes.id
    token INTEGER,                    -- the fencing token of the one valid claim
    octets INTEGER NOT NULL,          -- the message's length
    reason TEXT
);
CREATE INDEX deliveries_due ON deliveries (destination, due) WHERE state = 0;
CREATE INDEX deliveries_dead ON deliveries (key) WHERE state = 2;
CREATE TABLE destinations (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    octets INTEGER NOT NULL,          -- of all its deliveries
    paused TEXT                       -- the reason, or NULL
);
CREATE TABLE segments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner INTEGER NOT NULL,           -- processes.id: who may write to it
    size INTEGER NOT NULL,
    live INTEGER NOT NULL,            -- messages in it
    octets INTEGER NOT NULL,          -- of these messages
    first INTEGER,                    -- their range of messages.seq since it was last begun
    last INTEGER,
    abandoned INTEGER NOT NULL DEFAULT 0  -- a sync of it failed: never written again
);
CREATE TABLE processes (
    id INTEGER PRIMARY KEY,
    seen REAL NOT NULL                -- the last sign of life
);
CREATE TABLE files (octets INTEGER NOT NULL);  -- of all messages with files of their own
INSERT INTO files VALUES (0);
-- What synchronous routes answered, by mail.  A row with an empty sha256 says that the delivery
-- whose id is in recipient, of the message whose id is in text, goes by another one's id.
CREATE TABLE answers (
    reverse_path TEXT NOT NULL,
    recipient TEXT NOT NULL,
    sha256 BLOB NOT NULL,
    code INTEGER NOT NULL,
    text TEXT NOT NULL,
    delivery_id TEXT NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY (reverse_path, recipient, sha256)
) WITHOUT ROWID;
CREATE INDEX answers_until ON answers (until);
"""


class Layout:
    """Where things lie in the spool's directory."""

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(directory)
        self.database = os.path.join(self.directory, "queue.db")
        self.lock = os.path.join(self.directory, "lock")
        self.start_lock = os.path.join(self.directory, "start.lock")
        self.segments = os.path.join(self.directory, "segments")
        self.content = os.path.join(self.directory, "content")
        self.temporary = os.path.join(self.directory, "tmp")
        self.processes = os.path.join(self.directory, "processes")

    def make(self, files: Files) -> None:
        """Make what is missing, durably."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        for path in (self.segments, self.content, self.temporary, self.processes):
            os.makedirs(path, mode=0o700, exist_ok=True)
        files.sync_directory(self.directory)
        files.sync_directory(os.path.dirname(self.directory))

    def segment(self, number: int) -> str:
        """Return a segment's path."""
        return os.path.join(self.segments, f"{number:010d}")

    def own_file(self, name: str) -> str:
        """Return the path of a content that has its own file."""
        return os.path.join(self.content, name)

    def temporary_file(self, name: str) -> str:
        """Return the path of a file that is being written."""
        return os.path.join(self.temporary, name)

    def process(self, number: int) -> str:
        """Return the path of the file that a process locks while it lives."""
        return os.path.join(self.processes, process_name(number))


def process_name(number: int) -> str:
    """Return how file names call a process."""
    return f"{number:012x}"


def make_database(layout: Layout, files: Files) -> None:
    """Make the database where there is none; the caller holds the start lock.

    :raises sqlite3.Error: also where the file is something else.
    """
    if not os.path.exists(layout.database):
        # Made by us first so that it, its log and its index are 0600 whatever the umask.
        files.close(files.create(layout.database))
    connection = files.connect(layout.database)
    try:
        _make_tables(connection)
    finally:
        connection.close()
    files.sync_directory(layout.directory)


def _make_tables(connection: sqlite3.Connection) -> None:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == _VERSION:
        return
    if version != 0:
        raise sqlite3.DatabaseError(f"the spool has format {version}, not {_VERSION}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.executescript(
        f"BEGIN IMMEDIATE;\n{_TABLES}\nPRAGMA application_id = {_APPLICATION_ID};\n"
        f"PRAGMA user_version = {_VERSION};\nCOMMIT;"
    )


def connect(layout: Layout, files: Files) -> sqlite3.Connection:
    """Return a connection that commits durably."""
    connection = files.connect(layout.database)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -16384")
        # The writer does not let it come to that, unless its groups are very large.
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        connection.execute("PRAGMA journal_size_limit = 16777216")
    except BaseException:
        connection.close()
        raise
    return connection
