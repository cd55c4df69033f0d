"""The state machine of a session, as data.

Two machines run side by side, and everything about their order is in this file.

**State** is how far a mail transaction is (RFC 5321 section 3.3; RFC 3030 for BDAT)::

    START ──greeting──▶ READY ──MAIL──▶ SENDER ──RCPT──▶ RECIPIENT ──DATA … "."──▶ READY
                          ▲                               │    ▲
                          │                              BDAT  └─ RCPT
                          │                               ▼
                          ├──────────── BDAT LAST ──── CHUNKS ◀─ BDAT
                          │                               │ a chunk is refused
                          └─ BDAT LAST, RSET, greeting ─ SPOILT ◀─ BDAT

:data:`ORDER` says which command may come in which state: None where it may, else the reply.
:data:`NEXT` says where an accepted one leads.  A pair that is not in ``NEXT`` cannot happen, and
would raise at once.

**Phase** is what the octets on the wire are: command lines, content, lines of a SASL exchange, or
nothing for us any more::

    COMMAND ◀──354 or BDAT … end of content or chunk──▶ CONTENT
    COMMAND ◀──334 … 235, refusal or "*"──▶ AUTHENTICATION
    COMMAND ──STARTTLS──▶ TLS            any ──QUIT, 421, framing lost──▶ CLOSED

Beside both, a question may be outstanding: then no further octet is read, whatever the phase, so
every command gets its reply before the next is looked at, and replies are in order by construction.

What makes every segmentation of the input equal (but for STARTTLS, where RFC 3207 wants a
difference): a decision is taken only on a complete line, at the end of a content or chunk, or on
an octet that decides alone (bare CR or LF in a command); never on where a segment ends.
"""

from __future__ import annotations

import enum

from mailsvc.smtp.replies import (
    CHUNK_FAILED,
    HELLO_FIRST,
    IN_CHUNKS,
    IN_TRANSACTION,
    MAIL_FIRST,
    NESTED_MAIL,
    RECIPIENT_FIRST,
)


class Phase(enum.Enum):
    """What the octets on the wire are: tells the owner which timer applies.

    While a question is outstanding the peer waits for the owner, and no timer applies.
    """

    COMMAND = "command"
    CONTENT = "content"
    AUTHENTICATION = "authentication"
    TLS = "tls"
    CLOSED = "closed"


class State(enum.IntEnum):
    """How far the mail transaction is."""

    START = 0
    READY = 1
    SENDER = 2
    RECIPIENT = 3
    CHUNKS = 4
    SPOILT = 5


class Move(enum.IntEnum):
    """What changes the state."""

    GREETED = 0
    SENDER_ACCEPTED = 1
    RECIPIENT_ACCEPTED = 2
    CHUNK_ACCEPTED = 3
    CHUNK_REFUSED = 4
    OVER = 5


_START, _READY, _SENDER, _RECIPIENT, _CHUNKS, _SPOILT = State

#: The transitions.  OVER: the transaction ended, by content or by a reset.
NEXT: dict[tuple[State, Move], State] = {
    **{(state, Move.GREETED): _READY for state in State},
    (_READY, Move.SENDER_ACCEPTED): _SENDER,
    (_SENDER, Move.RECIPIENT_ACCEPTED): _RECIPIENT,
    (_RECIPIENT, Move.RECIPIENT_ACCEPTED): _RECIPIENT,
    (_RECIPIENT, Move.CHUNK_ACCEPTED): _CHUNKS,
    (_CHUNKS, Move.CHUNK_ACCEPTED): _CHUNKS,
    (_RECIPIENT, Move.CHUNK_REFUSED): _SPOILT,
    (_CHUNKS, Move.CHUNK_REFUSED): _SPOILT,
    (_START, Move.OVER): _START,
    **{(state, Move.OVER): _READY for state in State if state is not _START},
}

_HELLO = HELLO_FIRST
_MAIL = MAIL_FIRST
_RCPT = RECIPIENT_FIRST
_NEST = NESTED_MAIL
_BUSY = IN_TRANSACTION
_BDAT = IN_CHUNKS
_RSET = CHUNK_FAILED

#: One row for each command, one column for each state, START to SPOILT.
ORDER: dict[bytes, tuple[bytes | None, ...]] = {
    #            START   READY  SENDER RECIPIENT CHUNKS SPOILT
    b"HELO":     (None,   None,  None,  None,   None,  None),
    b"EHLO":     (None,   None,  None,  None,   None,  None),
    b"LHLO":     (None,   None,  None,  None,   None,  None),
    b"MAIL":     (_HELLO, None,  _NEST, _NEST,  _NEST, _NEST),
    b"RCPT":     (_HELLO, _MAIL, None,  None,   _BDAT, _BDAT),
    b"DATA":     (_HELLO, _MAIL, _RCPT, None,   _BDAT, _BDAT),
    b"BDAT":     (_HELLO, _MAIL, _RCPT, None,   None,  _RSET),
    b"AUTH":     (_HELLO, None,  _BUSY, _BUSY,  _BUSY, _BUSY),
    b"STARTTLS": (None,   None,  None,  None,   None,  None),
    b"RSET":     (None,   None,  None,  None,   None,  None),
    b"VRFY":     (None,   None,  None,  None,   None,  None),
    b"EXPN":     (None,   None,  None,  None,   None,  None),
    b"HELP":     (None,   None,  None,  None,   None,  None),
    b"NOOP":     (None,   None,  None,  None,   None,  None),
    b"QUIT":     (None,   None,  None,  None,   None,  None),
}  # fmt: skip
