"""Avatars: who is speaking, and what they may do."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Interface
from zope.interface.verify import verifyObject

from mailsvc.authentication import Login
from mailsvc.interfaces import ISender
from mailsvc.message import Address
from mailsvc.realm import Realm, Sender


class SenderTests(SynchronousTestCase):
    def test_anybody_by_default(self) -> None:
        for sender in (Sender(None), Sender("tim"), Sender(None, own=True)):
            verifyObject(ISender, sender)
            self.assertTrue(sender.may_send_as(Address("ann", "example.com")))
            self.assertTrue(sender.may_send_as(None))

    def test_own_addresses(self) -> None:
        sender = Sender("Tim@example.com", own=True)
        self.assertTrue(sender.may_send_as(Address("tim", "EXAMPLE.com")))
        self.assertTrue(sender.may_send_as(None))
        self.assertFalse(sender.may_send_as(Address("ann", "example.com")))
        self.assertFalse(sender.may_send_as(Address("tim", "example.org")))
        self.assertTrue(Sender("tim", own=True).may_send_as(Address("Tim", "example.org")))
        self.assertFalse(Sender("tim", own=True).may_send_as(Address("tim2", "example.org")))


class RealmTests(SynchronousTestCase):
    def test_avatars(self) -> None:
        realm = Realm(own=True)
        interface, avatar, logout = realm.requestAvatar("ti\u00f1o".encode(), None, ISender)
        self.assertIs(interface, ISender)
        self.assertEqual(ISender(avatar).identity, "ti\u00f1o")
        self.assertFalse(ISender(avatar).may_send_as(Address("ann", "example.com")))
        other = realm.requestAvatar((), None, ISender)
        self.assertIsNone(ISender(other[1]).identity)
        self.assertEqual(realm.present, {"ti\u00f1o": 1, None: 1})
        realm.requestAvatar("ti\u00f1o".encode(), None, ISender)[2]()
        self.assertEqual(realm.present, {"ti\u00f1o": 1, None: 1})
        logout()
        self.assertEqual(realm.present, {None: 1})

    def test_no_other_avatars(self) -> None:
        self.assertRaises(NotImplementedError, Realm().requestAvatar, b"tim", None, Interface)

    def test_logout_once(self) -> None:
        calls: list[str] = []
        login = Login(Sender(None), lambda: calls.append("out"))
        login.logout()
        login.logout()
        self.assertEqual(calls, ["out"])
