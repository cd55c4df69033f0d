"""Recipient to destinations: the first route that matches wins.

Patterns that name an address or a domain are looked up, not tried one by one, so that the work for
a recipient does not grow with their number; only regular expressions are tried in turn, those of
the recipient's domain alone.  See :mod:`mailsvc.patterns` for what a pattern can be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from msgspec import structs
from zope.interface import classImplements

from mailsvc.errors import Refused
from mailsvc.interfaces import IRouter, ISender
from mailsvc.message import Address, Reply, Route
from mailsvc.patterns import (
    Domain,
    Everything,
    Exact,
    Expression,
    Pattern,
    Postmaster,
    SubDomains,
    Tagged,
    canonical_domain,
    canonical_local,
    captured,
    domains_above,
    parse_address,
    parse_pattern,
    tag_of,
)

#: Characters that ask a server to send a mail on: a%b@c, a!b, "a@b"@c (requirement 15).
_RELAYING = frozenset("%!@")

_NOT_OURS = Reply(550, "This server takes no mail for that domain", "5.7.1")
_NO_RELAY = Reply(550, "This server does not send mail on to other servers", "5.7.1")
_NO_MAILBOX = Reply(550, "There is no such mailbox here", "5.1.1")
_NEEDS_AUTH = Reply(530, "This recipient takes mail from authenticated senders only", "5.7.0")


@dataclass(frozen=True, slots=True)
class Rule:
    """One route of the configuration.

    :ivar patterns: as the operator wrote them.
    :ivar destinations: names, in order.
    :ivar domains: those that a regular expression among the patterns speaks for.
    :ivar place: ``FILE:LINE`` of the route, for people.
    """

    patterns: tuple[str, ...]
    destinations: tuple[str, ...]
    max_size: int | None = None
    auth_required: bool = False
    sync: bool = False
    check_url: str = ""
    domains: tuple[str, ...] = ()
    place: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One pattern of one rule.

    :ivar order: the patterns' order in the file; the lowest that matches wins.
    :ivar route: the answer for an address without a tag.
    """

    order: int
    pattern: Pattern
    route: Route
    rule: Rule


#: A matched entry, with the tag that its pattern captured.
Match = tuple[Entry, str]


def entries_of(rules: Sequence[Rule]) -> tuple[Entry, ...]:
    """Return the patterns of all rules in order.

    :raises ValueError: one of them is no pattern.
    """
    found: list[Entry] = []
    for rule in rules:
        destinations = tuple(dict.fromkeys(rule.destinations))
        for text in rule.patterns:
            route = Route(
                name=text,
                destinations=destinations,
                max_size=rule.max_size,
                auth_required=rule.auth_required,
                sync=rule.sync,
                check_url=rule.check_url,
            )
            found.append(Entry(len(found), parse_pattern(text, rule.domains), route, rule))
    return tuple(found)


class Router:
    """The routes of one configuration.

    :param rules: in the order in which they are tried.
    :param hostname: an own domain, too.
    :param postmaster: the destination of postmaster's mail that no route takes (requirement 14);
        empty where there is none: then that mail is refused.
    :param kinds: the kind of each destination by name, for :meth:`explain`.
    :raises ValueError: a pattern is none, or a regular expression names no domains.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        hostname: str,
        postmaster: str = "postmaster",
        kinds: Mapping[str, str] | None = None,
    ) -> None:
        self._kinds = dict(kinds or {})
        self._fallback = (
            Route(name="postmaster (no route)", destinations=(postmaster,)) if postmaster else None
        )
        self._hostname = canonical_domain(hostname)
        self._own = {self._hostname}
        self._exact: dict[tuple[str, str], Entry] = {}
        self._tagged: dict[tuple[str, str], Entry] = {}
        self._domains: dict[str, Entry] = {}
        self._parents: dict[str, Entry] = {}
        self._expressions: dict[str, list[tuple[Entry, Expression]]] = {}
        self._postmaster: Entry | None = None
        self._everything: Entry | None = None
        for entry in entries_of(rules):
            self.add(entry)

    def covering(self, pattern: Pattern) -> Entry | None:
        """Return what takes all that ``pattern`` matches, or None if something is left to it."""
        match pattern:
            case Exact(local, domain) | Tagged(local, domain):
                found = (
                    self._exact.get((local, domain))
                    if isinstance(pattern, Exact)
                    else self._tagged.get((local, domain))
                )
                # A broad pattern takes no local part that asks for relaying.
                if found is not None or not _RELAYING.isdisjoint(local):
                    return found
                return self._covering_domain(domain)
            case Domain(domain):
                return self._covering_domain(domain)
            case SubDomains(domain):
                above = [self._parents.get(each) for each in (domain, *domains_above(domain))]
                return next((entry for entry in above if entry), self._everything)
            case Postmaster():
                return self._postmaster or self._everything
            case Everything():
                return self._everything
            case Expression():
                return None

    def _covering_domain(self, domain: str) -> Entry | None:
        above = [
            self._domains.get(domain),
            *(self._parents.get(each) for each in domains_above(domain)),
        ]
        return next((entry for entry in above if entry), self._everything)

    def add(self, entry: Entry) -> None:
        """Let an entry be tried behind those that are there."""
        match entry.pattern:
            case Exact(local, domain):
                self._exact.setdefault((local, domain), entry)
                self._own.add(domain)
            case Tagged(local, domain):
                self._tagged.setdefault((local, domain), entry)
                self._own.add(domain)
            case Domain(domain):
                self._domains.setdefault(domain, entry)
                self._own.add(domain)
            case SubDomains(domain):
                self._parents.setdefault(domain, entry)
            case Expression(_, domains) as expression:
                for domain in domains:
                    self._expressions.setdefault(domain, []).append((entry, expression))
                self._own |= domains
            case Postmaster():
                self._postmaster = self._postmaster or entry
            case Everything():
                self._everything = self._everything or entry

    @property
    def own_domains(self) -> frozenset[str]:
        """Return the domains that the routes name, and the hostname: lower-case A-labels."""
        return frozenset(self._own)

    @property
    def parent_domains(self) -> frozenset[str]:
        """Return the domains whose sub-domains are own."""
        return frozenset(self._parents)

    @property
    def owns_everything(self) -> bool:
        """Say whether there is a catch-all."""
        return self._everything is not None

    @property
    def falls_back(self) -> tuple[str, ...]:
        """Return the addresses of postmaster that no route takes, so that the start can say so."""
        bare = Address("postmaster", "")
        addresses = [bare, *(Address("postmaster", domain) for domain in sorted(self._own))]
        return tuple(str(each) for each in addresses if self._open_match(each) is None)

    def owns(self, domain: str) -> bool:
        """Say whether mail for ``domain`` is ours to judge; empty: the bare ``postmaster``."""
        return self._owns(canonical_domain(domain)) if domain else True

    def _owns(self, domain: str) -> bool:
        if domain in self._own or self._everything is not None:
            return True
        return any(parent in self._parents for parent in domains_above(domain))

    def route(self, address: Address, sender: ISender) -> Route:
        """Return the first route that matches.  See :class:`~mailsvc.interfaces.IRouter`."""
        return self.find(address, authenticated=sender.identity is not None)

    def find(self, address: Address, *, authenticated: bool) -> Route:
        """Return the route of ``address``, at once.

        :raises Refused: with the reply for RCPT.
        """
        found = self._match(address)
        if found is None:
            if is_postmaster(address) and (not address.domain or self.owns(address.domain)):
                return self._postmaster_route(address)
            raise Refused(self._refusal(address))
        entry, tag = found
        route = entry.route
        if route.auth_required and not authenticated:
            if is_postmaster(address):
                return self._postmaster_route(address)
            raise Refused(_NEEDS_AUTH)
        return structs.replace(route, tag=tag) if tag else route

    def _postmaster_route(self, address: Address) -> Route:
        """Return where postmaster's mail goes that its own route does not take.

        RFC 5321 section 4.5.1: from anyone, whatever else is refused.
        """
        entry = self._everything
        if entry is not None and not entry.route.auth_required:
            return entry.route
        if self._fallback is None:
            raise Refused(_NO_MAILBOX)
        return self._fallback

    def _open_match(self, postmaster: Address) -> Entry | None:
        """Return the entry that takes an anonymous sender's mail for postmaster."""
        found = self._match(postmaster)
        if found is not None and not found[0].route.auth_required:
            return found[0]
        entry = self._everything
        return entry if entry is not None and not entry.route.auth_required else None

    def _match(self, address: Address) -> Match | None:
        """Return the first entry that matches, or None; whether a refusal follows is not asked."""
        local = canonical_local(address.local)
        domain = canonical_domain(address.domain) if address.domain else self._hostname
        if not domain:
            return None
        best = self._exact.get((local, domain))
        if not _RELAYING.isdisjoint(local):
            return None if best is None else (best, "")
        for entry in self._candidates(local, domain):
            if best is None or entry.order < best.order:
                best = entry
        for entry, expression in self._expressions.get(domain, ()):
            if best is not None and entry.order > best.order:
                break
            found = expression.match(address, domain)
            if found is not None:
                return entry, captured(expression, found, address.local)
        return None if best is None else (best, tag_of(address.local))

    def _candidates(self, local: str, domain: str) -> Iterator[Entry]:
        """Yield what matches, of each kind of pattern that can be looked up, the first."""
        base, plus, _ = local.partition("+")
        if plus and (entry := self._tagged.get((base, domain))):
            yield entry
        if entry := self._domains.get(domain):
            yield entry
        if self._parents:
            for parent in domains_above(domain):
                if entry := self._parents.get(parent):
                    yield entry
        if self._postmaster and local == "postmaster" and self._owns(domain):
            yield self._postmaster
        if self._everything:
            yield self._everything

    def _refusal(self, address: Address) -> Reply:
        if not _RELAYING.isdisjoint(address.local):
            return _NO_RELAY
        if address.domain and not self.owns(address.domain):
            return _NOT_OURS
        return _NO_MAILBOX

    def explain(self, address: Address | str) -> list[str]:
        """Return, in lines for people, what would happen to mail for ``address``."""
        if isinstance(address, str):
            try:
                address = parse_address(address)
            except ValueError as error:
                return [str(error)]
        found = self._match(address)
        try:
            route = self.find(address, authenticated=True)
        except Refused as refused:
            return [f"{address} is refused: {refused.reply}", self._why(address)]
        if found is None:
            lines = [f"{address} is taken as RFC 5321 asks for postmaster; no route names it"]
        else:
            place = f" ({found[0].rule.place})" if found[0].rule.place else ""
            lines = [f"{address} matches the route {route.name}{place}"]
        return [*lines, *self._details(address, route)]

    def _details(self, address: Address, route: Route) -> Iterator[str]:
        for name in route.destinations:
            kind = self._kinds.get(name)
            yield f"delivered to {name} ({kind})" if kind else f"delivered to {name}"
        if route.tag:
            yield f"tag: {route.tag}"
        if route.max_size is not None:
            yield f"a message may have at most {route.max_size} octets"
        if route.sync:
            yield "the destination's answer decides the reply to the sender"
        if route.check_url:
            # What follows a question mark may be a secret.
            where = route.check_url.partition("?")[0]
            yield f"{where} is asked first whether the recipient exists"
        if route.auth_required:
            yield self._without_auth(address)

    def _without_auth(self, address: Address) -> str:
        try:
            route = self.find(address, authenticated=False)
        except Refused as refused:
            return f"senders that are not authenticated are refused: {refused.reply}"
        names = ", ".join(route.destinations)
        return f"mail of senders that are not authenticated is delivered to {names}"

    def _why(self, address: Address) -> str:
        if not _RELAYING.isdisjoint(address.local):
            return "%, ! and @ in a local part ask for relaying; only an exact route can allow them"
        if self.owns(address.domain):
            return f"{address.domain} is an own domain, but no route matches"
        known = sorted(self._own) + [f"*.{parent}" for parent in sorted(self._parents)]
        more = f" and {len(known) - 10} more" if len(known) > 10 else ""
        return f"the own domains are {', '.join(known[:10])}{more}"


classImplements(Router, IRouter)


def is_postmaster(address: Address) -> bool:
    """Say whether an address is postmaster's, in any domain (RFC 5321 section 4.5.1)."""
    return address.local.lower() == "postmaster"


def shadowed(rules: Sequence[Rule]) -> Iterator[tuple[int, str, Entry]]:
    """Yield each pattern that an earlier one leaves nothing to: number of its rule, text, by whom.

    Regular expressions are not judged.
    """
    router = Router((), "", "")
    number = {id(rule): index for index, rule in enumerate(rules)}
    for entry in entries_of(rules):
        by = router.covering(entry.pattern)
        if by is not None:
            yield number[id(entry.rule)], entry.route.name, by
        router.add(entry)
