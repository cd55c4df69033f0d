"""The avatars of ``twisted.cred``: who is speaking, and what they may do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

from twisted.cred.portal import IRealm
from zope.interface import Interface, implementer

from mailsvc.interfaces import ISender
from mailsvc.message import Address


@implementer(ISender)
class Sender:
    """The avatar of a connection.

    :param identity: the user's name; None for an anonymous sender.
    :param own: whether the user may use only an own address: the name itself or, if the name has no
        ``@``, that local part at any domain.
    """

    __slots__ = ("_own", "identity")

    def __init__(self, identity: str | None, *, own: bool = False) -> None:
        self.identity = identity
        self._own = own

    def may_send_as(self, address: Address | None) -> bool:
        """Say whether this sender may use ``address`` as reverse-path; all may use the null one."""
        if not self._own or self.identity is None or address is None:
            return True
        mine = self.identity if "@" in self.identity else f"{self.identity}@{address.domain}"
        return f"{address.local}@{address.domain}".casefold() == mine.casefold()


@implementer(IRealm)
class Realm:
    """Makes the avatars: :class:`Sender` for :class:`~mailsvc.interfaces.ISender`.

    :ivar present: how many connections each identity has now (None: the anonymous one).
    """

    def __init__(self, *, own: bool = False) -> None:
        self._own = own
        self.present: Counter[str | None] = Counter()
        #: Of those who are present: one for all connections of an identity.
        self._avatars: dict[str | None, tuple[Sender, Callable[[], None]]] = {}

    def requestAvatar(
        self,
        avatarId: bytes | tuple[()],
        mind: object,
        *interfaces: type[Interface],
    ) -> tuple[type[Interface], object, Callable[[], None]]:
        """Return an avatar and its logout."""
        if ISender not in interfaces:
            raise NotImplementedError("this realm has avatars for ISender only")
        identity = avatarId.decode("utf-8") if isinstance(avatarId, bytes) else None
        return ISender, *self.admit(identity)

    def admit(self, identity: str | None) -> tuple[Sender, Callable[[], None]]:
        """Return the avatar of an identity (None: anonymous) and its logout."""
        self.present[identity] += 1
        avatar = self._avatars.get(identity)
        if avatar is None:
            avatar = Sender(identity, own=self._own), partial(self._logout, identity)
            self._avatars[identity] = avatar
        return avatar

    def _logout(self, identity: str | None) -> None:
        self.present[identity] -= 1
        if not self.present[identity]:
            del self.present[identity]
            del self._avatars[identity]
