"""What only a look at the machine can tell about settings: files, directories, checkers."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mailsvc import certificates, passwords
from mailsvc.checkers import make_checker
from mailsvc.deliverers.stable import obstacle
from mailsvc.deliverers.webhook.target import target, tls_creator
from mailsvc.destinations import make_deliverer
from mailsvc.errors import ConfigError
from mailsvc.events import Emit, Event
from mailsvc.interfaces import IContent, IDelivererContext
from mailsvc.parsed import ParsedMail
from mailsvc.settings import Settings
from mailsvc.vetting import endpoint_parts, url_fault

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Findings:
    """What a check found, each a whole line with its place.

    :ivar problems: the service cannot start, or not do its work.
    :ivar warnings: it can, but somebody should look.
    """

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def check(
    settings: Settings, reactor: IReactorTime, now: Callable[[], float] = time.time
) -> Findings:
    """Look at everything that the settings name; blocking, and nothing is written.

    :param reactor: lent to the deliverers that are made to see whether their options can work; it
        need not run.
    :param now: seconds since the epoch, to judge certificates by.
    """
    problems = [
        settings.problem(section, key, text)
        for part in (unaskable, _spool, _users, _sockets)
        for section, key, text in part(settings)
    ]
    deliverers = _deliverers(settings, reactor)
    problems += deliverers.problems
    warnings = [*settings.warnings, *deliverers.warnings]
    warnings += [settings.problem(*doubt) for doubt in _not_there_yet(settings)]
    if settings.tls.certificates:
        try:
            store = certificates.load(
                settings.tls.certificates, settings.hostname, settings.tls.client_ca
            )
        except ConfigError as error:
            problems += [settings.problem("tls", "certificates", text) for text in error.problems]
        else:
            warnings += [
                settings.problem("tls", "certificates", text) for text in store.warnings(now())
            ]
    return Findings(tuple(problems), tuple(warnings))


_Fault = tuple[str, str, str]


def unaskable(settings: Settings) -> Iterator[_Fault]:
    """Yield each ``check_url`` that no request can be sent to.  Blocking: it reads ``ca_file``."""
    trusted: dict[str, str] = {}
    for index, route in enumerate(settings.routes):
        section = f"route.{index}"
        if not route.check_url or url_fault(route.check_url):
            continue  # what is wrong with it was said when the file was read
        try:
            where = target(route.check_url)
        except ConfigError as error:
            yield section, "check_url", str(error).removeprefix("url: ")
            continue
        if not route.ca_file:
            continue
        if trusted.setdefault(route.check_url, route.ca_file) != route.ca_file:
            yield section, "ca_file", "another route names another one for the same check_url"
            continue
        try:
            tls_creator(where.host, route.ca_file)
        except ConfigError as error:
            yield section, "ca_file", str(error).removeprefix("ca_file: ")


def _spool(settings: Settings) -> Iterator[_Fault]:
    """The directory is made at the start if its parent can be written to."""
    fault = obstacle(settings.spool)
    if fault:
        yield "", "spool", fault


def _users(settings: Settings) -> Iterator[_Fault]:
    if settings.auth.users:
        try:
            passwords.read(settings.auth.users)
        except ConfigError as error:
            text = "; ".join(error.problems)
            if not os.path.exists(settings.auth.users):
                text += "; `mailsvc passwd --config FILE add USER` makes it"
            yield "auth", "users", text
    for description in settings.auth.checkers:
        try:
            make_checker(description)
        except ConfigError as error:
            yield "auth", "checkers", str(error)


def _sockets(settings: Settings) -> Iterator[_Fault]:
    for section, directory in _socket_directories(settings):
        if os.path.lexists(directory) and (fault := obstacle(directory)):
            yield section, "endpoint", fault


def _not_there_yet(settings: Settings) -> Iterator[_Fault]:
    """A directory for a socket may be there only while the service runs (``RuntimeDirectory=``)."""
    for section, directory in _socket_directories(settings):
        if not os.path.lexists(directory):
            text = f"there is no directory {directory} now; the service does not make it"
            yield section, "endpoint", text


def _socket_directories(settings: Settings) -> Iterator[tuple[str, str]]:
    for index, listener in enumerate(settings.listeners):
        words, keys = endpoint_parts(listener.endpoint)
        if words[0] == "unix":
            path = keys.get("address", words[1] if len(words) > 1 else "")
            yield f"listener.{index}", os.path.dirname(os.path.abspath(path))


def _deliverers(settings: Settings, reactor: IReactorTime) -> Findings:
    """Make each destination's deliverer, as the start does; none of them delivers anything."""
    problems: list[str] = []
    warnings: list[str] = []
    for name, destination in settings.destinations.items():
        section = f"destination.{name}"

        def emit(event: Event, name: str = name, section: str = section) -> None:
            text = event.text().removeprefix(f"destination {name}: ")
            warnings.append(settings.problem(section, "", text))

        try:
            make_deliverer(settings, destination, _Lent(settings, name, reactor, emit))
        except ConfigError as error:
            if isinstance(error.__cause__, _NotLent):
                text = f"could not be tried without a server: {error.__cause__}"
                warnings.append(settings.problem(section, "", text))
            else:
                problems += error.problems
    return Findings(tuple(problems), tuple(warnings))


class _NotLent(Exception):
    """A deliverer wants, while it is made, what only a running service has."""


@implementer(IDelivererContext)
class _Lent:
    """What a deliverer is lent that is made, but never delivers."""

    links = None

    def __init__(self, settings: Settings, name: str, reactor: IReactorTime, emit: Emit) -> None:
        self.name = name
        self.hostname = settings.hostname
        self.directory = settings.spool
        self.reactor = reactor
        self.emit = emit

    def in_thread(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[T]:
        """Refuse: see :class:`mailsvc.interfaces.IDelivererContext`."""
        raise _NotLent("no threads are lent while a configuration is checked")

    def parse(self, content: IContent) -> Awaitable[ParsedMail]:
        """Refuse: see :class:`mailsvc.interfaces.IDelivererContext`."""
        raise _NotLent("no mail is parsed while a configuration is checked")

    def parsed(self, content: IContent, function: Callable[[ParsedMail], T]) -> Awaitable[T]:
        """Refuse: see :class:`mailsvc.interfaces.IDelivererContext`."""
        raise _NotLent("no mail is parsed while a configuration is checked")
