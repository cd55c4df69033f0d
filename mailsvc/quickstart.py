"""Settings from the command line alone: ``twistd -n mailsvc`` without a file."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from mailsvc.conversion import Fault
from mailsvc.destinations import make_destination
from mailsvc.errors import ConfigError
from mailsvc.interfaces import IDelivererFactory
from mailsvc.patterns import Expression, parse_pattern
from mailsvc.routing import Rule
from mailsvc.settings import (
    DEFAULT_SPOOL,
    Auth,
    Destination,
    Listener,
    RouteKeys,
    Settings,
)
from mailsvc.units import Words
from mailsvc.vetting import endpoint_fault, hostname_fault, is_loopback, url_fault

DEFAULT_LISTEN = "tcp:2525:interface=127.0.0.1"
DEFAULT_MAILDIR = "./maildir"


def quick(
    kinds: Mapping[str, IDelivererFactory],
    *,
    listen: Sequence[str] = (),
    webhook: str = "",
    secret_file: str = "",
    maildir: str = "",
    to: Sequence[str] = (),
    spool: str = "",
    auth: Sequence[str] = (),
    hostname: str = "",
) -> Settings:
    """Return the settings that options ask for; an empty one means its default.

    :param listen: endpoint strings (default: port 2525 of this machine, for this machine).
    :param webhook: a URL that gets each mail.  If its host is this machine, or an address, then
        mail may go there because it was asked for, whatever the egress guard refuses otherwise.
    :param secret_file: holds the secret that signs the webhook's requests; empty: none does.
    :param maildir: where mail is filed (default: ``./maildir``, unless there is a webhook).
    :param to: patterns of the addresses that are accepted (default: all).
    :param auth: strcred descriptions; with one, senders must log in.
    :param hostname: the service's own name (default: localhost).
    :raises ConfigError: with every option that cannot be used.
    """
    endpoints = tuple(listen) or (DEFAULT_LISTEN,)
    problems = [f"--listen: {fault}" for each in endpoints if (fault := endpoint_fault(each))]
    if hostname and (fault := hostname_fault(hostname)):
        problems.append(f"--hostname: {fault}")
    if webhook and (fault := url_fault(webhook)):
        problems.append(f"--webhook: {fault}")
    patterns = tuple(to) or ("*",)
    for pattern in patterns:
        try:
            if isinstance(parse_pattern(pattern, ("localhost",)), Expression):
                problems.append("--to: a regular expression needs a configuration file")
        except ValueError as error:
            problems.append(f"--to: {error}")
    if problems:
        raise ConfigError(*problems)
    if auth and not all(is_loopback(each) for each in endpoints):
        raise ConfigError(
            "--auth: passwords need TLS, and TLS a configuration file;"
            " without one, --listen must name a loopback address"
        )
    destinations = _destinations(kinds, webhook, secret_file, maildir)
    deliver = tuple(destinations)
    return Settings(
        hostname=hostname or "localhost",
        spool=spool or DEFAULT_SPOOL,
        listeners=tuple(Listener(each, role="submission" if auth else "mx") for each in endpoints),
        # What never leaves this machine needs no TLS.
        auth=Auth(checkers=tuple(auth), cleartext=bool(auth)),
        destinations=destinations,
        routes=(RouteKeys(to=Words(patterns), deliver=Words(deliver)),),
        rules=(Rule(patterns=patterns, destinations=deliver),),
        warnings=tuple(
            f"--listen: {each} may be reached by other machines, and takes mail from them"
            for each in endpoints
            if not is_loopback(each)
        ),
    )


def _destinations(
    kinds: Mapping[str, IDelivererFactory], webhook: str, secret_file: str, maildir: str
) -> dict[str, Destination]:
    tables: dict[str, dict[str, object]] = {}
    if webhook:
        tables["webhook"] = {
            "kind": "webhook",
            "url": webhook,
            "allow_networks": _asked_for(webhook),
            "secret_file": secret_file,
        }
    if maildir or not webhook:
        tables["maildir"] = {"kind": "maildir", "path": maildir or DEFAULT_MAILDIR}
    found = {}
    for name, table in tables.items():
        try:
            found[name] = make_destination(name, table, kinds)
        except Fault as fault:
            raise ConfigError(f"--{name}: {fault.text}") from None
    return found


def _asked_for(url: str) -> list[str]:
    """Return the networks that a URL of the command line asks for by itself.

    A name other than ``localhost`` asks for none: where it leads is its zone's decision.
    """
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return ["127.0.0.1", "::1"]  # RFC 6761 section 6.3
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return []
    return [] if address.is_link_local else [str(address)]
