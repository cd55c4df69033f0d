"""What the session asks its owner, and what the owner may answer.

:meth:`mailsvc.smtp.session.Session.next` returns one of these.  Those that need an answer stop the
session until :meth:`~mailsvc.smtp.session.Session.answer` gives it; for the others the owner acts
and calls ``next`` again.  An answer of 421 ends the session, whatever was asked.

Every transaction that began (a :class:`SenderAsked` not refused) ends with exactly one of
:class:`ContentEnded`, :class:`TransactionReset` and :class:`CloseAsked` (or :class:`TLSAsked`);
every content that began (a :class:`ContentStarted` not refused) ends with exactly one of
:class:`ContentEnded` and :class:`ContentDropped`.
"""

from __future__ import annotations

from msgspec import Struct

from mailsvc.message import Address, Reply


class SenderAsked(Struct, frozen=True):
    """MAIL.  Answer with None to accept with the standard 250, or with a :class:`Reply`.

    :ivar reverse_path: None for the null reverse-path ``<>``.
    :ivar size: octets that SIZE declares (RFC 1870), or None.
    :ivar body: ``7BIT``, ``8BITMIME`` or ``BINARYMIME``.
    :ivar ret: ``FULL``, ``HDRS`` or empty (RFC 3461 section 4.3); ``envid`` is decoded (4.4).
    :ivar auth: the decoded AUTH parameter (RFC 4954 section 5): a mailbox, ``<>`` or empty.
    """

    reverse_path: Address | None
    size: int | None = None
    body: str = "7BIT"
    smtputf8: bool = False
    require_tls: bool = False
    ret: str = ""
    envid: str = ""
    auth: str = ""


class RecipientAsked(Struct, frozen=True):
    """RCPT.  Answer with None to accept with the standard 250, or with a :class:`Reply`.

    :ivar notify: DSN conditions, upper case; empty if not given (RFC 3461 section 4.1).
    :ivar orcpt: ``type;address``, decoded; empty if not given (RFC 3461 section 4.2).
    """

    address: Address
    notify: tuple[str, ...] = ()
    orcpt: str = ""


class VerifyAsked(Struct, frozen=True):
    """VRFY, where the policy lets this peer ask.  Answer with a :class:`Reply`."""

    text: str


class AuthenticationAsked(Struct, frozen=True):
    """AUTH, or a further client response of the same exchange.

    Answer with :class:`Challenge`, :class:`Authenticated`, or a :class:`Reply` that refuses.

    :ivar mechanism: upper case, one of those that the policy offers in the present state.
    :ivar response: decoded; None if AUTH came without an initial response.
    """

    mechanism: str
    response: bytes | None


class AuthenticationEnded(Struct, frozen=True):
    """The client gave the exchange up, or broke it: forget it.  No answer."""


class ContentStarted(Struct, frozen=True):
    """DATA, or the first BDAT.  Answer with None to take the content, or with a :class:`Reply`.

    Before answering the owner may call :meth:`mailsvc.smtp.session.Session.limit`.

    :ivar stuffed: whether the content's lines are dot-stuffed (DATA).
    """

    stuffed: bool


class ContentReceived(Struct, frozen=True):
    """Octets of content, exactly as on the wire.  No answer.

    :ivar data: never changes, and may be kept; keeping a view keeps the chunk it was cut from.
    :ivar dots: how many dots dot-stuffing has added to it (RFC 5321 section 4.5.2); None: not
        counted.
    """

    data: bytes | memoryview
    dots: int | None = None


class ContentEnded(Struct, frozen=True):
    """The content is complete.  Answer with the :class:`Reply` to the client.

    On an LMTP listener the answer may be a tuple with one reply for each accepted RCPT, in order
    (RFC 2033 section 4.2); a single one is given for all of them.
    """


class ContentDropped(Struct, frozen=True):
    """The content is refused or given up: abort what :class:`ContentStarted` began.  No answer.

    :ivar fault: the reply that refuses it, encoded; empty if the client gave it up.
    """

    fault: bytes = b""


class Declined(Struct, frozen=True):
    """The session itself refused a MAIL or RCPT, which is no message that was seen.  No answer.

    :ivar argument: what stood behind the verb, as it came.
    :ivar reply: encoded.
    """

    verb: str
    argument: bytes
    reply: bytes


class TransactionReset(Struct, frozen=True):
    """The transaction is over without content: forget sender and recipients.  No answer."""


class TLSAsked(Struct, frozen=True):
    """STARTTLS.  No answer: write :meth:`~mailsvc.smtp.session.Session.output`, then start TLS.

    This session is over; after the handshake make a new one with ``secure=True``.
    """


class CloseAsked(Struct, frozen=True):
    """The session is over.  No answer: write the output, then close."""


class Challenge(Struct, frozen=True):
    """The answer to :class:`AuthenticationAsked`: the exchange goes on (334).

    :ivar data: not encoded yet.
    """

    data: bytes


class Authenticated(Struct, frozen=True):
    """The answer to :class:`AuthenticationAsked`: who it is is known now (235)."""


Question = (
    SenderAsked
    | RecipientAsked
    | VerifyAsked
    | AuthenticationAsked
    | AuthenticationEnded
    | ContentStarted
    | ContentReceived
    | ContentEnded
    | ContentDropped
    | Declined
    | TransactionReset
    | TLSAsked
    | CloseAsked
)

Answer = None | Reply | tuple[Reply, ...] | Challenge | Authenticated
