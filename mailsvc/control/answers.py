"""The answers to what operators ask of a running server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any
from typing import Protocol as Structure

from mailsvc.control import protocol as wire
from mailsvc.control.explanation import Explainer, explain
from mailsvc.dispatch import QueueState
from mailsvc.errors import ConfigError, MailsvcError
from mailsvc.events import Emit, Notice, Paused, Resumed
from mailsvc.settings import Listener, Settings
from mailsvc.spool.view import MessageDetail, QueueEntry, QueueSummary, State


class OperatedSpool(Structure):
    """What operators ask of a spool."""

    def summary(self) -> Awaitable[QueueSummary]:
        """Return how much there is."""

    def entries(
        self,
        destination: str | None = None,
        state: State | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Awaitable[tuple[QueueEntry, ...]]:
        """Return a page of deliveries."""

    def show(self, id_: str) -> Awaitable[MessageDetail | None]:
        """Return a message."""

    def retry(
        self,
        ids: Iterable[str] | None = None,
        destination: str | None = None,
        fresh_id: bool = False,
    ) -> Awaitable[int]:
        """Make deliveries due now."""

    def drop(self, ids: Iterable[str]) -> Awaitable[int]:
        """Remove deliveries."""

    def pause(self, destination: str, reason: str) -> Awaitable[None]:
        """Pause a destination."""

    def resume(self, destination: str) -> Awaitable[bool]:
        """End a pause."""


class OperatedDispatcher(Structure):
    """What operators ask of dispatch."""

    def states(self) -> Mapping[str, QueueState]:
        """Return how the destinations' queues are worked on."""

    def wake(self, names: Iterable[str]) -> None:
        """Say that something may be due."""

    def resume(self, name: str) -> None:
        """Take up a destination at full pace."""


class OperatedMachine(Structure):
    """What lasts as long as the process."""

    @property
    def reactor(self) -> Any:  # noqa: ANN401
        """The reactor."""

    @property
    def emit(self) -> Emit:
        """Log an event."""


class OperatedComposition(Structure):
    """What follows the configuration in force."""

    @property
    def router(self) -> Explainer:
        """The routes."""

    @property
    def settings(self) -> Settings:
        """The configuration."""


class OperatedListener(Structure):
    """A listener that is bound."""

    @property
    def where(self) -> str:
        """Its address."""

    @property
    def listener(self) -> Listener:
        """What it was made from."""


class Operated(Structure):
    """A running server, as its operators' requests need it."""

    @property
    def machine(self) -> OperatedMachine:
        """What lasts as long as the process."""

    @property
    def composition(self) -> OperatedComposition:
        """What follows the configuration in force."""

    @property
    def spool(self) -> OperatedSpool:
        """The spool."""

    @property
    def dispatcher(self) -> OperatedDispatcher:
        """The dispatcher."""

    @property
    def bound(self) -> Sequence[OperatedListener]:
        """The listeners."""

    def reload(self) -> Awaitable[None]:
        """Read the configuration again, or raise ConfigError."""


class Answers:
    """The answers to operators' requests."""

    def __init__(self, server: Operated) -> None:
        self._server = server
        self._table: dict[type[wire.Request], Callable[[Any], Awaitable[object]]] = {
            wire.AskSummary: self._summary,
            wire.AskEntries: self._entries,
            wire.AskMessage: self._message,
            wire.Retry: self._retry,
            wire.Hasten: self._hasten,
            wire.Drop: self._drop,
            wire.Pause: self._pause,
            wire.Resume: self._resume,
            wire.Explain: self._explain,
            wire.AskListeners: self._listeners,
            wire.Reload: self._reload,
        }

    async def answer(self, request: wire.Request) -> object:
        """Return the result of a request.

        :raises mailsvc.errors.MailsvcError: it cannot be done; the text is for the operator.
        """
        return await self._table[type(request)](request)

    async def _summary(self, request: wire.AskSummary) -> wire.QueueReport:
        return wire.QueueReport(
            await self._server.spool.summary(),
            {
                name: wire.DestinationReport(
                    state.running, state.failures, state.open_until, state.held_until
                )
                for name, state in self._server.dispatcher.states().items()
            },
        )

    async def _entries(self, request: wire.AskEntries) -> Sequence[QueueEntry]:
        limit = max(1, min(request.limit, wire.PAGE))
        return await self._server.spool.entries(
            request.destination, request.state, limit, request.after
        )

    async def _message(self, request: wire.AskMessage) -> MessageDetail | None:
        return await self._server.spool.show(request.id)

    async def _retry(self, request: wire.Retry) -> int:
        count = await self._server.spool.retry(request.ids, fresh_id=request.fresh_id)
        self._server.dispatcher.wake(self._server.dispatcher.states())
        self._note(count, "made due")
        return count

    async def _hasten(self, request: wire.Hasten) -> None:
        for name in request.destinations:
            self._server.dispatcher.resume(name)

    async def _drop(self, request: wire.Drop) -> int:
        count = await self._server.spool.drop(request.ids)
        self._note(count, "dropped")
        return count

    async def _pause(self, request: wire.Pause) -> None:
        self._known(request.destination)
        await self._server.spool.pause(request.destination, request.reason)
        self._server.machine.emit(Paused(request.destination, request.reason))

    async def _resume(self, request: wire.Resume) -> bool:
        was_paused = await self._server.spool.resume(request.destination)
        if not was_paused:
            self._known(request.destination)
        self._server.dispatcher.resume(request.destination)
        if was_paused:
            self._server.machine.emit(Resumed(request.destination))
        return was_paused

    async def _explain(self, request: wire.Explain) -> wire.RouteReport:
        return explain(self._server.composition.router, request.address)

    async def _listeners(self, request: wire.AskListeners) -> Sequence[wire.ListenerReport]:
        return [
            wire.ListenerReport(
                each.where, each.listener.role, each.listener.tls, bool(each.listener.proxy)
            )
            for each in self._server.bound
        ]

    async def _reload(self, request: wire.Reload) -> Sequence[str]:
        try:
            await self._server.reload()
        except ConfigError as error:
            return error.problems
        return ()

    def _known(self, name: str) -> None:
        known = self._server.dispatcher.states()
        if name not in known:
            raise MailsvcError(
                f"there is no destination {name!r}; there are: {', '.join(sorted(known)) or 'none'}"
            )

    def _note(self, count: int, what: str) -> None:
        if count:
            deliveries = "1 delivery" if count == 1 else f"{count} deliveries"
            self._server.machine.emit(Notice(f"{deliveries} {what} by an operator"))
