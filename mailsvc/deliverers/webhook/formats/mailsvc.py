"""The ``mailsvc`` format: all that is known of a mail, in JSON.

The structures below are the format: ``docs/webhook.schema.json`` is made from them.  A field may be
added without a new version; one is never removed, renamed, or given another meaning within it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from itertools import starmap
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from mailsvc.deliverers.webhook.formats import words
from mailsvc.deliverers.webhook.payload import FormatOptions, Payload
from mailsvc.interfaces import IContent
from mailsvc.message import Delivery
from mailsvc.parsed import Attachment, Mailbox, ParsedMail

_SHA256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="SHA-256, in hexadecimal.")]
_SIZE = Annotated[int, Meta(ge=0, description="Octets.")]
_CONTENT = Annotated[bytes | None, Meta(description="The octets in base64; null if `url` is set.")]
_URL = Annotated[
    str | None,
    Meta(description="Where the octets can be had for a while; null if `content` is set."),
]


class Tls(Struct, frozen=True):
    """How the client's connection was encrypted."""

    version: Annotated[str, Meta(description="Such as `TLSv1.3`.")]
    cipher: Annotated[str, Meta(description="Such as `TLS_AES_256_GCM_SHA384`.")]


class Client(Struct, frozen=True):
    """Who handed the mail in."""

    address: Annotated[str, Meta(description="Its IP address; empty for a Unix socket.")]
    helo: Annotated[str, Meta(description="The name it gave in EHLO, HELO or LHLO.")]
    protocol: Annotated[str, Meta(description="As RFC 3848 has it, such as `ESMTPS`.")]
    tls: Annotated[Tls | None, Meta(description="Null without TLS.")]
    user: Annotated[str | None, Meta(description="Who it logged in as; null if it did not.")]


class Notification(Struct, frozen=True):
    """The delivery status notification that the sender asked for (RFC 3461)."""

    notify: Annotated[tuple[str, ...], Meta(description="`NEVER`, `SUCCESS`, `FAILURE`, `DELAY`.")]
    original_recipient: Annotated[str, Meta(description="ORCPT: `type;address`, or empty.")]
    ret: Annotated[str, Meta(description="`FULL`, `HDRS`, or empty.")]
    envid: Annotated[str, Meta(description="The sender's own id of the envelope, or empty.")]


class Envelope(Struct, frozen=True):
    """What SMTP said, as opposed to the mail's header."""

    id: Annotated[
        str, Meta(description="The id of the mail in the spool, the same for all its recipients.")
    ]
    sender: Annotated[str, Meta(description="The reverse-path; empty for the null one (bounces).")]
    recipient: Annotated[str, Meta(description="The one recipient that this delivery is for.")]
    route: Annotated[str, Meta(description="The pattern that matched the recipient.")]
    tag: Annotated[str, Meta(description="What stood behind the plus sign, or was captured.")]
    client: Client
    body: Annotated[str, Meta(description="`7BIT`, `8BITMIME` or `BINARYMIME`.")]
    smtputf8: Annotated[bool, Meta(description="The sender asked for SMTPUTF8 (RFC 6531).")]
    require_tls: Annotated[bool, Meta(description="The sender asked for REQUIRETLS (RFC 8689).")]
    dsn: Notification


class Header(Struct, frozen=True):
    """One header field."""

    name: Annotated[str, Meta(description="As it was written.")]
    value: Annotated[str, Meta(description="Unfolded and decoded.")]


class Address(Struct, frozen=True):
    """One mailbox of an address field."""

    name: Annotated[str, Meta(description="The display name, or empty.")]
    address: str


class AttachedFile(Struct, frozen=True):
    """An attachment, or a part that the HTML shows."""

    name: Annotated[str, Meta(description="The file name, without a path; may be empty.")]
    type: Annotated[str, Meta(description="`type/subtype` as declared, in lower case.")]
    charset: Annotated[str, Meta(description="As declared, or empty.")]
    disposition: Literal["attachment", "inline"]
    content_id: Annotated[str, Meta(description="What `cid:` refers to, or empty.")]
    size: _SIZE
    sha256: _SHA256
    content: _CONTENT
    url: _URL


class RawMail(Struct, frozen=True):
    """The mail's octets as they are in the spool."""

    size: _SIZE
    sha256: _SHA256
    content: _CONTENT
    url: _URL


class ReceivedMail(Struct, frozen=True):
    """One mail for one recipient."""

    type: Literal["mail.received"]
    version: Literal[1]
    id: Annotated[
        str, Meta(description="The delivery: the same on every attempt, and the `webhook-id`.")
    ]
    attempt: Annotated[int, Meta(ge=1, description="1 for the first.")]
    destination: Annotated[str, Meta(description="The destination's name in the configuration.")]
    received_at: Annotated[datetime, Meta(tz=True, description="When the mail came in.")]
    sent_at: Annotated[datetime, Meta(tz=True, description="When this attempt was made.")]
    size: _SIZE
    envelope: Envelope
    headers: Annotated[tuple[Header, ...], Meta(description="In order.")]
    from_: Annotated[tuple[Address, ...], Meta(description="The From field.")] = msgspec.field(
        name="from"
    )
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    bcc: tuple[Address, ...]
    reply_to: tuple[Address, ...]
    subject: str
    date: Annotated[
        str, Meta(description="The Date field in ISO 8601; empty if there is none to be read.")
    ]
    message_id: Annotated[str, Meta(description="The Message-ID field without its brackets.")]
    text: Annotated[str, Meta(description="The plain text; empty if the mail has none.")]
    html: Annotated[str, Meta(description="The HTML; empty if the mail has none.")]
    reply: Annotated[str, Meta(description="The text without quoted history and signature.")]
    signature: Annotated[str, Meta(description="The signature below the text, or empty.")]
    attachments: tuple[AttachedFile, ...]
    raw: Annotated[
        RawMail | None,
        Meta(description="The whole mail, if it was asked for or could not be parsed."),
    ]
    parse_errors: Annotated[
        tuple[str, ...], Meta(description="What could not be parsed, in words.")
    ]


_ENCODE = msgspec.json.Encoder().encode


class Mailsvc:
    """The default format; ``raw`` is filled if the operator wants it or nothing was parsed."""

    name = "mailsvc"
    wants_mail = True

    def payload(
        self,
        delivery: Delivery,
        content: IContent,
        mail: ParsedMail | None,
        options: FormatOptions,
    ) -> Payload:
        """Return the JSON object of one mail for one recipient."""
        mail = mail or ParsedMail()
        received = ReceivedMail(
            type="mail.received",
            version=1,
            id=delivery.id,
            attempt=delivery.attempt,
            destination=delivery.destination,
            received_at=_moment(delivery.envelope.received_at),
            sent_at=_moment(options.now()),
            size=delivery.size,
            envelope=_envelope(delivery),
            headers=tuple(starmap(Header, mail.headers)),
            from_=_addresses(mail.sender),
            to=_addresses(mail.to),
            cc=_addresses(mail.cc),
            bcc=_addresses(mail.bcc),
            reply_to=_addresses(mail.reply_to),
            subject=mail.subject,
            date=mail.date,
            message_id=mail.message_id,
            text=words.json_text(mail.text),
            html=words.json_text(mail.html),
            reply=words.json_text(mail.reply),
            signature=mail.signature,
            attachments=tuple(
                [_attached(delivery, attachment, options) for attachment in mail.attachments]
            ),
            raw=(_raw(delivery, content, options) if options.raw or words.unparsed(mail) else None),
            parse_errors=mail.errors,
        )
        return Payload("application/json", _ENCODE(received))


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds, 3), UTC)


def _envelope(delivery: Delivery) -> Envelope:
    envelope = delivery.envelope
    recipient = delivery.recipient
    client = envelope.client
    encrypted = bool(client.tls_version or client.tls_cipher)
    valid = words.valid
    return Envelope(
        id=envelope.id,
        sender=words.sender(delivery),
        recipient=words.recipient(delivery),
        route=valid(recipient.route.name),
        tag=valid(recipient.route.tag),
        client=Client(
            address=client.host,
            helo=valid(client.helo),
            protocol=client.protocol,
            tls=Tls(client.tls_version, client.tls_cipher) if encrypted else None,
            user=valid(client.user) if client.user is not None else None,
        ),
        body=envelope.body,
        smtputf8=envelope.smtputf8,
        require_tls=envelope.require_tls,
        dsn=Notification(
            notify=recipient.notify,
            original_recipient=valid(recipient.orcpt),
            ret=envelope.ret,
            envid=valid(envelope.envid),
        ),
    )


def _addresses(boxes: tuple[Mailbox, ...]) -> tuple[Address, ...]:
    return tuple([Address(box.name, box.address) for box in boxes]) if boxes else ()


def _attached(delivery: Delivery, attachment: Attachment, options: FormatOptions) -> AttachedFile:
    content = attachment.content
    url = options.url_of(delivery, attachment)
    return AttachedFile(
        name=attachment.filename,
        type=attachment.content_type,
        charset=attachment.charset,
        disposition="inline" if attachment.disposition == "inline" else "attachment",
        content_id=attachment.content_id,
        size=len(content),
        sha256=sha256(content).hexdigest(),
        content=words.json_octets(content) if url is None else None,
        url=url,
    )


def _raw(delivery: Delivery, content: IContent, options: FormatOptions) -> RawMail:
    whole = words.whole(content)
    url = options.url_of(delivery, whole)
    octets = whole.content
    return RawMail(
        size=len(octets),
        sha256=sha256(octets).hexdigest(),
        content=words.json_octets(octets) if url is None else None,
        url=url,
    )
