"""The patterns of routes: their grammar, and the canonical forms in which addresses compare.

A pattern is one of

``user@example.com``
    that address, in any case; a plus-tag needs its own pattern.
``user+*@example.com``
    that user with any plus-tag.
``example.com`` or ``*@example.com``
    every address of the domain.
``*.example.com`` or ``*@*.example.com``
    every address of its sub-domains, at any depth, without the domain itself.
``/regular expression/``
    what matches it as a whole, within the route's ``domains``.
``postmaster``
    postmaster without a domain and at each own domain.
``*``
    everything.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import idna

from mailsvc.message import Address

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')

#: RFC 3696 errata 1690 allow 254 octets; with brackets and in other people's software, 320.
LONGEST_ADDRESS = 320

_LONGEST_DOMAIN = 255


@dataclass(frozen=True, slots=True)
class Exact:
    """One address; ``local`` and ``domain`` are canonical."""

    local: str
    domain: str


@dataclass(frozen=True, slots=True)
class Tagged:
    """One user with any plus-tag; ``local`` is what stands before the plus."""

    local: str
    domain: str


@dataclass(frozen=True, slots=True)
class Domain:
    """Every address of a domain."""

    domain: str


@dataclass(frozen=True, slots=True)
class SubDomains:
    """Every address of the sub-domains of ``domain``."""

    domain: str


@dataclass(frozen=True, slots=True)
class Expression:
    """What ``regex`` matches as a whole, within ``domains``."""

    regex: re.Pattern[str]
    domains: frozenset[str]

    def match(self, address: Address, domain: str) -> re.Match[str] | None:
        """Match an address whose canonical domain is ``domain``.

        The expression may be written for the ASCII form of a domain or for the Unicode one.
        Its work is bounded by the length of an address.
        """
        for form in dict.fromkeys((domain, unicode_domain(domain))):
            text = f"{address.local}@{form}"
            if len(text) <= LONGEST_ADDRESS:
                found = self.regex.fullmatch(text)
                if found is not None:
                    return found
        return None


@dataclass(frozen=True, slots=True)
class Postmaster:
    """Postmaster without a domain, and at each own domain."""


@dataclass(frozen=True, slots=True)
class Everything:
    """Every address of every domain."""


Pattern = Exact | Tagged | Domain | SubDomains | Expression | Postmaster | Everything


def parse_pattern(text: str, domains: Sequence[str] = ()) -> Pattern:
    """Return the meaning of a pattern.

    :param domains: what a regular expression speaks for.
    :raises ValueError: it is none; the message says why, for people.
    """
    if text != text.strip():
        raise ValueError(f"{text!r}: spaces before or behind a pattern")
    if text.startswith("/"):
        return _expression(text, domains)
    if text == "*":
        return Everything()
    if text.lower() == "postmaster":
        return Postmaster()
    local, at, domain = _split(text)
    if not at:
        if "." not in text and not text.startswith("["):
            raise ValueError(
                f"{text!r} is no pattern; write an address, a domain, *@domain or /expression/"
            )
        local = "*"
    if domain.startswith("*."):
        if local != "*":
            raise ValueError(f"{text!r}: write *@{domain} for every address of the sub-domains")
        return SubDomains(_plain_domain(text, domain[2:]))
    domain = _plain_domain(text, domain)
    if at and local == "*":
        return Domain(domain)
    if not at:
        return Domain(domain)
    quoted = _QUOTED.fullmatch(local)
    if quoted is not None:
        return Exact(canonical_local(re.sub(r"\\(.)", r"\1", quoted[1])), domain)
    if '"' in local or re.search(r"[\s<>()\[\]:;,\\]", local) or not local:
        raise ValueError(f"{text!r}: the part before the @ needs quotes, or is empty")
    if local.endswith("+*") and "*" not in local[:-1] and len(local) > 2:
        return Tagged(canonical_local(local[:-2]), domain)
    if "*" in local:
        raise ValueError(
            f"{text!r}: * stands for a whole local part or for a plus-tag (user+*@...);"
            " write a regular expression between slashes for more"
        )
    return Exact(canonical_local(local), domain)


def parse_address(text: str) -> Address:
    """Return the address that a person wrote, with or without angle brackets and quotes.

    :raises ValueError: it is none; the message says why, for people.
    """
    bare = text.strip()
    if bare.startswith("<") and bare.endswith(">"):
        bare = bare[1:-1]
    if bare.lower() == "postmaster":
        return Address(bare, "")
    local, at, domain = _split(bare)
    quoted = _QUOTED.fullmatch(local)
    if quoted is not None:
        local = re.sub(r"\\(.)", r"\1", quoted[1])
    if not at or not local or not domain or re.search(r"\s", domain):
        raise ValueError(f"{text!r} is not an address; write user@example.com")
    return Address(local, domain)


def canonical_local(local: str) -> str:
    """Return the form in which local parts compare: without regard to case."""
    if local.isascii():
        return local.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", local).casefold())


def canonical_domain(domain: str) -> str:
    """Return the form in which domains compare: lower-case A-labels, or a normalised literal.

    A domain that cannot exist comes back as the empty text, which no pattern names.
    """
    if len(domain) > _LONGEST_DOMAIN:
        return ""
    if domain.startswith("["):
        return _canonical_literal(domain)
    if domain.isascii():
        return domain.lower()
    try:
        # RFC 5891 section 5 with the mapping of UTS 46, as people type domains.
        return idna.encode(domain, uts46=True).decode("ascii").lower()
    except UnicodeError:
        return ""


def unicode_domain(domain: str) -> str:
    """Return the U-label form of a canonical domain, or the domain if it has none."""
    if "xn--" not in domain:
        return domain
    try:
        return idna.decode(domain)
    except UnicodeError:
        return domain


def tag_of(local: str) -> str:
    """Return the plus-tag of a local part: what follows its first plus, unless nothing precedes."""
    position = local.find("+")
    return local[position + 1 :] if position > 0 else ""


def _split(text: str) -> tuple[str, str, str]:
    """Split at the @ that separates local part and domain; a quoted local part may hold others."""
    local, at, domain = text.rpartition("@")
    return (local, at, domain) if at else ("", "", text)


def _canonical_literal(domain: str) -> str:
    """Return an address literal (RFC 5321 section 4.1.3) in its shortest form."""
    inside = domain[1:-1].lower() if domain.endswith("]") else ""
    try:
        if inside.startswith("ipv6:"):
            return f"[ipv6:{ipaddress.IPv6Address(inside[5:]).compressed}]"
        return f"[{ipaddress.IPv4Address(inside)}]"
    except ValueError:
        return f"[{inside}]" if ":" in inside else ""


def _plain_domain(text: str, domain: str) -> str:
    """Return the canonical form of a pattern's domain."""
    canonical = canonical_domain(domain)
    if not canonical or not (canonical.startswith("[") or _is_domain(canonical)):
        raise ValueError(f"{text!r}: {domain!r} is not a domain")
    return canonical


def _is_domain(domain: str) -> bool:
    return all(_LABEL.fullmatch(label) for label in domain.split("."))


def _expression(text: str, domains: Sequence[str]) -> Expression:
    if len(text) < 3 or not text.endswith("/"):
        raise ValueError(f"{text!r}: a regular expression stands between two slashes")
    if not domains:
        raise ValueError(
            f"{text!r}: a regular expression needs the key domains, which says whose addresses"
            ' it may take, such as domains = ["example.com"]'
        )
    try:
        regex = re.compile(text[1:-1], re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from None
    return Expression(regex, frozenset(_plain_domain(domain, domain) for domain in domains))


def domains_above(domain: str) -> Iterator[str]:
    """Yield the domains above ``domain``, the nearest first."""
    position = domain.find(".")
    while position >= 0:
        yield domain[position + 1 :]
        position = domain.find(".", position + 1)


def captured(expression: Expression, found: re.Match[str], local: str) -> str:
    """Return what the group ``tag`` captured, else the first group, else the plus-tag."""
    if not expression.regex.groups:
        return tag_of(local)
    group: str | int = "tag" if "tag" in expression.regex.groupindex else 1
    return found[group] or ""
