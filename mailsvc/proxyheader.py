"""The header of the PROXY protocol, versions 1 and 2: who is behind a load balancer.

Twisted parses the fields.  Where a header ends, how long it may be and which fields it may have is
decided here, so that it may come in any segments and the octets behind it are kept.  The protocol
is described in ``doc/proxy-protocol.txt`` of HAProxy; the sections named below are its.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress
from twisted.protocols.haproxy._exceptions import InvalidProxyHeader
from twisted.protocols.haproxy._v1parser import V1Parser
from twisted.protocols.haproxy._v2parser import V2Parser

#: Octets of a header of version 1 with its CRLF (section 2.1).
_LONGEST_TEXT = 107
#: Octets of a header of version 2 that are taken; addresses need 232, the rest is for extensions.
_LONGEST_BINARY = 4096

_TEXT = b"PROXY "
_FIXED = 16
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?")
_NAMED = re.compile(
    rb"PROXY (?:TCP4(?: [0-9.]+){2}|TCP6(?: [0-9A-Fa-f]*:[0-9A-Fa-f:.]*){2})(?: [0-9]{1,5}){2}"
)


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A whole header.

    :ivar host: the IP address of the client; None: the proxy speaks for itself, or does not know.
    :ivar rest: the octets behind the header.
    """

    host: str | None
    rest: bytes


def read_header(octets: bytes) -> ProxyHeader | None:
    """Return the header that ``octets`` begin with, or None while it is not whole.

    :param octets: all that has come so far.
    :raises ValueError: no header begins like this; the text says what is wrong with it.
    """
    if _begins(octets, _TEXT):
        return _text(octets)
    if _begins(octets, V2Parser.PREFIX):
        return _binary(octets)
    raise ValueError("is missing")


def _begins(octets: bytes, prefix: bytes) -> bool:
    return octets[: len(prefix)] == prefix[: len(octets)]


def _text(octets: bytes) -> ProxyHeader | None:
    """Read version 1 (section 2.1)."""
    line, end, rest = octets.partition(b"\r\n")
    if len(line) + 2 > _LONGEST_TEXT and (end or len(octets) >= _LONGEST_TEXT):
        raise ValueError("is too long")
    if not end:
        return None
    if _UNKNOWN.fullmatch(line):
        return ProxyHeader(None, rest)
    if not _NAMED.fullmatch(line):
        raise ValueError("is malformed")
    info = V1Parser.parse(line)
    for each in (info.source, info.destination):
        if isinstance(each, (IPv4Address, IPv6Address)) and each.port > 65_535:
            raise ValueError("is malformed")
    _host(info.destination)
    return ProxyHeader(_host(info.source), rest)


def _binary(octets: bytes) -> ProxyHeader | None:
    """Read version 2 (section 2.2)."""
    if len(octets) < _FIXED:
        return None
    length = _FIXED + int.from_bytes(octets[14:16])
    if length > _LONGEST_BINARY:
        raise ValueError("is too long")
    if len(octets) < length:
        return None
    try:
        info = V2Parser.parse(octets[:length])
    except (InvalidProxyHeader, KeyError):
        raise ValueError("is malformed") from None
    source = info.source
    if isinstance(source, (IPv4Address, IPv6Address)):
        if source.type != "TCP":
            raise ValueError("is not about TCP")
        return ProxyHeader(_host(source), octets[length:])
    # LOCAL, an unknown family, or a Unix socket on the proxy's machine: no address of a client.
    return ProxyHeader(None, octets[length:])


def _host(address: IAddress | None) -> str:
    """Return an IP address in its usual form.

    :raises ValueError: it is none.
    """
    try:
        return str(ip_address(getattr(address, "host", "")))
    except ValueError:
        raise ValueError("is malformed") from None
