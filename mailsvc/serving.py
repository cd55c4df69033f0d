"""Where links to attachments are served: bound by the start, kept or moved by a reload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IListeningPort

from mailsvc import ports
from mailsvc.announcement import where
from mailsvc.attachments import AttachmentPage
from mailsvc.composition import Composition
from mailsvc.interfaces import ISpool
from mailsvc.machine import Machine
from mailsvc.web import BoundedSite


@dataclass(frozen=True, slots=True)
class _Served:
    endpoint: str
    page: AttachmentPage
    site: BoundedSite
    port: IListeningPort


class Serving:
    """The endpoint of ``[http]``, if there is one."""

    def __init__(self, machine: Machine, spool: ISpool) -> None:
        self._machine = machine
        self._spool = spool
        self._served: _Served | None = None

    @property
    def where(self) -> str:
        """Return the address, for people; empty if nothing is served."""
        return "" if self._served is None else where(self._served.port.getHost())

    def prepare(self, composition: Composition) -> Callable[[], None]:
        """Bind what a configuration asks for; return what serves it in place of what was.

        :raises mailsvc.errors.ConfigError: the address cannot be had; nothing was changed.
        """
        endpoint, links = composition.settings.http.endpoint, composition.links
        if not endpoint or links is None:
            return self._end
        served = self._served
        if served is None or served.endpoint != endpoint:
            machine = self._machine
            page = AttachmentPage(
                links, self._spool, machine.deliveries.run, machine.reactor, machine.emit
            )
            site = BoundedSite(page, machine.reactor)
            served = _Served(endpoint, page, site, ports.bind(machine.reactor, endpoint, site))
        new = served

        def serve() -> None:
            if self._served is not new:
                self._end()
                self._served = new
                ports.accept(new.port)
            new.page.links = links

        return serve

    async def stop(self) -> None:
        """Serve nothing any more; what is under way is broken off."""
        served, self._served = self._served, None
        if served is not None:
            await ports.closed(served.port)
            served.site.abort()

    def _end(self) -> None:
        """Take no more connections; what is under way goes on."""
        served, self._served = self._served, None
        if served is not None:
            served.port.stopListening()
