"""Who handed a message in, and the trace fields that say so: Received and Return-Path.

RFC 5321 section 4.4.  Nothing that a peer said enters them without having passed a grammar, and no
line of them begins with a dot, so they may stand before dot-stuffed content.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

from mailsvc.message import Address, Client, Envelope


def _keyword(protocol: str, *, utf8: bool, tls: bool, authenticated: bool) -> str:
    """Return the ``with`` keyword (RFC 3848; with SMTPUTF8, RFC 6531 section 4.3)."""
    if protocol == "SMTP":
        return "SMTP"
    base = ("UTF8LMTP" if utf8 else "LMTP") if protocol == "LMTP" else "ESMTP"
    if utf8 and base == "ESMTP":
        base = "UTF8SMTP"
    return base + ("S" if tls else "") + ("A" if authenticated else "")


@lru_cache(maxsize=1024)
def client_of(
    host: str,
    helo: str,
    protocol: str,
    tls_version: str,
    tls_cipher: str,
    utf8: bool,
    user: str | None,
) -> Client:
    """Return who hands a message in; that is the same for all messages of a connection.

    :param protocol: the keyword of RFC 3848 without its suffixes: ``SMTP``, ``ESMTP``, ``LMTP``.
    """
    return Client(
        host=host,
        helo=helo,
        protocol=_keyword(
            protocol, utf8=utf8, tls=bool(tls_version), authenticated=user is not None
        ),
        tls_version=tls_version,
        tls_cipher=tls_cipher,
        user=user,
    )


@lru_cache(maxsize=4)
def _date(second: int) -> str:
    """Return the date in RFC 5322 form; within a second all messages share it."""
    return format_datetime(datetime.fromtimestamp(second, UTC))


def literal(host: str) -> str:
    """Return an IP address as an address literal (RFC 5321 section 4.1.3)."""
    return f"[IPv6:{host}]" if ":" in host else f"[{host}]"


def received(envelope: Envelope, hostname: str) -> bytes:
    """Return the Received field for a message that ``hostname`` takes in, CRLF included.

    It names no recipient: others of the transaction may be blind copies.
    """
    client = envelope.client
    source = literal(client.host) if client.host else "local"
    tls = ""
    if client.tls_version:
        tls = f"\r\n\t(using {client.tls_version} with cipher {client.tls_cipher})"
    return (
        f"Received: from {client.helo or 'unknown'} ({source}){tls}\r\n"
        f"\tby {hostname} with {client.protocol} id {envelope.id};\r\n"
        f"\t{_date(int(envelope.received_at))}\r\n"
    ).encode()


def return_path(reverse_path: Address | None) -> bytes:
    """Return the Return-Path field for final delivery, CRLF included; ``<>`` for the null one."""
    return f"Return-Path: <{'' if reverse_path is None else reverse_path}>\r\n".encode()
