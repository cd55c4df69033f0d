"""What a router would do with an address, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mailsvc.control.protocol import RouteReport
from mailsvc.errors import Refused
from mailsvc.message import Address, Route
from mailsvc.patterns import parse_address


class Explainer(Protocol):
    """A router, for people."""

    def find(self, address: Address, *, authenticated: bool) -> Route:
        """Return the route of an address, or raise Refused."""

    def explain(self, address: str) -> Sequence[str]:
        """Return what would happen to mail for an address."""


def explain(router: Explainer, address: str) -> RouteReport:
    """Return what would happen to a mail for an address."""
    lines = tuple(router.explain(address))
    try:
        route = router.find(parse_address(address), authenticated=True)
    except (ValueError, Refused):
        return RouteReport(False, lines)
    return RouteReport(True, lines, route.destinations)
