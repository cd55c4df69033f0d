"""The ``raw`` format: the mail as it is, its envelope in header fields."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from mailsvc.deliverers.webhook.payload import FormatOptions, Payload, Stream
from mailsvc.interfaces import IContent
from mailsvc.message import Delivery
from mailsvc.parsed import ParsedMail

#: Printable ASCII but for the percent sign; ``quote`` keeps letters and digits by itself.
_PLAIN = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"


def header_value(text: str) -> str:
    """Return ``text`` for a header field: all but printable ASCII, and ``%``, percent-encoded."""
    if text.isascii() and text.isprintable() and "%" not in text:
        return text
    return quote(text, safe=_PLAIN, errors="surrogatepass")


class Raw:
    """Body ``message/rfc822``, streamed from the spool; the envelope in ``Mailsvc-`` fields."""

    name = "raw"
    wants_mail = False

    def payload(
        self,
        delivery: Delivery,
        content: IContent,
        mail: ParsedMail | None,
        options: FormatOptions,
    ) -> Payload:
        """Return the mail's octets and the fields that say where they come from."""
        envelope = delivery.envelope
        client = envelope.client
        fields = (
            ("Mailsvc-Message-Id", envelope.id),
            ("Mailsvc-Reverse-Path", str(envelope.reverse_path or "")),
            ("Mailsvc-Recipient", str(delivery.recipient.address)),
            ("Mailsvc-Route", delivery.recipient.route.name),
            ("Mailsvc-Tag", delivery.recipient.route.tag),
            ("Mailsvc-Received-At", f"{envelope.received_at:.3f}"),
            ("Mailsvc-Attempt", str(delivery.attempt)),
            ("Mailsvc-Client", client.host),
            ("Mailsvc-Helo", client.helo),
            ("Mailsvc-Protocol", client.protocol),
            ("Mailsvc-User", client.user or ""),
            *_unusual(delivery),
        )
        headers = tuple((name, header_value(value)) for name, value in fields)
        return Payload("message/rfc822", Stream(b"", content), headers)


def _unusual(delivery: Delivery) -> Iterator[tuple[str, str]]:
    """Yield what most mails do not have: TLS, and what SMTP's extensions asked for."""
    envelope = delivery.envelope
    recipient = delivery.recipient
    client = envelope.client
    if client.tls_version:
        yield "Mailsvc-Tls", f"{client.tls_version} {client.tls_cipher}"
    if envelope.body != "7BIT":
        yield "Mailsvc-Body", envelope.body
    if envelope.smtputf8:
        yield "Mailsvc-Smtputf8", "true"
    if envelope.require_tls:
        yield "Mailsvc-Require-Tls", "true"
    if recipient.notify:
        yield "Mailsvc-Dsn-Notify", ",".join(recipient.notify)
    if recipient.orcpt:
        yield "Mailsvc-Dsn-Original-Recipient", recipient.orcpt
    if envelope.ret:
        yield "Mailsvc-Dsn-Ret", envelope.ret
    if envelope.envid:
        yield "Mailsvc-Dsn-Envid", envelope.envid
