"""The contract of deliverers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, gatherResults
from zope.interface.verify import verifyObject

from mailsvc.errors import DeliveryFailed, SpoolError
from mailsvc.interfaces import IDeliverer, IGroupDeliverer
from mailsvc.message import Address
from mailsvc.testing.fakes import DamagedContent, MemoryContent, make_delivery, started

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:
    TestCase = object


class DelivererContract(TestCase):
    """What :class:`~mailsvc.interfaces.IDeliverer` promises.

    A subclass defines :meth:`make_deliverer`, and :meth:`break_destination` if its destination can
    be made to fail.

    :cvar reads_content: False for a deliverer that looks at the envelope only.
    """

    reads_content = True

    def make_deliverer(self) -> IDeliverer:
        """Return a deliverer whose destination works."""
        raise NotImplementedError

    def break_destination(self) -> bool:
        """Make the destination fail from now on; say whether that was possible."""
        return False

    async def test_it_provides_the_interface(self) -> None:
        """The object is an IDeliverer."""
        self.assertTrue(verifyObject(IDeliverer, self.make_deliverer()))

    async def test_it_takes_any_mail(self) -> None:
        """Neither an odd envelope nor an odd content keeps a mail from its destination."""
        deliverer = self.make_deliverer()
        local_parts = ("support", "a/../b", "..", "jörg", 'qu"o\\te d', "x" * 64, "-rf", "a+b", "%")
        for number, local in enumerate(local_parts):
            for reverse_path in (None, Address(local, "example.org")):
                delivery = make_delivery(
                    Address(local, "exämple.com"), reverse_path, id=f"odd{number}-1"
                )
                await deliverer.deliver(delivery, MemoryContent())
        for octets in (b"", b"\r\n", b"\xff\xfe\x00\r\n" * 9, b"no header", b"x" * 700_000):
            content = MemoryContent(octets)
            delivery = make_delivery(id=f"size{len(octets)}-1", size=len(octets))
            await deliverer.deliver(delivery, content)

    async def test_it_takes_a_repeat(self) -> None:
        """After a crash or a lost answer the same id comes again, and is no error."""
        deliverer = self.make_deliverer()
        for attempt in (1, 2, 3):
            await deliverer.deliver(make_delivery(attempt=attempt), MemoryContent())

    async def test_it_takes_several_at_once(self) -> None:
        """Deliveries do not wait for one another's return."""
        deliverer = self.make_deliverer()
        await gatherResults(
            [
                started(deliverer.deliver(make_delivery(id=f"many{number}-1"), MemoryContent()))
                for number in range(20)
            ]
        )

    async def test_it_closes_what_it_opens(self) -> None:
        """Every reader of the content is closed in the end."""
        deliverer = self.make_deliverer()
        content = MemoryContent(b"x" * 700_000)
        await deliverer.deliver(make_delivery(size=content.size), content)
        self.assertEqual([reader for reader in content.readers if not reader.closed], [])

    async def test_damaged_content_is_not_delivered(self) -> None:
        """If the content cannot be read, the delivery fails."""
        deliverer = self.make_deliverer()
        if not self.reads_content:
            return
        try:
            await deliverer.deliver(make_delivery(), DamagedContent())
        except (SpoolError, DeliveryFailed):
            return
        self.fail("a mail that cannot be read was delivered")

    async def test_a_cancelled_attempt_ends(self) -> None:
        """Cancelling the awaitable ends it, and the next delivery is as good as any."""
        deliverer = self.make_deliverer()
        attempt = started(deliverer.deliver(make_delivery(id="gone-1"), MemoryContent()))
        attempt.cancel()
        try:
            await attempt
        except (CancelledError, DeliveryFailed):
            pass
        await deliverer.deliver(make_delivery(id="next-1", attempt=2), MemoryContent())

    async def test_a_broken_destination_is_told(self) -> None:
        """When the destination fails, the delivery does; nothing is lost silently."""
        deliverer = self.make_deliverer()
        await deliverer.deliver(make_delivery(id="before-1"), MemoryContent())
        if not self.break_destination():
            return
        for attempt in (1, 2):
            try:
                await deliverer.deliver(
                    make_delivery(id="after-1", attempt=attempt), MemoryContent()
                )
            except DeliveryFailed as error:
                self.assertNotEqual(str(error), "")
            else:
                self.fail("the destination failed and the delivery did not")


class GroupDelivererContract(DelivererContract):
    """What :class:`~mailsvc.interfaces.IGroupDeliverer` promises beside."""

    def make_group_deliverer(self) -> IGroupDeliverer:
        """Return a deliverer whose destination works."""
        return IGroupDeliverer(self.make_deliverer())

    async def test_it_provides_the_interface_of_groups(self) -> None:
        """The object is an IGroupDeliverer."""
        deliverer = self.make_group_deliverer()
        self.assertTrue(verifyObject(IGroupDeliverer, deliverer))
        self.assertGreaterEqual(deliverer.group, 1)

    async def test_it_answers_for_each_of_a_group(self) -> None:
        """As many answers as deliveries, however many these are; a repeat is no error."""
        deliverer = self.make_group_deliverer()
        for size in (0, 1, 2, 3 * deliverer.group + 1):
            for attempt in (1, 2):
                group = [
                    (make_delivery(id=f"g{number}-1", attempt=attempt), MemoryContent())
                    for number in range(size)
                ]
                self.assertEqual(list(await deliverer.deliver_group(group)), [None] * size)

    async def test_what_cannot_be_read_is_the_only_one_to_fail(self) -> None:
        """The others of its group are delivered."""
        deliverer = self.make_group_deliverer()
        if not self.reads_content:
            return
        outcomes = await deliverer.deliver_group(
            [
                (make_delivery(id="first-1"), MemoryContent()),
                (make_delivery(id="damaged-1"), DamagedContent()),
                (make_delivery(id="last-1"), MemoryContent()),
            ]
        )
        self.assertEqual([outcome is None for outcome in outcomes], [True, False, True])
        self.assertIsInstance(outcomes[1], (SpoolError, DeliveryFailed))

    async def test_a_cancelled_group_ends(self) -> None:
        """Cancelling the awaitable ends it, and the next group is as good as any."""
        deliverer = self.make_group_deliverer()
        waiting = [
            started(deliverer.deliver_group([(make_delivery(id=f"c{n}-1"), MemoryContent())]))
            for n in range(3)
        ]
        for each in waiting:
            each.cancel()
            try:
                await each
            except (CancelledError, DeliveryFailed):
                pass
        group = [(make_delivery(id="next-1"), MemoryContent())]
        self.assertEqual(list(await deliverer.deliver_group(group)), [None])

    async def test_a_broken_destination_is_told_of_each(self) -> None:
        """When the destination fails, every delivery of the group does."""
        deliverer = self.make_group_deliverer()
        await deliverer.deliver_group([(make_delivery(id="before-1"), MemoryContent())])
        if not self.break_destination():
            return
        group = [(make_delivery(id=f"after{n}-1"), MemoryContent()) for n in range(5)]
        for outcome in await deliverer.deliver_group(group):
            self.assertIsInstance(outcome, DeliveryFailed)
