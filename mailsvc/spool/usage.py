"""How much the spool takes, and what it may still take.

The numbers of the database are refreshed every second or so; in between each process counts on
with what it does itself.  Several threads count, so a lock guards the sums.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from mailsvc.errors import SpoolFull
from mailsvc.spool.view import SpoolLimits


class Usage:
    """The octets in use, against :class:`~mailsvc.spool.view.SpoolLimits`.

    :ivar limits: may be replaced at any time.
    """

    def __init__(self, limits: SpoolLimits) -> None:
        self._limits = limits
        #: Octets that a destination may hold, of those that were asked for under these limits.
        self._shares: dict[str, float] = {}
        self._lock = threading.Lock()
        self._segments = 0
        self._files = 0
        self._database = 0
        self._writing = 0
        self._free = 1 << 62
        self._room = 0
        #: What was put there since; of the reactor's thread alone, so that no message needs a lock.
        self._stored = 0
        self._held: dict[str, int] = {}

    @property
    def limits(self) -> SpoolLimits:
        """Return the limits."""
        return self._limits

    @limits.setter
    def limits(self, limits: SpoolLimits) -> None:
        self._limits = limits
        self._shares.clear()

    @property
    def octets(self) -> int:
        """What the spool takes of the disk: segments, files, database."""
        return self._segments + self._files + self._database + self._writing

    def refresh(
        self,
        *,
        segments: int,
        files: int,
        database: int,
        free: int,
        room: int,
        held: Mapping[str, int],
    ) -> None:
        """Take over what the database and the disk say.

        :param free: octets that the disk has left.
        :param room: octets of this process's segments that can be written without a new one.
        :param held: octets by destination.
        """
        with self._lock:
            self._segments = segments
            self._files = files
            self._database = database
            self._free = free
            self._room = room
            self._stored = 0
            self._held = dict(held)

    def hold(self, destination: str, octets: int) -> None:
        """Count octets that a destination holds more, or, negative, less."""
        self._held[destination] = self._held.get(destination, 0) + octets

    def add_segment(self, size: int) -> None:
        """Count a segment that comes or, negative, goes."""
        with self._lock:
            self._segments += size
            self._free -= size
            self._room += size

    def stored(self, octets: int) -> None:
        """Count octets that went into a segment."""
        self._stored += octets

    def writing(self, octets: int) -> None:
        """Count octets of a file that is being written.

        :raises SpoolFull: there is no room for them; they are not counted.
        """
        self.require(octets)
        with self._lock:
            self._writing += octets
            self._free -= octets

    def written(self, octets: int, *, kept: bool) -> None:
        """Count a file that was being written as one of a message, or as gone."""
        with self._lock:
            self._writing -= octets
            if kept:
                self._files += octets
            else:
                self._free += octets

    def require(self, octets: int) -> None:
        """Check that there is room for ``octets`` more on the disk.

        :raises SpoolFull: there is not.
        """
        if self.octets + octets > self.limits.octets:
            raise SpoolFull(f"the spool holds {self.octets} of {self.limits.octets} octets")
        if self._free - octets < self.limits.low_water:
            raise SpoolFull(
                f"the disk has {self._free} octets left, of which {self.limits.low_water} are kept"
            )

    def check(self, destinations: Iterable[str], octets: int = 0, *, placed: bool = False) -> None:
        """Check that a message of at least ``octets`` can be taken for ``destinations``.

        :param placed: its content is on the disk already.
        :raises SpoolFull: the spool, the disk or a destination's share is full.
        """
        if not placed:
            if self._room - self._stored <= octets:
                self.require(octets)
            elif self._free < self.limits.low_water:
                self.require(0)
        for name in destinations:
            share = self._shares.get(name)
            if share is None:
                share = self._shares[name] = self._share(name)
            if self._held.get(name, 0) + octets > share:
                raise SpoolFull(
                    f"destination {name} holds {self._held.get(name, 0)} octets,"
                    f" its share is {int(share)}"
                )

    def _share(self, name: str) -> float:
        limits = self._limits
        return limits.share.get(name, limits.default_share) * limits.octets
