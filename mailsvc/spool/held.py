"""What the spool needs to know of a delivery that this process holds: compiled, unlike records."""

from __future__ import annotations


class Held:
    """A delivery that this process holds: what ``record`` and ``release`` need to know of it.

    :ivar octets: of its message, as stored.
    """

    __slots__ = ("destination", "key", "octets", "token")

    def __init__(self, key: int, token: int, destination: str, octets: int) -> None:
        self.key = key
        self.token = token
        self.destination = destination
        self.octets = octets
