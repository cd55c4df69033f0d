"""How far a mail is followed: every bound of the parser, and the notes about what it cut."""

from __future__ import annotations

from dataclasses import dataclass

#: Notes that one mail can collect; a mail with more faults is not better described by them.
_NOTES = 50


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of parsing.

    :ivar memory: octets that all mails being parsed or delivered parsed may use together.
    :ivar small: octets up to which a mail is parsed in a thread; larger ones go to a worker.
    :ivar threads: mails at most that are parsed in threads at the same time: parsers have the
        interpreter one at a time, and the reactor waits for its turn among them.
    :ivar small_header: octets of header up to which a mail is parsed in a thread.
    :ivar header: octets of a header block that are read; further fields are left out.
    :ivar fields: header fields of one block that are read.
    :ivar addresses: addresses of one mail's fields that are read.
    :ivar depth: levels of multiparts within multiparts; what is deeper stays one attachment.
    :ivar parts: parts of a mail that are taken apart; what follows is left out.
    :ivar reply: characters of text that are searched for the reply, and of HTML that are turned
        into text for it, where a mail has no text part.
    :ivar workers: worker processes at most.
    :ivar deadline: seconds of wall-clock time that a worker may take for one mail.
    :ivar cpu: seconds of processor time that a worker may take for one mail.
    :ivar room: octets of memory that a worker may take beside a multiple of the mail's size.
    """

    memory: int = 256 * 1024 * 1024
    small: int = 64 * 1024
    threads: int = 2
    small_header: int = 32 * 1024
    header: int = 1024 * 1024
    fields: int = 2000
    addresses: int = 20_000
    depth: int = 25
    parts: int = 1000
    reply: int = 1024 * 1024
    workers: int = 2
    deadline: float = 60.0
    cpu: int = 20
    room: int = 128 * 1024 * 1024


class Notes:
    """What could not be parsed, in words, each once and in order."""

    def __init__(self) -> None:
        self._notes: dict[str, None] = {}

    def add(self, note: str) -> None:
        """Add a note unless it is there or there are enough."""
        if len(self._notes) < _NOTES:
            self._notes.setdefault(note)

    def all(self) -> tuple[str, ...]:
        """Return the notes in the order of their first mention."""
        return tuple(self._notes)
