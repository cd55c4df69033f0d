"""What failed logins cost: growing delays, per connection, per address and per user.

Counters are bounded in number and drain with time, so nothing is remembered for ever and nobody is
locked out: an attempt waits, and nobody else waits with it.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Penalty:
    """The rules; all times in seconds.

    :ivar first: delay of a connection's first failure; each further one doubles it.  It counts from
        the moment at which the attempt began, so it also hides how long a check took.
    :ivar most: the longest delay.
    :ivar connection: failures on one connection; the last of them is answered 421.
    :ivar address_free: failures from an address that cost its further attempts nothing.
    :ivar address_most: failures from an address at which it is turned away without a check.
    :ivar user_free: failures of a user that cost further attempts nothing.
    :ivar user_most: the longest wait that the failures of a user cause.
    :ivar drain: how long it takes a counter to forget one failure.
    """

    first: float = 1.0
    most: float = 16.0
    connection: int = 5
    address_free: int = 5
    address_most: int = 50
    user_free: int = 10
    user_most: float = 4.0
    drain: float = 60.0


def delay(failures: int, first: float, most: float) -> float:
    """Return the delay after ``failures``: ``first``, doubled by each, ``most`` at the most."""
    if failures <= 0:
        return 0.0
    return min(math.ldexp(first, min(failures - 1, 32)), most)


@lru_cache(maxsize=1024)
def network(host: str) -> str:
    """Return the key of an address: IPv4 as it is, IPv6 by its /64: one host has them all."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


class Counters:
    """Counters that drain, at most ``capacity`` of them: the one touched longest ago goes first.

    :ivar drain: seconds in which a counter forgets one.
    """

    def __init__(self, seconds: Callable[[], float], drain: float, capacity: int) -> None:
        self._seconds = seconds
        self.drain = drain
        self._capacity = capacity
        self._counts: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def count(self, key: Hashable) -> int:
        """Return what is left of a counter; a failure counts until it is drained in full."""
        return math.ceil(self._left(key))

    def add(self, key: Hashable, amount: int = 1) -> None:
        """Add to a counter, or take from it."""
        value = max(0.0, self._left(key) + amount)
        self._counts.pop(key, None)
        if value:
            self._counts[key] = (value, self._seconds())
            while len(self._counts) > self._capacity:
                self._counts.popitem(last=False)

    def _left(self, key: Hashable) -> float:
        value, since = self._counts.get(key, (0.0, 0.0))
        return max(0.0, value - (self._seconds() - since) / self.drain)


class Penalties:
    """The counters of one service; kept across reloads.

    An attempt counts as a failure from its start until it succeeds, so attempts side by side wait
    like attempts one after the other.

    :param seconds: a monotonic clock.
    :param exempt: says of an address that it has no penalties across connections.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        exempt: Callable[[str], bool] = lambda host: False,
        rules: Penalty | None = None,
        capacity: int = 10_000,
    ) -> None:
        rules = rules or Penalty()
        self._addresses = Counters(seconds, rules.drain, capacity)
        self._users = Counters(seconds, rules.drain, capacity)
        #: When a user last logged in from a network: such an attempt does not wait for the user's.
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._capacity = capacity
        self.change(rules, exempt)

    def change(self, rules: Penalty, exempt: Callable[[str], bool]) -> None:
        """Go by other rules; what was counted stays counted."""
        self.rules = rules
        self.exempt = exempt
        self._addresses.drain = self._users.drain = rules.drain

    def begin(self, host: str, user: str) -> float | None:
        """Count an attempt; return the seconds to wait before its check, None: turn it away."""
        if self._spares(host):
            return 0.0
        rules, where = self.rules, network(host)
        before = self._addresses.count(where)
        if before >= rules.address_most:
            return None
        self._addresses.add(where)
        wait = delay(before - rules.address_free, rules.first, rules.most)
        if not user:
            return wait
        tries = self._users.count(user)
        self._users.add(user)
        if (user, where) in self._known:
            return wait
        return max(wait, delay(tries - rules.user_free, rules.first, rules.user_most))

    def lines(self, host: str, user: str) -> tuple[str, str]:
        """Return the lines that an attempt waits in: its address's and its user's; empty: none.

        Whoever tries a user's password from elsewhere does not stand before the user, where that
        user has logged in from before.
        """
        if self._spares(host):
            return "", ""
        where = network(host)
        return where, "" if (user, where) in self._known else user

    def forgive(self, host: str, user: str) -> None:
        """Take an attempt back that says nothing about the client: the check itself failed."""
        if not self._spares(host):
            self._addresses.add(network(host), -1)
            if user:
                self._users.add(user, -1)

    def succeeded(self, host: str, user: str) -> None:
        """Take the attempt back and remember whence the user comes."""
        self.forgive(host, user)
        if not self._spares(host):
            known = (user, network(host))
            self._known.pop(known, None)
            self._known[known] = None
            while len(self._known) > self._capacity:
                self._known.popitem(last=False)

    def _spares(self, host: str) -> bool:
        """Say whether an address has no penalties; a peer on a Unix socket has no address."""
        return not host or self.exempt(host)
