"""The service: opens the spool, listens, delivers, reloads and stops; the composition root."""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from random import SystemRandom
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IListeningPort
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from mailsvc import ports
from mailsvc.announcement import Listening, announcement, where
from mailsvc.batch import Batch
from mailsvc.composition import Composition, compose
from mailsvc.control.server import Control
from mailsvc.dispatch import Dispatcher
from mailsvc.errors import ConfigError, MailsvcError
from mailsvc.events import Alert, Broke, Notice, Paused, StartFailed
from mailsvc.intake import Intake
from mailsvc.interfaces import IClosing
from mailsvc.listener import Admission, SMTPFactory
from mailsvc.machine import Machine
from mailsvc.notices import Notices
from mailsvc.readers import Readers
from mailsvc.recipients import CheckedRouter
from mailsvc.rules import Rules
from mailsvc.serving import Serving
from mailsvc.settings import Listener, Settings
from mailsvc.spool.embedded import EmbeddedSpool
from mailsvc.spool.view import SpoolLimits
from mailsvc.synchronous import Synchronous

#: Written by whoever runs the service, readable by nobody else (requirement 46).
_UMASK = 0o077


@dataclass(slots=True)
class Bound:
    """A listener that is bound.

    :ivar port: accepts only once :meth:`accept` was called.
    """

    listener: Listener
    factory: SMTPFactory
    port: IListeningPort

    def accept(self) -> None:
        """Begin to take connections."""
        ports.accept(self.port)

    @property
    def where(self) -> str:
        """Return the address, for people."""
        return where(self.port.getHost())


class MailService(MultiService):
    """mailsvc as a Twisted service.

    :param composition: the parts of the first configuration.
    :param load: reads the configuration again, for :meth:`reload`; blocking.
    :param broken: the plugin modules that could not be imported, each as a text with its cause.
    :param observer: replaces twistd's own log observer, if given.
    """

    def __init__(
        self,
        machine: Machine,
        composition: Composition,
        load: Callable[[], Settings],
        broken: Sequence[object] = (),
        observer: ILogObserver | None = None,
    ) -> None:
        MultiService.__init__(self)
        self.machine = machine
        self.composition = composition
        self.bound: list[Bound] = []
        self._load = load
        self._broken = broken
        self._observer = observer
        self._reloading = False
        self._opened = False
        settings = composition.settings
        limits = settings.limits
        reactor = machine.reactor
        self.admission = Admission(composition.admission, reactor.seconds, limits.exempt.cover)
        self._batch = Batch(machine.turn_end)
        self._readers = Readers(reactor) if hasattr(select, "epoll") else None
        self.spool = EmbeddedSpool(
            os.path.abspath(settings.spool),
            reactor,
            limits=spool_limits(settings),
            emit=machine.emit,
            arriving=lambda: self._batch.inputs,
            turn_end=machine.turn_end,
        )
        self.notices = Notices(
            settings.hostname,
            settings.notifications.deliver,
            self.spool,
            reactor,
            machine.emit,
            machine.deliveries.run,
        )
        self.dispatcher = Dispatcher(
            self.spool,
            reactor,
            machine.emit,
            SystemRandom(),
            tell=self.notices.tell,
            turn_end=machine.turn_end,
        )
        self.notices.wake = self.dispatcher.wake
        self.synchronous = Synchronous(
            self.spool, self.dispatcher.attempt, reactor, self.dispatcher.lease
        )
        self.control = Control(self)
        self.serving = Serving(machine, self.spool)
        self._serve: Callable[[], None] | None = None
        machine.retention.spool = self.spool

    def setServiceParent(self, parent: Any) -> None:  # noqa: ANN401
        """Take the application's log over, if an observer was given."""
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        MultiService.setServiceParent(self, parent)

    def privilegedStartService(self) -> None:
        """Bind the listeners, still with the privileges that low ports need."""
        os.umask(_UMASK)
        MultiService.privilegedStartService(self)
        try:
            self.bound = self._bind(self.composition, self.composition.settings.listeners)
            self._serve = self.serving.prepare(self.composition)
        except ConfigError as error:
            # Not a traceback: the operator named an address that cannot be had.
            sys.exit(f"mailsvc: {error}")

    def startService(self) -> None:
        """Open the spool; then accept, deliver, and say so."""
        MultiService.startService(self)
        Deferred.fromCoroutine(self._start()).addErrback(self._start_failed)

    async def _start(self) -> None:
        reactor = self.machine.reactor
        await self.spool.start()
        self._opened = True
        self.dispatcher.replace(self.composition.destinations)
        self.dispatcher.start()
        await self.control.start()
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(self._hang_up))
        for bound in self.bound:
            bound.accept()
        if self._serve is not None:
            self._serve()
        self._announce()

    def _start_failed(self, failure: Failure) -> None:
        if failure.check(MailsvcError, OSError):
            self.machine.emit(StartFailed(failure.getErrorMessage()))
        else:
            self.machine.emit(Broke("the start", failure.getTraceback()))
        # Once the reactor runs twistd ends with 0 whatever happens; systemd has to know better.
        atexit.register(os._exit, 1)
        self.machine.reactor.stop()

    def _announce(self) -> None:
        emit = self.machine.emit
        settings = self.composition.settings
        for problem in self._broken:
            emit(Alert(f"plugin not usable: {problem}"))
        for warning in settings.warnings:
            emit(Alert(warning))
        if few := ports.make_room(settings.limits.connections):
            emit(Alert(settings.problem("limits", "connections", few)))
        if self.composition.certificates is not None:
            for warning in self.composition.certificates.warnings(self.machine.reactor.seconds()):
                emit(Alert(warning))
        listening = [Listening(each.listener, each.port.getHost()) for each in self.bound]
        for name, reason in self.spool.paused().items():
            emit(Paused(name, reason))
        for line in announcement(settings, self.composition.router, listening):
            emit(Notice(line))
        if self.serving.where:
            emit(Notice(f"links to attachments are served on {self.serving.where}"))

    async def _stop(self) -> None:
        timeout = self.composition.settings.limits.stop_timeout
        reactor = self.machine.reactor
        bound, self.bound = self.bound, []
        await gatherResults([ports.closed(each.port) for each in bound])
        await self.serving.stop()
        waiting = gatherResults([each.factory.stop() for each in bound])

        def give_up() -> None:
            for each in bound:
                each.factory.abort()

        giving_up = reactor.callLater(timeout, give_up)
        began = reactor.seconds()
        await waiting
        if giving_up.active():
            giving_up.cancel()
        await self.dispatcher.stop(max(0.0, timeout - (reactor.seconds() - began)))
        await self.control.stop()
        await self.machine.parser.stop()
        if self._opened:
            await self.spool.stop()
        self.machine.deliveries.stop()
        self.machine.logins.stop()

    def stopService(self) -> Deferred[Any]:
        """Stop to accept, let what is under way finish up to a limit, leave the rest spooled."""
        return gatherResults(
            [MultiService.stopService(self) or _done(), Deferred.fromCoroutine(self._stop())]
        )

    # Listeners.

    def _bind(self, composition: Composition, listeners: Sequence[Listener]) -> list[Bound]:
        """Bind listeners, all or none; none of them accepts yet.

        :raises ConfigError: an address cannot be had.
        """
        bound: list[Bound] = []
        for listener in listeners:
            factory = SMTPFactory(
                self._rules(composition, listener),
                self.admission,
                self.machine.emit,
                implicit=listener.tls == "implicit",
            )
            try:
                port = ports.bind(self.machine.reactor, listener.endpoint, factory)
            except ConfigError as error:
                for each in bound:
                    each.port.stopListening()
                raise ConfigError(_placed(composition.settings, listener, str(error))) from None
            bound.append(Bound(listener, factory, port))
        return bound

    def _rules(self, composition: Composition, listener: Listener) -> Rules:
        certificates = composition.certificates
        return Rules(
            policy=composition.policy(listener),
            intake=Intake(
                hostname=composition.settings.hostname,
                spool=self.spool,
                router=CheckedRouter(composition.router, composition.checks),
                authentication=composition.authentication,
                synchronous=self.synchronous,
                emit=self.machine.emit,
                now=self.machine.reactor.seconds,
                wake=self.dispatcher.wake,
            ),
            clock=self.machine.reactor,
            timers=composition.timers,
            tls=None if certificates is None else certificates.options(),
            certificates=certificates,
            proxies=listener.proxy,
            greeting_delay=listener.greeting_delay,
            may_command=self.admission.may_command,
            readers=self._readers,
            batch=self._batch,
        )

    # Reload.

    def _hang_up(self) -> None:
        """SIGHUP: reload; what is wrong with the new configuration has been logged."""
        reloading = Deferred.fromCoroutine(self.reload())
        reloading.addErrback(lambda failure: failure.trap(ConfigError))

    async def reload(self) -> None:
        """Read the configuration again; new connections and deliveries follow it.

        :raises ConfigError: the old configuration stays in force.
        """
        if self._reloading:
            raise ConfigError("a reload is under way")
        self._reloading = True
        try:
            composition = await deferToThread(self._compose_again)
            self._swap(composition)
        except ConfigError as error:
            for problem in error.problems:
                self.machine.emit(Alert(f"not reloaded: {problem}"))
            raise
        finally:
            self._reloading = False
        self.machine.emit(Notice("reloaded"))
        self._announce()

    def _compose_again(self) -> Composition:
        return compose(self._load(), self.machine)

    def _swap(self, composition: Composition) -> None:
        """Change to a new composition, or raise and change nothing."""
        # By endpoint; one of the system's choice (tcp:0) may be there several times.
        old: dict[str, list[Bound]] = {}
        for each in self.bound:
            old.setdefault(each.listener.endpoint, []).append(each)
        listeners = composition.settings.listeners
        stay = [old[each.endpoint].pop(0) if old.get(each.endpoint) else None for each in listeners]
        added = [each for each, bound in zip(listeners, stay, strict=True) if bound is None]
        new = self._bind(composition, added)
        try:
            serve = self.serving.prepare(composition)
        except ConfigError:
            for bound in new:
                bound.port.stopListening()
            raise
        fresh = iter(new)
        replaced = self.composition
        self.composition = composition
        self.admission.change(composition.admission, composition.settings.limits.exempt.cover)
        self.spool.change_limits(spool_limits(composition.settings))
        self.notices.change(
            composition.settings.hostname, composition.settings.notifications.deliver
        )
        self.dispatcher.replace(composition.destinations)
        kept = []
        for listener, staying in zip(listeners, stay, strict=True):
            bound = staying or next(fresh)
            bound.listener = listener
            bound.factory.rules = self._rules(composition, listener)
            bound.factory.implicit = listener.tls == "implicit"
            kept.append(bound)
        self.bound = kept
        for bound in new:
            bound.accept()
        for bound in chain.from_iterable(old.values()):
            bound.port.stopListening()
        serve()
        self._close(replaced)
        for key in self.machine.follow(replaced.settings, composition.settings):
            self.machine.emit(Alert(f"{key} changes only with a restart"))

    def _close(self, replaced: Composition) -> None:
        """Let the parts of a composition that is replaced give up what they keep open."""
        deliverers = [each.deliverer for each in replaced.destinations.values()]
        for part in (*deliverers, *replaced.checks.values()):
            if IClosing.providedBy(part):
                Deferred.fromCoroutine(self._closed(IClosing(part)))

    async def _closed(self, part: IClosing) -> None:
        try:
            await part.close()
        except Exception:
            self.machine.emit(Broke("closing connections", Failure().getTraceback()))


def spool_limits(settings: Settings) -> SpoolLimits:
    """Return the limits of the spool that settings ask for."""
    limits = settings.limits
    return SpoolLimits(
        octets=limits.spool,
        low_water=limits.low_water,
        content_memory=limits.content_memory,
        share={name: each.knobs.spool_share for name, each in settings.destinations.items()},
    )


def _done() -> Deferred[Any]:
    done: Deferred[Any] = Deferred()
    done.callback(None)
    return done


def _placed(settings: Settings, listener: Listener, text: str) -> str:
    """Return what is wrong with a listener's endpoint with its place, if a file has it."""
    if not settings.places.path:
        return text
    return settings.problem(f"listener.{settings.listeners.index(listener)}", "endpoint", text)
