"""The ``discard`` destination: accepts every mail and keeps none."""

from __future__ import annotations

from zope.interface import implementer

from mailsvc.interfaces import IContent, IDeliverer
from mailsvc.message import Delivery


@implementer(IDeliverer)
class Discard:
    """For addresses that must accept and forget, and for benchmarks."""

    async def deliver(self, delivery: Delivery, content: IContent) -> None:
        """Do nothing, successfully."""
