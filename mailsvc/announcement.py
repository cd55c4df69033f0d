"""What a start and a reload say: where mail comes in, where it goes, and a line to try it with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress

from mailsvc.errors import Refused
from mailsvc.message import Address
from mailsvc.routing import Router
from mailsvc.settings import Listener, Settings

#: An address that a shell takes as it is.
_PLAIN = re.compile(r"[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+")


@dataclass(frozen=True, slots=True)
class Listening:
    """A listener and the address that it is bound to."""

    listener: Listener
    address: IAddress


def announcement(
    settings: Settings, router: Router, listening: Sequence[Listening]
) -> Iterator[str]:
    """Yield the lines."""
    for each in listening:
        yield f"listening on {where(each.address)} ({_describe(each.listener)})"
    for rule in settings.rules:
        places = ", ".join(settings.destinations[name].describe() for name in rule.destinations)
        to = ", ".join("any address" if each == "*" else each for each in rule.patterns)
        yield f"mail for {to} goes to {places}"
    if router.falls_back:
        yield (
            f"mail for postmaster at {', '.join(router.falls_back)}, which no route takes, goes to"
            f" a maildir in {settings.spool}"
        )
    yield from _try_line(listening, _example(settings, router))


def where(address: IAddress) -> str:
    """Return an address as ``HOST:PORT``, or a Unix socket's path."""
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    other: Any = address
    return other.name.decode() if isinstance(other.name, bytes) else str(other.name)


def _describe(listener: Listener) -> str:
    tls = {"none": "no TLS", "starttls": "STARTTLS", "implicit": "TLS"}[listener.tls]
    return f"{listener.role}, {tls}"


def _example(settings: Settings, router: Router) -> str | None:
    """Return an address that a route takes from anybody, or None if none is plain to see."""
    patterns = [pattern for rule in settings.rules for pattern in rule.patterns]
    candidates = [f"you@{settings.hostname}"]
    candidates += [f"you{each[1:]}" if each.startswith("*@") else each for each in patterns]
    candidates += [f"you@{each}" for each in patterns]
    for candidate in candidates:
        if _PLAIN.fullmatch(candidate):
            local, _, domain = candidate.partition("@")
            with suppress(Refused):
                router.find(Address(local, domain), authenticated=False)
                return candidate
    return None


def _try_line(listening: Sequence[Listening], recipient: str | None) -> Iterator[str]:
    """Yield a command that sends a mail to the first listener that takes one as it is."""
    for each in listening if recipient else ():
        address = each.address
        if each.listener.role == "mx" and isinstance(address, (IPv4Address, IPv6Address)):
            host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
            if each.listener.proxy.cover(host):
                # From this machine it wants a PROXY header first.
                continue
            scheme = "smtps" if each.listener.tls == "implicit" else "smtp"
            yield (
                "try: printf 'Subject: hello\\n\\nIt works.\\n' | curl --crlf -T -"
                f" {scheme}://{f'[{host}]' if ':' in host else host}:{address.port}"
                f" --mail-from me@example.com --mail-rcpt {recipient}"
            )
            return
