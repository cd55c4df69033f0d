"""The ``discard`` destination: accepts every mail and keeps none."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import implementer

from mailsvc.interfaces import IContent, IGroupDeliverer
from mailsvc.message import Delivery


@implementer(IGroupDeliverer)
class Discard:
    """For addresses that must accept and forget, and for benchmarks."""

    group = 64

    async def deliver(self, delivery: Delivery, content: IContent) -> None:
        """Do nothing, successfully."""

    async def deliver_group(
        self, deliveries: Sequence[tuple[Delivery, IContent]]
    ) -> Sequence[Exception | None]:
        """Do nothing, successfully."""
        return [None] * len(deliveries)
