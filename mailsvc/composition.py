"""Settings to parts: what a service is made of, and what a reload makes anew.

:class:`~mailsvc.machine.Machine` is what stays as long as the process; :func:`compose` makes all
that follows the configuration.  It reads files (secrets, certificates, users) and so may block.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from twisted.cred.checkers import ICredentialsChecker

from mailsvc import secretfile
from mailsvc.authentication import Authentication
from mailsvc.breaker import BreakerPolicy
from mailsvc.certificates import CertificateStore
from mailsvc.checkers import CertificateNames, PasswordChecker, make_checker
from mailsvc.configcheck import unaskable
from mailsvc.deliverers.webhook.deliverer import Webhook
from mailsvc.deliverers.webhook.egress import Guard
from mailsvc.deliverers.webhook.signing import Key
from mailsvc.destinations import make_deliverer, make_destination
from mailsvc.dispatch import Destination
from mailsvc.errors import ConfigError
from mailsvc.events import Alert, Emit
from mailsvc.interfaces import IDeliverer, IGroupDeliverer
from mailsvc.links import Links
from mailsvc.listener import AdmissionLimits
from mailsvc.machine import Context, Machine
from mailsvc.passwords import PasswordFile
from mailsvc.recipients import RecipientCheck
from mailsvc.routing import Router
from mailsvc.rules import Timers
from mailsvc.secretfile import Secret, SecretSource
from mailsvc.settings import POSTMASTER, Limits, Listener, RouteKeys, Settings
from mailsvc.smtp.policy import Policy

#: Attempts of a destination at the same time.
_CONCURRENCY = 10

#: Keys the salts of users that do not exist, so that they outlive a restart.
_SALT_SECRET = "unknown-users.secret"

#: Signs links to attachments; a line above it is the new key of a rotation.
_LINK_SECRET = "links.secret"


@dataclass(frozen=True, slots=True)
class Composition:
    """Everything that follows one configuration.

    :ivar checks: who is asked at RCPT, by the routes' ``check_url``.
    :ivar links: makes and checks links to attachments; None: no endpoint serves them.
    """

    settings: Settings
    router: Router
    checks: Mapping[str, RecipientCheck]
    authentication: Authentication
    certificates: CertificateStore | None
    destinations: Mapping[str, Destination]
    timers: Timers
    admission: AdmissionLimits
    links: Links | None

    def policy(self, listener: Listener) -> Policy:
        """Return what a listener's sessions allow."""
        limits = self.settings.limits
        authentication = self.authentication
        return Policy(
            hostname=self.settings.hostname,
            role=listener.role,
            message_size=limits.message_size,
            header_size=limits.header_size,
            recipients=limits.recipients,
            hops=limits.hops,
            bad_commands=limits.bad_commands,
            refused_recipients=limits.refused_recipients,
            failures=self.settings.auth.failures,
            messages=limits.messages,
            starttls=listener.tls == "starttls",
            mechanisms=authentication.mechanisms(True),
            cleartext_mechanisms=authentication.mechanisms(False),
            auth_required=listener.role == "submission",
            notifications=bool(self.settings.notifications.deliver),
            vrfy=listener.vrfy,
            bare_newline=listener.bare_newline,
            requiretls=listener.requiretls,
        )


def compose(settings: Settings, machine: Machine) -> Composition:
    """Make the parts of a configuration.

    :raises ConfigError: with every part that cannot be made, each with its place.
    """
    problems = [settings.problem(*fault) for fault in unaskable(settings)]
    router = Router(settings.rules, settings.hostname, POSTMASTER, settings.kinds)
    links = _links(settings, machine, problems)
    fallback = bool(router.falls_back)
    destinations = _destinations(settings, machine, problems, links, fallback=fallback)
    certificates = None
    if settings.tls.certificates:
        try:
            certificates = CertificateStore(
                *settings.tls.certificates,
                hostname=settings.hostname,
                client_ca=settings.tls.client_ca,
            )
        except ConfigError as error:
            problems += [settings.problem("tls", "certificates", each) for each in error.problems]
    checkers = _checkers(settings, machine, problems)
    if problems:
        raise ConfigError(*problems)
    limits = settings.limits
    return Composition(
        settings=settings,
        router=router,
        checks=_recipient_checks(settings, machine, destinations),
        authentication=Authentication(
            settings.hostname,
            checkers,
            clock=machine.reactor,
            in_thread=machine.logins.run,
            emit=machine.emit,
            penalties=machine.penalties,
            cleartext=settings.auth.cleartext,
            cram_md5=settings.auth.cram_md5,
            own_senders=settings.auth.own_senders,
        ),
        certificates=certificates,
        destinations=destinations,
        timers=_timers(limits),
        admission=admission_limits(limits),
        links=links,
    )


def _recipient_checks(
    settings: Settings, machine: Machine, destinations: Mapping[str, Destination]
) -> dict[str, RecipientCheck]:
    found: dict[str, list[RouteKeys]] = {}
    for route in settings.routes:
        if route.check_url:
            found.setdefault(route.check_url, []).append(route)
    return {
        url: RecipientCheck.of(
            url,
            # One URL is one place: what one route allows is allowed.
            Guard(
                any(route.allow_private for route in routes),
                tuple(network for route in routes for network in route.allow_networks),
            ),
            next((route.ca_file for route in routes if route.ca_file), ""),
            _keys(dict.fromkeys(name for route in routes for name in route.deliver), destinations),
            machine.reactor,
            machine.deliveries.run,
        )
        for url, routes in found.items()
    }


def _keys(names: Iterable[str], destinations: Mapping[str, Destination]) -> tuple[Key, ...]:
    """Return the keys that the webhooks among some destinations sign with."""
    deliverers = [destinations[name].deliverer for name in names]
    return tuple(key for each in deliverers if isinstance(each, Webhook) for key in each.keys)


def admission_limits(limits: Limits) -> AdmissionLimits:
    """Return how much all clients, and each address, may take."""
    return AdmissionLimits(
        limits.connections,
        limits.connections_per_address,
        limits.connection_rate or None,
        limits.command_rate or None,
    )


def _timers(limits: Limits) -> Timers:
    return Timers(
        command=limits.command_timeout,
        idle=limits.idle_timeout,
        content=limits.content_timeout,
        handshake=limits.handshake_timeout,
        auth=limits.auth_timeout,
        write=limits.write_timeout,
    )


def _concurrency(deliverer: IDeliverer) -> int:
    """Return how many attempts are under way at the same time where nobody says how many."""
    if IGroupDeliverer.providedBy(deliverer):
        return IGroupDeliverer(deliverer).group
    return _CONCURRENCY


def _destinations(
    settings: Settings,
    machine: Machine,
    problems: list[str],
    links: Links | None,
    *,
    fallback: bool,
) -> dict[str, Destination]:
    wanted = dict(settings.destinations)
    if fallback and POSTMASTER not in wanted:
        path = os.path.join(settings.spool, POSTMASTER)
        table = {"kind": "maildir", "path": path.replace("{", "{{").replace("}", "}}")}
        wanted[POSTMASTER] = make_destination(POSTMASTER, table, machine.kinds)
    made = {}
    for name, each in wanted.items():
        try:
            deliverer = make_deliverer(settings, each, Context(machine, settings, name, links))
        except ConfigError as error:
            problems += error.problems
            continue
        knobs = each.knobs
        made[name] = Destination(
            name=name,
            deliverer=deliverer,
            concurrency=knobs.concurrency or _concurrency(deliverer),
            rate=knobs.rate,
            schedule=tuple(knobs.schedule),
            timeout=knobs.timeout,
            breaker=BreakerPolicy(
                failures=knobs.breaker, first=knobs.breaker_time, longest=knobs.breaker_longest
            ),
        )
    return made


def _checkers(
    settings: Settings, machine: Machine, problems: list[str]
) -> list[ICredentialsChecker]:
    auth = settings.auth
    checkers: list[ICredentialsChecker] = []
    if auth.users:
        try:
            salt = _own_secrets(settings.spool, _SALT_SECRET)[0].reveal().encode()
            users = PasswordFile(auth.users, salt, auth.iterations)
            # It reports from the thread that it checks in.
            report = partial(machine.reactor.callFromThread, _alert, machine.emit)
            checkers.append(PasswordChecker(users, report))
        except ConfigError as error:
            problems += [settings.problem("auth", "users", each) for each in error.problems]
    for description in auth.checkers:
        try:
            checkers.append(make_checker(description))
        except ConfigError as error:
            problems += [settings.problem("auth", "checkers", each) for each in error.problems]
    if settings.tls.client_ca:
        checkers.append(CertificateNames())
    return checkers


def _alert(emit: Emit, text: str) -> None:
    emit(Alert(text))


def _links(settings: Settings, machine: Machine, problems: list[str]) -> Links | None:
    http = settings.http
    if not http.endpoint:
        return None
    try:
        secrets = _own_secrets(settings.spool, _LINK_SECRET)
    except ConfigError as error:
        problems += [settings.problem("http", "endpoint", each) for each in error.problems]
        return None
    now = machine.reactor.seconds
    return Links(http.base_url, secrets, http.attachment_ttl, now, machine.retention.retain)


def _own_secrets(directory: str, name: str) -> tuple[Secret, ...]:
    """Return the secrets of a file in the spool's directory, which is made if it is missing."""
    path = os.path.join(directory, name)
    if os.path.exists(path):
        return secretfile.load(SecretSource(file=path)).secrets
    os.makedirs(directory, mode=0o700, exist_ok=True)
    return (secretfile.make_secret(path),)
