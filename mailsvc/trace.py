"""The trace fields that mailsvc writes (RFC 5321 section 4.4): Received and Return-Path.

Nothing that a peer said enters them without having passed a grammar, and no line of them begins
with a dot, so they may stand before dot-stuffed content.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

from mailsvc.message import Address, Envelope


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
