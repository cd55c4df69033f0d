"""The values that travel along the path of a message: all frozen, all plain data.

Structs of msgspec: making one takes a tenth of the time of a frozen dataclass, and a message is
some ten of them; to change a field of one, ``msgspec.structs.replace``.

Times are seconds since the epoch (``float``), sizes are octets.
"""

from __future__ import annotations

import re

from msgspec import Struct, field

_ATOM = r"[^\x00-\x20\x7f()<>\[\]:;@\\,.\"]+"
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_NOT_PRINTABLE = re.compile(r"[^\t\x20-\x7e]")
_NOT_PRINTABLE_UTF8 = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\x80-\x9f\u2028\u2029\ud800-\udfff]")

#: Octets of text that fit a reply line of 512 with code, separator, enhanced code and CRLF
#: (RFC 5321 section 4.5.3.1.5).
_REPLY_TEXT = 480


class Address(Struct, frozen=True):
    """A mailbox (RFC 5321 section 4.1.2).

    :ivar local: the local part without its quotes, in the case that was given.
    :ivar domain: the domain as given, or an address literal in brackets; empty only for the bare
        ``postmaster`` of section 4.5.1.
    """

    local: str
    domain: str

    def __str__(self) -> str:
        local = self.local
        # Most are letters and digits, and this is asked five times for a message.
        if not local.isalnum() and not _DOT_STRING.fullmatch(local):
            local = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"{local}@{self.domain}" if self.domain else local


class Reply(Struct, frozen=True):
    r"""One SMTP reply.

    :ivar code: the three digits.
    :ivar text: one or more lines, joined by ``\n``, without the codes.
    :ivar status: the enhanced status code (RFC 3463), such as ``5.1.1``; empty where none is sent
        (greeting, HELO, EHLO and 3xx: RFC 2034 section 4).
    """

    code: int
    text: str
    status: str = ""

    def __str__(self) -> str:
        return (
            f"{self.code} {self.status} {self.text}" if self.status else f"{self.code} {self.text}"
        )

    def encode(self, *, utf8: bool = False) -> bytes:
        """Return the reply's octets, CRLF included (RFC 5321 section 4.2).

        Whatever the text holds, only HT and 0x20 to 0x7E leave (and UTF-8 where ``utf8`` says that
        the peer understands it, RFC 6531 section 3.5), at most 512 octets a line.
        """
        unwanted = _NOT_PRINTABLE_UTF8 if utf8 else _NOT_PRINTABLE
        prefix = f"{self.status} " if self.status else ""
        lines = [unwanted.sub("?", line) or "-" for line in self.text.split("\n")]
        last = len(lines) - 1
        return b"".join(
            b"%d%s%s\r\n"
            % (
                self.code,
                b" " if number == last else b"-",
                _cut((prefix + line).encode("utf-8"), _REPLY_TEXT),
            )
            for number, line in enumerate(lines)
        )


def _cut(octets: bytes, limit: int) -> bytes:
    """Return at most ``limit`` octets without splitting a UTF-8 sequence."""
    if len(octets) <= limit:
        return octets
    return octets[:limit].decode("utf-8", "ignore").encode("utf-8")


class Client(Struct, frozen=True):
    """Who handed a message in.

    :ivar host: the peer's IP address as text; empty for a Unix socket.
    :ivar helo: the name it gave in EHLO, HELO or LHLO, already checked against the grammar.
    :ivar protocol: the keyword of RFC 3848 and RFC 6531 section 4.3: ``ESMTPSA``, ``UTF8LMTP`` …
    :ivar tls_version: such as ``TLSv1.3``; empty without TLS.
    :ivar tls_cipher: such as ``TLS_AES_256_GCM_SHA384``; empty without TLS.
    :ivar user: the authenticated identity, or None.
    """

    host: str = ""
    helo: str = ""
    protocol: str = "SMTP"
    tls_version: str = ""
    tls_cipher: str = ""
    user: str | None = None


class Route(Struct, frozen=True):
    """The router's answer for one recipient: where its mail goes.

    :ivar name: the route as the operator wrote it, for people: its pattern.
    :ivar destinations: the names of the destinations, in order, without repeats.
    :ivar tag: the captured plus-tag, or what the pattern captured; empty if none.
    :ivar max_size: octets that the route takes (requirement 12), or None.
    :ivar auth_required: only an authenticated sender may use it.
    :ivar sync: the destination's answer decides the SMTP reply.
    :ivar check_url: asked at RCPT time whether the recipient exists; empty if not.
    """

    name: str
    destinations: tuple[str, ...]
    tag: str = ""
    max_size: int | None = None
    auth_required: bool = False
    sync: bool = False
    check_url: str = ""


class Recipient(Struct, frozen=True):
    """One accepted RCPT.

    :ivar notify: DSN conditions asked for (RFC 3461 section 4.1), upper case; empty if not given.
    :ivar orcpt: the original recipient as ``type;address`` (decoded); empty if not given.
    """

    address: Address
    route: Route
    notify: tuple[str, ...] = ()
    orcpt: str = ""


class Envelope(Struct, frozen=True):
    """What SMTP said about a message, beside its content.

    :ivar id: the message id of the spool: letters and digits, unique among all processes that
        share a spool; never the mail's own Message-ID.
    :ivar received_at: when the transaction's content began.
    :ivar reverse_path: None for the null reverse-path ``<>``.
    :ivar body: ``7BIT``, ``8BITMIME`` or ``BINARYMIME`` (RFC 6152, RFC 3030).
    :ivar ret: ``FULL``, ``HDRS`` or empty; ``envid`` is decoded (RFC 3461 sections 4.3, 4.4).
    """

    id: str
    received_at: float
    reverse_path: Address | None
    recipients: tuple[Recipient, ...]
    client: Client = field(default_factory=Client)
    body: str = "7BIT"
    smtputf8: bool = False
    require_tls: bool = False
    ret: str = ""
    envid: str = ""

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Return the recipients' addresses."""
        return tuple(recipient.address for recipient in self.recipients)


class Delivery(Struct, frozen=True):
    """One message for one recipient at one destination: the unit of work and of idempotency.

    :ivar id: the same on every attempt: letters, digits and hyphens; the ``webhook-id``.
    :ivar attempt: 1 for the first.
    :ivar size: octets of the content as delivered (dots unstuffed).
    """

    id: str
    envelope: Envelope
    recipient: Recipient
    destination: str
    attempt: int
    size: int


class Done(Struct, frozen=True):
    """The destination answers for the message now."""


class Retry(Struct, frozen=True):
    """Not before ``at``; ``reason`` is for people.

    :ivar spent: whether this counts as an attempt (a breaker's or a pause's does not).
    """

    at: float
    reason: str
    spent: bool = True


class Dead(Struct, frozen=True):
    """A dead letter: held in sight until a person decides."""

    reason: str


Outcome = Done | Retry | Dead
