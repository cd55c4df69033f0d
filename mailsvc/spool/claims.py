"""What this process holds of the queue: fresh deliveries, and claims with their leases.

For the reactor's thread alone.  The rows know which process holds a delivery, and under which
token; when a lease ends is known here only, for the rows give up a process that dies as a whole.
So the common path, a new mail that is delivered at once, costs one commit to accept and one to
record, and no search between them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from mailsvc.interfaces import Claim
from mailsvc.message import Delivery, Envelope
from mailsvc.spool.accepting import Accepting, Planned
from mailsvc.spool.held import Held
from mailsvc.spool.records import Stored

#: Fresh deliveries that a destination keeps in memory; more are queued in the rows.
FRESH = 1024
#: Seconds that a delivery stays fresh; then it is queued, where another process finds it as well.
FRESH_SECONDS = 30.0
#: Seconds for which it is believed that no other process queued anything.
_BELIEVED = 1.0
#: Octets of contents that stay in memory after they were accepted, over all and each.
_KEPT = 16 << 20
_KEPT_EACH = 64 << 10
#: Of so many claims, or of so many deliveries claimed, one is of the oldest that wait.
_OLD = 4


class Lease:
    """A claim that is alive."""

    __slots__ = ("expires_at", "held", "message_id")

    def __init__(self, held: Held, message_id: str, expires_at: float) -> None:
        self.held = held
        self.message_id = message_id
        self.expires_at = expires_at


class Fresh:
    """A delivery that this process accepted and has not claimed yet."""

    __slots__ = ("delivery", "held", "since")

    def __init__(self, held: Held, delivery: Delivery, since: float) -> None:
        self.held = held
        self.delivery = delivery
        self.since = since


class _Content:
    """A content that deliveries need.

    :ivar octets: as stored, if they are in memory: pieces, of which who opens them makes one.
    """

    __slots__ = ("deliveries", "octets", "stored")

    def __init__(self, stored: Stored, octets: list[bytes] | None) -> None:
        self.stored = stored
        self.octets = octets
        self.deliveries = 1


class _Queue:
    """One destination."""

    __slots__ = ("accepting", "believed_until", "due", "fresh", "paused", "turn")

    def __init__(self) -> None:
        self.fresh: deque[Fresh] = deque()
        #: Deliveries on their way into the rows that will be fresh.
        self.accepting = 0
        self.paused: str | None = None
        #: When the first delivery that waits in the rows is due, as far as known, and how long
        #: that may be believed.
        self.due: float | None = None
        self.believed_until = 0.0
        self.turn = 0


class Claims:
    """Fresh deliveries by destination, leases by token, and the contents that these need."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._queues: dict[str, _Queue] = {}
        self._leases: dict[int, Lease] = {}
        #: No lease ends before.
        self._earliest = math.inf
        #: Contents of messages with fresh or claimed deliveries.
        self._contents: dict[str, _Content] = {}
        self._kept = 0
        #: What was let go of here, while the rows may still say that this process holds it.
        self._owed: list[Held] = []
        #: Fresh deliveries of synchronous routes, by message: not for ``claim``.
        self._reserved: dict[str, list[Fresh]] = {}

    def _queue(self, destination: str) -> _Queue:
        queue = self._queues.get(destination)
        if queue is None:
            queue = self._queues[destination] = _Queue()
        return queue

    # Fresh deliveries

    def hold(self, destination: str, *, sync: bool = False) -> bool:
        """Say whether a delivery that is being accepted is to be fresh; it is counted then.

        :param sync: of a synchronous route: whoever waits for it takes it, in any case.
        """
        queue = self._queue(destination)
        full = queue.paused is not None or len(queue.fresh) + queue.accepting >= FRESH
        if full and not sync:
            return False
        queue.accepting += 1
        return True

    def plan(self, envelope: Envelope) -> list[Planned]:
        """Return the deliveries of a message that is being accepted."""
        plan = []
        seen: set[object] = set()
        several = len(envelope.recipients) > 1
        for index, recipient in enumerate(envelope.recipients):
            if several:
                # A recipient that is given twice counts once.
                if recipient.address in seen:
                    continue
                seen.add(recipient.address)
            route = recipient.route
            sync = route.sync
            for name in route.destinations:
                plan.append(Planned(index, name, self.hold(name, sync=sync), sync))
        return plan

    def failed(self, destination: str) -> None:
        """Count a delivery for which ``hold`` said yes no longer: it was not accepted."""
        self._queue(destination).accepting -= 1

    def add(self, planned: Planned, fresh: Fresh, message: Accepting, stored: Stored) -> None:
        """Keep a fresh delivery of a message that was just stored, and count it as accepted."""
        self.know(stored, message.chunks)
        queue = self._queue(planned.destination)
        queue.accepting -= 1
        if planned.sync:
            self._reserved.setdefault(message.message_id, []).append(fresh)
        else:
            queue.fresh.append(fresh)

    def queued(self, destination: str, due: float) -> None:
        """Note that a delivery waits in the rows."""
        queue = self._queue(destination)
        if queue.due is None or due < queue.due:
            queue.due = due

    def share(self, destination: str, limit: int) -> tuple[int, int, int]:
        """Say how to serve a claim of ``limit``: how many fresh, newest and oldest."""
        queue = self._queue(destination)
        if queue.paused is not None or limit < 1:
            return 0, 0, 0
        now = self._now()
        fresh = len(queue.fresh)
        if now < queue.believed_until and (queue.due is None or queue.due > now):
            return min(fresh, limit), 0, 0
        queue.turn += 1
        oldest = limit // _OLD or int(queue.turn % _OLD == 0)
        fresh = min(fresh, limit - oldest)
        return fresh, limit - oldest - fresh, oldest

    def searched(self, destination: str, due: float | None) -> None:
        """Note when the rows' first delivery is due."""
        queue = self._queue(destination)
        queue.due = due
        queue.believed_until = self._now() + _BELIEVED

    def due(self, destination: str) -> tuple[bool, float | None]:
        """Return whether the answer to ``next_due`` is known, and the answer."""
        queue = self._queue(destination)
        if queue.paused is not None:
            return True, None
        if queue.fresh:
            return True, queue.fresh[0].since
        return self._now() < queue.believed_until, queue.due

    def take(self, destination: str, limit: int, lease: float) -> list[Claim]:
        """Claim fresh deliveries."""
        queue = self._queue(destination)
        if queue.paused is not None:
            return []
        fresh = queue.fresh
        return [self._claimed(fresh.popleft(), lease) for _ in range(min(limit, len(fresh)))]

    def take_reserved(self, message_id: str, lease: float) -> list[Claim]:
        """Claim a message's deliveries of synchronous routes."""
        reserved = self._reserved.pop(message_id, [])
        return [self._claimed(fresh, lease) for fresh in reserved]

    def _claimed(self, fresh: Fresh, lease: float) -> Claim:
        return self.claimed(fresh.held, fresh.delivery, lease)

    # Leases

    def claimed(self, held: Held, delivery: Delivery, lease: float) -> Claim:
        """Start a lease; the content is known already, and once more for this delivery."""
        expires_at = self._now() + lease
        message_id = delivery.envelope.id
        self._leases[held.token] = Lease(held, message_id, expires_at)
        self._earliest = min(self._earliest, expires_at)
        return Claim(delivery, held.token, expires_at)

    def lease(self, token: int) -> Lease | None:
        """Return the lease of a claim, unless it has ended."""
        return self._leases.get(token)

    def extend(self, lease: Lease, seconds: float) -> float:
        """Lengthen a lease; return when it ends."""
        lease.expires_at = self._now() + seconds
        self._earliest = min(self._earliest, lease.expires_at)
        return lease.expires_at

    def end(self, token: int) -> None:
        """End a lease."""
        lease = self._leases.pop(token, None)
        if lease is not None:
            self.forget(lease.message_id)

    def expired(self) -> list[Held]:
        """End the leases whose time is over, and return what they held.

        They are looked for only when one could have ended: claims that are alive are extended long
        before.
        """
        now = self._now()
        if now < self._earliest:
            return []
        ended = [lease.held for lease in self._leases.values() if lease.expires_at <= now]
        for held in ended:
            self.end(held.token)
        left = [lease.expires_at for lease in self._leases.values()]
        self._earliest = min(left, default=math.inf)
        return ended

    def stale(self) -> list[Held]:
        """Let go of the deliveries that were fresh for too long, and return them."""
        before = self._now() - FRESH_SECONDS
        return self._dropped(lambda fresh: fresh.since <= before)

    def owe(self, held: Iterable[Held]) -> None:
        """Note that the rows could not be told, now, what was let go of."""
        self._owed += held

    def owed(self) -> list[Held]:
        """Return what the rows have to be told still; who asks tells them, or owes it again."""
        owed, self._owed = self._owed, []
        return owed

    def withdraw(self, keys: Iterable[int]) -> list[Held]:
        """Let go of fresh deliveries, and return those that there were."""
        wanted = set(keys)
        return self._dropped(lambda fresh: fresh.held.key in wanted)

    def withdraw_all(self, destination: str | None) -> list[Held]:
        """Let go of all fresh deliveries, or of those of a destination, and return them."""
        return self._dropped(
            lambda fresh: destination is None or fresh.delivery.destination == destination
        )

    def _dropped(self, unwanted: Callable[[Fresh], bool]) -> list[Held]:
        dropped: list[Fresh] = []
        for queue in self._queues.values():
            gone = [fresh for fresh in queue.fresh if unwanted(fresh)]
            if gone:
                queue.fresh = deque(fresh for fresh in queue.fresh if not unwanted(fresh))
                dropped += gone
        for message_id, reserved in list(self._reserved.items()):
            gone = [fresh for fresh in reserved if unwanted(fresh)]
            if gone:
                kept = [fresh for fresh in reserved if not unwanted(fresh)]
                if kept:
                    self._reserved[message_id] = kept
                else:
                    del self._reserved[message_id]
                dropped += gone
        for fresh in dropped:
            self.forget(fresh.delivery.envelope.id)
        return [fresh.held for fresh in dropped]

    def fresh_keys(self) -> set[int]:
        """Return the keys of all fresh deliveries."""
        keys = {fresh.held.key for queue in self._queues.values() for fresh in queue.fresh}
        keys.update(fresh.held.key for group in self._reserved.values() for fresh in group)
        return keys

    def leave(self) -> list[Held]:
        """Let go of everything, and return it."""
        held = self.withdraw_all(None)
        for token, lease in list(self._leases.items()):
            held.append(lease.held)
            self.end(token)
        return held

    # Contents

    def know(self, stored: Stored, chunks: Sequence[bytes | memoryview] = ()) -> None:
        """Keep where a content lies for one more delivery.

        Its octets stay in memory as well while there is room: a delivery that follows at once then
        needs no file, which is a fifth of what a maildir's costs.
        """
        known = self._contents.get(stored.message_id)
        if known is not None:
            known.stored = stored
            known.deliveries += 1
            return
        octets = None
        if chunks and stored.length <= _KEPT_EACH and self._kept + stored.length <= _KEPT:
            octets = [chunk for chunk in chunks if isinstance(chunk, bytes)]
            if len(octets) < len(chunks):
                octets = [b"".join(chunks)]  # a view pins what nobody counts
            self._kept += stored.length
        self._contents[stored.message_id] = _Content(stored, octets)

    def forget(self, message_id: str) -> None:
        """Keep it for one delivery less."""
        known = self._contents.get(message_id)
        if known is not None:
            known.deliveries -= 1
            if not known.deliveries:
                del self._contents[message_id]
                if known.octets is not None:
                    self._kept -= known.stored.length

    def content(self, message_id: str) -> tuple[Stored, list[bytes] | None] | None:
        """Return where a message's content lies, and its octets if they are here; if known."""
        known = self._contents.get(message_id)
        return (known.stored, known.octets) if known else None

    # Pauses

    def pause(self, destination: str, reason: str | None) -> None:
        """Take over whether a destination is paused."""
        queue = self._queue(destination)
        if queue.paused is not None and reason is None:
            queue.believed_until = 0.0
        queue.paused = reason

    def pause_only(self, paused: Mapping[str, str]) -> None:
        """Take over which destinations are paused, and why."""
        for name in {*paused, *self._queues}:
            self.pause(name, paused.get(name))

    def paused(self) -> dict[str, str]:
        """Return the reasons of the pauses by destination."""
        return {
            name: queue.paused for name, queue in self._queues.items() if queue.paused is not None
        }

    def doubt(self) -> None:
        """Believe no longer that nothing waits in the rows."""
        for queue in self._queues.values():
            queue.believed_until = 0.0
