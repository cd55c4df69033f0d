"""The grammar of names, paths and encoded words in commands.

Text here is what a command line holds, decoded as UTF-8 (RFC 6531 extends RFC 5321's grammar by
every non-ASCII character).  All quantifiers that could overlap are possessive: time is linear in
the length of the line.
"""

from __future__ import annotations

import binascii
import ipaddress
import re
from typing import Final

from mailsvc.message import Address

# Groups are atomic, (?>...), where they are not to be tried again: a possessive quantifier behind a
# group takes too much in Python before 3.11.5 (gh-106052).
# atext of RFC 5322 section 3.2.3, and UTF8-non-ascii (RFC 6531 section 3.3) without the control
# characters and line separators that Unicode has beyond ASCII.
_HIGH = "\u00a0-\u2027\u202a-\U0010ffff"
_ATEXT = rf"[A-Za-z0-9!#$%&'*+\-/=?^_`{{|}}~{_HIGH}]"
_DOT_STRING = rf"{_ATEXT}++(?>(?:\.{_ATEXT}++)*)"
# Quoted-string of RFC 5321 section 4.1.2: no control characters, not even quoted.
_QUOTED = rf'"(?>(?:[\x20\x21\x23-\x5b\x5d-\x7e{_HIGH}]|\\[\x20-\x7e])*)"'
# The underscore is no letter of RFC 5321, but is found in real host names.
_LABEL = rf"(?!-)[A-Za-z0-9_\-{_HIGH}]++(?<!-)"
_DOMAIN = rf"{_LABEL}(?>(?:\.{_LABEL})*)"
_LITERAL = r"\[[A-Za-z0-9.:]++\]"
_AT_DOMAIN = rf"@(?:{_DOMAIN}|{_LITERAL})"

_PATH = re.compile(
    rf"<({_AT_DOMAIN}(?>(?:,{_AT_DOMAIN})*):)?"
    rf"({_DOT_STRING}|{_QUOTED})@({_DOMAIN}|{_LITERAL})>"
)
_MAILBOX = re.compile(rf"({_DOT_STRING}|{_QUOTED})@({_DOMAIN}|{_LITERAL})")
_POSTMASTER = re.compile(r"<(postmaster)>", re.IGNORECASE | re.ASCII)
_HOST_NAME = re.compile(_DOMAIN, re.ASCII)
_QUOTED_PAIR = re.compile(r"\\(.)")

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_XTEXT_PAIR = re.compile(r"\+([0-9A-F]{2})")
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")

#: RFC 5321 section 4.5.3.1.2; a domain name cannot be longer in the DNS either.
_DOMAIN_OCTETS = 255
_LABEL_OCTETS: Final = 63
#: RFC 5321 section 4.5.3.1.1 asks for 64 at least, and for no limit where that is possible: long
#: local parts are found in return paths that carry the recipient.
_LOCAL_OCTETS = 256


class Path:
    """A path as MAIL and RCPT have it.

    :ivar address: None for the null path ``<>``.
    :ivar routed: whether a source route stood before the mailbox (RFC 5321 appendix C).
    :ivar end: the index in the text after the closing bracket.
    """

    __slots__ = ("address", "end", "routed")

    def __init__(self, address: Address | None, routed: bool, end: int) -> None:
        self.address = address
        self.routed = routed
        self.end = end


def parse_path(text: str, start: int) -> Path | None:
    """Return the path that begins at ``start`` (RFC 5321 section 4.1.2), or None."""
    opening = text[start : start + 2]
    if opening == "<>":
        return Path(None, False, start + 2)
    # Most are words with dots between them, which are found for an eighth of what _PATH takes.
    at, end = text.find("@", start), text.find(">", start)
    if opening[:1] == "<" and start < at < end:
        local, domain = text[start + 1 : at], text[at + 1 : end]
        if _is_plain(local) and _is_plain(domain) and len(local) + len(domain) <= _LABEL_OCTETS:
            return Path(Address(local, domain), False, end + 1)
    match = _PATH.match(text, start)
    if match is None:
        return None
    route, local, domain = match.groups()
    address = _mailbox(local, domain)
    return Path(address, route is not None, match.end()) if address is not None else None


def _is_plain(text: str) -> bool:
    """Say whether a text is ASCII letters and digits, with dots between them."""
    if not text.isascii():
        return False
    if text.isalnum():
        return True
    for word in text.split("."):  # noqa: SIM110 (a generator costs more than the words)
        if not word.isalnum():
            return False
    return True


def parse_postmaster(text: str, start: int) -> Path | None:
    """Return the bare ``<postmaster>`` of RFC 5321 section 4.5.1, in any case, or None."""
    match = _POSTMASTER.match(text, start)
    return Path(Address(match[1], ""), False, match.end()) if match is not None else None


def parse_mailbox(text: str) -> Address | None:
    """Return a mailbox without brackets, or None."""
    match = _MAILBOX.fullmatch(text)
    return _mailbox(match[1], match[2]) if match is not None else None


def _mailbox(local: str, domain: str) -> Address | None:
    """Return the mailbox of a local part and a domain that fit the grammar, if their sizes do."""
    if local[0] == '"':
        local = _QUOTED_PAIR.sub(r"\1", local[1:-1])
    if len(local) > _LOCAL_OCTETS // 4 and len(local.encode()) > _LOCAL_OCTETS:
        return None
    if not (_is_literal(domain) if domain[0] == "[" else _fits(domain)):
        return None
    return Address(local, domain)


def _fits(domain: str) -> bool:
    """Say whether the lengths of a domain name are possible (octets)."""
    if len(domain) * 4 <= _LABEL_OCTETS:
        return True
    return len(domain.encode()) <= _DOMAIN_OCTETS and all(
        len(label.encode()) <= _LABEL_OCTETS for label in domain.split(".")
    )


def _is_literal(text: str) -> bool:
    """Check an address literal in brackets: IPv4, or ``IPv6:`` (RFC 5321 section 4.1.3)."""
    inner = text[1:-1]
    try:
        if inner[:5].upper() == "IPV6:":
            ipaddress.IPv6Address(inner[5:])
        else:
            ipaddress.IPv4Address(inner)
    except ValueError:
        return False
    return True


def is_host(text: str) -> bool:
    """Check the argument of EHLO, HELO and LHLO: a host name or an address literal.

    It enters the Received field and the log, so nothing else passes (RFC 5321 section 4.1.1.1).  A
    name without a dot passes: many clients have no better one.
    """
    if text[:1] == "[":
        return text[-1:] == "]" and text.isascii() and _is_literal(text)
    return text.isascii() and _HOST_NAME.fullmatch(text) is not None and _fits(text)


def decode_xtext(text: str) -> str | None:
    """Return the decoded xtext (RFC 3461 section 4), or None if it is malformed.

    What it encodes must be printable ASCII: it is shown to people and put into header fields.
    """
    if _XTEXT.fullmatch(text) is None:
        return None
    decoded = _XTEXT_PAIR.sub(lambda match: chr(int(match[1], 16)), text)
    return decoded if decoded.isascii() and decoded.isprintable() else None


def decode_base64(text: bytes) -> bytes | None:
    """Return what strict base64 with padding encodes (RFC 4954 section 4), or None."""
    if _BASE64.fullmatch(text) is None:
        return None
    return binascii.a2b_base64(text)
