"""What one listener allows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules that a session keeps; built from the configuration, shared by all its sessions.

    :ivar hostname: the name in the greeting and in the reply to EHLO.
    :ivar role: ``mx``, ``submission`` or ``lmtp``; the last speaks LMTP (RFC 2033).
    :ivar message_size: octets of content, dots unstuffed; more: 552 5.3.4.
    :ivar header_size: octets of the content's header block; more: 552 5.3.4.
    :ivar recipients: accepted ones of one transaction; more: 452 4.5.3.
    :ivar hops: Received fields in the header block; more: 554 5.4.6.
    :ivar bad_commands: answered between two accepted messages; the next one is 421 and the end.
    :ivar refused_recipients: refused for good between two accepted messages, 0 for no limit; the
        next one is 421 and the end.
    :ivar failures: refused authentications of one connection; the next AUTH is 421 and the end.
    :ivar messages: transactions of one connection, 0 for no limit; the next one is 421 and the end.
    :ivar starttls: STARTTLS can be had now.
    :ivar mechanisms: SASL mechanisms offered under TLS.
    :ivar cleartext_mechanisms: those offered without TLS.
    :ivar auth_required: MAIL before AUTH is answered 530 5.7.0.
    :ivar notifications: DSN (RFC 3461) is announced and its parameters are taken.
    :ivar vrfy: who may ask: ``never``, ``authenticated`` or ``anyone``.
    :ivar bare_newline: ``refuse`` content with a bare CR or LF, or ``repair`` it to CRLF.
    :ivar requiretls: REQUIRETLS (RFC 8689) can be honoured; it is announced under TLS.
    """

    hostname: str
    role: str = "mx"
    message_size: int = 52_428_800
    header_size: int = 1_048_576
    recipients: int = 1000
    hops: int = 100
    bad_commands: int = 10
    refused_recipients: int = 100
    failures: int = 5
    messages: int = 0
    starttls: bool = False
    mechanisms: tuple[str, ...] = ()
    cleartext_mechanisms: tuple[str, ...] = ()
    auth_required: bool = False
    notifications: bool = False
    vrfy: str = "never"
    bare_newline: str = "refuse"
    requiretls: bool = False

    def __hash__(self) -> int:
        """Hash what tells policies apart: all the rules would cost more than a lookup saves."""
        return hash((self.hostname, self.role, self.mechanisms))
